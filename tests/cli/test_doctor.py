"""`doctor`: every finding with its remedy, and exit code 3 when something needed is missing."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_cli.cli import app, doctor
from echo_cli.cli.doctor import Finding
from echo_cli.errors import MissingError
from echo_cli.models.files.eight_bits import FILE, EightBits, keep
from echo_cli.models.tiny import parts
from echo_cli.video import ffmpeg


def single(findings: Iterator[Finding]) -> Finding:
    (only,) = findings
    return only


def test_every_check_speaks_and_every_lack_has_a_remedy(capfd: pytest.CaptureFixture[str]) -> None:
    code = app.run(["doctor", "--json"])
    report = json.loads(capfd.readouterr().out)
    names = [finding["name"] for finding in report["findings"]]
    assert names[:3] == ["echo-cli", "cores", "torch"]
    assert {"device", "ffmpeg", "weights", "disk", "wan", "farm", "models"} <= set(names)
    assert all(finding["remedy"] for finding in report["findings"] if not finding["found"])
    assert report["ready"] == all(finding["found"] for finding in report["findings"] if finding["needed"])
    assert code == (0 if report["ready"] else 3)


@pytest.mark.parametrize(("needed", "code", "mark", "verdict"), [
    (True, 3, "missing", "not ready: see what is missing above"), (False, 0, "no", "ready to render films"),
])
def test_only_what_is_needed_makes_a_machine_unready(needed: bool, code: int, mark: str, verdict: str,
                                                     capfd: pytest.CaptureFixture[str],
                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    lack = Finding("thing", False, "is not here [at all]", "fetch it", needed)
    monkeypatch.setattr(doctor, "CHECKS", (lambda: iter([lack]),))
    assert app.run(["doctor"]) == code
    first, second, last = capfd.readouterr().out.splitlines()
    assert first.split() == [mark, "thing", "is", "not", "here", "[at", "all]"]
    assert second.strip() == "→ fetch it"
    assert last == verdict


def test_a_machine_without_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise MissingError("there is no ffmpeg on this machine", "install it")

    monkeypatch.setattr(ffmpeg, "executable", none)
    assert single(doctor._ffmpeg()) == Finding("ffmpeg", False, "there is no ffmpeg on this machine", "install it")
    monkeypatch.setattr(ffmpeg, "executable", lambda: "/bin/true")
    assert single(doctor._ffmpeg()).text == "/bin/true has no libx264, which writes H.264"
    monkeypatch.setattr(ffmpeg, "executable", lambda: "/nowhere/ffmpeg")
    assert "cannot be run" in single(doctor._ffmpeg()).text


def test_weights_are_looked_at_not_only_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> str:
        raise MissingError("codec.safetensors: damaged", "install again")

    monkeypatch.setattr(parts, "check", damaged)
    assert single(doctor._weights()) == Finding("weights", False, "codec.safetensors: damaged", "install again")
    monkeypatch.setattr(parts, "check", lambda: "0123456789abcdef")
    assert single(doctor._weights()).text == "tiny, complete (sha256 0123456789ab…)"


def test_an_extra_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"here": ("json",), "away": ("json", "no_such_module")})
    here, away = doctor._extras()
    assert (here.found, here.text) == (True, "installed")
    assert (away.found, away.text, away.remedy) == (
        False,
        "not installed: no_such_module",
        "Run `pip install 'echo-cli[away]'`.",
    )


def test_a_card_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "version").write_text("driver")
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "version")
    _, device = doctor._torch()
    assert (
        not device.found
        and not device.needed
        and "a CUDA driver is here" in device.text
        and "pytorch.org" in device.remedy
    )
    monkeypatch.setattr(doctor, "DRIVER", tmp_path / "nothing")
    _, device = doctor._torch()
    assert device.found and device.text.startswith("cpu; ")


def test_what_compiling_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    lack = doctor._compiler()
    assert (lack.found, lack.needed, lack.text) == (False, False, "Triton and a C compiler not found")
    assert "--no-compile" in lack.remedy
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/cc")
    assert doctor._compiler().text == "Triton not found"


def test_what_fast_computes_in_eight_bits_and_why_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = tmp_path / "wan2.1-t2v-1.3b"
    model.mkdir()
    (model / "Wan2.1_VAE.pth").write_bytes(b"half")
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr("echo_cli.models.tuning.eight_bit_attention", lambda *_: (print, "a stand-in"))
    exact = single(doctor._fast())
    assert not exact.found and not exact.needed and "has not been measured" in exact.text
    assert exact.remedy == "Run `echo-cli bench fast --model wan2.1-t2v-1.3b --keep` on this card."
    keep(model, EightBits("abc", (0.01,) + 29 * (0.3,), "NVIDIA H200"))
    near = single(doctor._fast())
    assert near.found and near.text == ("wan2.1-t2v-1.3b: with --fast, attention is in eight bits in 1 of 30 layers, "
                                        "those within 5%, measured on NVIDIA H200")
    keep(model, EightBits("abc", 30 * (0.3,), "NVIDIA H200"))
    assert single(doctor._fast()).remedy == "Nothing to do: with these weights, attention stays in bfloat16."
    monkeypatch.setattr("echo_cli.models.tuning.eight_bit_attention", lambda *_: (None, "FlashAttention 3 is missing"))
    assert "echo-cli[hopper]" in single(doctor._fast()).remedy, "measuring would not help"
    (model / FILE).write_text("[]")
    assert "not what `bench fast --keep` writes" in single(doctor._fast()).text


def test_large_models_are_told_with_the_command_that_fetches_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path))
    lack = single(doctor._models())
    assert (lack.found, lack.needed, lack.text) == (False, False, "wan2.1-t2v-1.3b: not here")
    assert lack.remedy == "Download it with `echo-cli models get wan2.1-t2v-1.3b`."
    (tmp_path / "wan2.1-t2v-1.3b-longlive").mkdir()
    (tmp_path / "wan2.1-t2v-1.3b-longlive" / "Wan2.1_VAE.pth").write_bytes(b"half")
    texts = [finding.text for finding in doctor._models()]
    assert len(texts) == 2 and texts[1].startswith("wan2.1-t2v-1.3b-longlive: ")


def test_defaults_and_their_order_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ECHO_DEVICE", "cpu")
    monkeypatch.setenv("ECHO_DEVIC", "cpu")
    said, unknown = doctor._defaults()
    assert said.found and said.text == (
        "device (ECHO_DEVICE); who decides, in order: command line, storyboard, environment, project's echo.toml, "
        "user's echo.toml, built-in default")
    assert unknown.text == "no option has the variable ECHO_DEVIC (did you mean 'ECHO_DEVICE'?)" and not unknown.needed
    Path("echo.toml").write_text("sede = 1\n")
    (wrong,) = doctor._defaults()
    assert (wrong.found, wrong.text) == (False, "echo.toml:1:1: there is no option 'sede' (did you mean 'seed'?)")
