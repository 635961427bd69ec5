"""`doctor`: every finding with its remedy, and exit code 3 when something needed is missing."""

import json
from collections.abc import Iterator

import pytest

from echo_cli.cli import app, doctor
from echo_cli.cli.doctor import Finding
from echo_cli.errors import MissingError
from echo_cli.models import tiny
from echo_cli.video import ffmpeg


def found(findings: Iterator[Finding]) -> Finding:
    (only,) = findings
    return only


def test_every_check_speaks_and_every_lack_has_a_remedy(capfd: pytest.CaptureFixture[str]) -> None:
    code = app.run(["doctor", "--json"])
    report = json.loads(capfd.readouterr().out)
    names = [finding["name"] for finding in report["findings"]]
    assert names[:3] == ["echo-cli", "cores", "torch"]
    assert {"device", "ffmpeg", "weights", "disk", "wan", "farm"} <= set(names)
    assert all(finding["remedy"] for finding in report["findings"] if not finding["found"])
    assert report["ready"] == all(finding["found"] for finding in report["findings"] if finding["needed"])
    assert code == (0 if report["ready"] else 3)


@pytest.mark.parametrize(("needed", "code", "mark", "verdict"), [
    (True, 3, "missing", "not ready: see what is missing above"), (False, 0, "no", "ready to make films"),
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
    assert found(doctor._ffmpeg()) == Finding("ffmpeg", False, "there is no ffmpeg on this machine", "install it")
    monkeypatch.setattr(ffmpeg, "executable", lambda: "/bin/true")
    assert found(doctor._ffmpeg()).text == "/bin/true has no libx264 to write H.264 with"
    monkeypatch.setattr(ffmpeg, "executable", lambda: "/nowhere/ffmpeg")
    assert "cannot be run" in found(doctor._ffmpeg()).text


def test_weights_are_looked_at_not_only_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> str:
        raise MissingError("codec.safetensors: damaged", "install again")

    monkeypatch.setattr(tiny, "check", damaged)
    assert found(doctor._weights()) == Finding("weights", False, "codec.safetensors: damaged", "install again")
    monkeypatch.setattr(tiny, "check", lambda: "0123456789abcdef")
    assert found(doctor._weights()).text == "tiny, whole (sha256 0123456789ab…)"


def test_an_extra_names_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"here": ("json",), "away": ("json", "no_such_module")})
    here, away = doctor._extras()
    assert (here.found, here.text) == (True, "installed")
    assert (away.found, away.text, away.remedy) == (False, "not installed: no_such_module", "pip install 'echo-cli[away]'")
