"""`models` as it is typed: what is here, whether it is whole, converting it, and fetching it from a publisher on
loopback."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from echo_cli.cli.app import run
from echo_cli.files import sha256
from echo_cli.models.files import download
from echo_cli.models.files.convert import convert
from echo_cli.models.files.hashes import forget
from echo_cli.models.files.releases import RELEASES
from echo_cli.models.tiny.words import TABLES
from echo_cli.models.wan.weights import open_weights
from tests.models import hub
from tests.models.hub import Hub
from tests.models.wan import wan_folders

EXTRA = "needs the extra: pip install 'echo-cli[wan]'"
pytest.importorskip("diffusers", reason=EXTRA)
constants = pytest.importorskip("huggingface_hub.constants", reason=EXTRA)

WAN = "wan2.1-t2v-1.3b"


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("ECHO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "models"


def reply(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    assert run(["models", *arguments]) == code
    out, err = capfd.readouterr()
    assert "Traceback" not in err
    return out, err


def flip(path: Path) -> None:
    """Another last bit, and the time of the file as it was."""
    before = path.stat()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_list_tells_what_is_here_and_what_it_lacks(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out, err = reply(capfd, "list")
    assert [line.split()[:2] for line in out.splitlines()] == [
        ["model", "is"], ["tiny", "complete"], *([name, "not"] for name in RELEASES)]
    assert err == "".join(f"{name}: Download it with `echo-cli models get {name}`.\n" for name in RELEASES)

    wan_folders.released(models / WAN)
    wan_folders.released(models / "lacking")
    (models / "lacking" / "Wan2.1_VAE.pth").unlink()
    wan_folders.released(models / "cut")
    path = models / "cut" / "models_t5_umt5-xxl-enc-bf16.pth"
    path.write_bytes(path.read_bytes()[:-100])
    wan_folders.released(models / "half")
    (models / "half" / "Wan2.1_VAE.pth.12345678.partial").touch()
    wan_folders.diffusers(models / "shards")
    shard = next((models / "shards" / "text_encoder").glob("*2.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    (models / "odd").mkdir()
    (models / "odd" / "model.json").write_text("{}")
    (models / "nothing").mkdir()
    listed = json.loads(reply(capfd, "list", "--json")[0])
    states = {entry["name"]: entry for entry in listed["models"]}
    assert listed["folder"] == str(models)
    assert {name: entry["state"] for name, entry in states.items()} == {
        "tiny": "complete", **dict.fromkeys(RELEASES, "not here"), WAN: "complete",
        **dict.fromkeys(("lacking", "cut", "half", "shards", "odd"), "incomplete")}
    assert (states[WAN]["layout"], states[WAN]["where"]) == ("original", str(models / WAN))
    assert states[WAN]["bytes"] > 1e6
    for name, why in (("lacking", "lacks codec (no weights)"), ("cut", "damaged (cut short)"),
                      ("half", "half a file: Wan2.1_VAE.pth.1"),
                      ("shards", "damaged (cut short)"), ("odd", "its format is None")):
        assert why in states[name]["why"]
    out, err = reply(capfd, "list", "--models-dir", str(models / "nothing"))
    assert len(out.splitlines()) == 2 + len(RELEASES) and "not here" in out


def test_what_can_be_fetched_is_listed_and_described_before_it_is_here(capfd: pytest.CaptureFixture[str]) -> None:
    listed = {entry["name"]: entry for entry in json.loads(reply(capfd, "list", "--json")[0])["models"]}
    for name in RELEASES:
        about = json.loads(reply(capfd, "info", name, "--json")[0])
        assert about["state"] == listed[name]["state"] == "not here" and about["sizes"]["width"] == 1536
        assert listed[name]["hint"] == f"Download it with `echo-cli models get {name}`."
        assert about["hint"].startswith(f"echo-cli models get {name} downloads them; with --manifest ")
    assert json.loads(reply(capfd, "info", "wan-1.3b-longlive", "--json")[0])["model"] == f"{WAN}-longlive"


def test_models_for_tests_are_listed_when_they_are_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    assert "random-small" not in reply(capfd, "list")[0]
    assert "random-small" in (out := reply(capfd, "list", "--all")[0]) and "complete" in out.splitlines()[-1]
    assert json.loads(reply(capfd, "info", "random-small", "--json")[0])["state"] == "complete"
    assert reply(capfd, "check", "random-small")[0].startswith("random-small: complete")


def test_what_can_be_fetched_is_named_where_one_looks(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "get", "--help"]) == 0
    reply = capfd.readouterr().out
    assert len(RELEASES) == 4 and all(name.removeprefix(WAN) in reply for name in RELEASES)


def test_tiny_tells_all_that_it_knows_and_how_it_was_made(capfd: pytest.CaptureFixture[str]) -> None:
    out, _ = reply(capfd, "info", "tiny")
    for table, concepts in TABLES.items():
        assert f"  {table}s:\n" in out
        for name, synonyms in concepts.items():
            assert f"    {name}: {', '.join(synonyms)}\n" in out
    facts = json.loads(reply(capfd, "info", "tiny", "--json")[0])
    assert facts["training"]["preset"] and facts["measured"]["stories"] and facts["bytes"] < 40e6
    assert 0 < facts["memory"]["with memory"] < facts["memory"]["without memory"] and facts["memory"]["steps"]
    assert len(facts["sha256"]) == 64 and facts["files"]["transformer"]["sha256"] and facts["state"] == "complete"
    assert f"sha256: {facts['sha256']}\n" in out


def test_a_model_tells_its_files_and_whence_it_came(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert json.loads(reply(capfd, "info", "wan-1.3b", "--json")[0])["state"] == "not here"
    weights = open_weights(wan_folders.released(models / "from"))
    convert(weights, models / "mine")
    facts = json.loads(reply(capfd, "info", "from", "--json")[0])
    assert facts["layout"] == "original" and len(facts["files"]["self_forcing_dmd.pt"]["sha256"]) == 64
    assert facts["files"]["Wan2.1_VAE.pth"]["sha256"] == weights.hashes["codec"]
    facts = json.loads(reply(capfd, "info", "mine", "--json")[0])
    assert facts["sizes"]["width"] == 24 and facts["files"]["codec"]["from"] == [
        {"file": "Wan2.1_VAE.pth", "sha256": weights.hashes["codec"]}]
    assert "generator_ema" in reply(capfd, "info", "mine")[0]
    assert "did you mean 'mine'" in reply(capfd, "info", "mne", code=2)[1]
    assert "there is no such folder" in reply(capfd, "info", "no/where", code=3)[1]


def test_a_check_reads_files_through(models: Path, capfd: pytest.CaptureFixture[str]) -> None:
    weights = open_weights(wan_folders.released(models / "from"))
    convert(weights, models / "mine")
    out, _ = reply(capfd, "check")
    assert {"tiny: complete", "from: complete", "mine: complete"} <= set(out.splitlines())
    flip(models / "mine" / "text.safetensors")
    assert open_weights(models / "mine").digest  # a file that looks unchanged is not read again to be used
    out, err = reply(capfd, "check", code=3)
    assert "from: complete" in out and "mine: incomplete" in out
    assert "text.safetensors: not the weights that model.json names" in err and "hint:" in err
    path = models / "from" / "self_forcing_dmd.pt"
    torch.save({"generator": {**wan_folders.transformer(), "extra": torch.ones(1)}}, path)
    results = json.loads(reply(capfd, "check", "tiny", "from", "--json", code=3)[0])["models"]
    assert [result["complete"] for result in results] == [True, False] and "unexpected: extra (1,)" in results[1]["why"]
    assert f"is not in {models}" in reply(capfd, "check", WAN, code=3)[1]
    assert "no model is called 'mni'" in reply(capfd, "check", "mni", code=2)[1]


@pytest.mark.parametrize("layout", ["released", "diffusers", "ours"])
def test_a_check_reads_weights_once(layout: str, models: Path, capfd: pytest.CaptureFixture[str],
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    wan_folders.released(models / "released")
    wan_folders.diffusers(models / "diffusers")
    convert(open_weights(models / "released"), models / "ours")
    hashed: list[Path] = []
    monkeypatch.setattr("echo_cli.models.files.hashes.sha256", lambda path: hashed.append(path) or sha256(path))
    checked = json.loads(reply(capfd, "check", layout, "--json")[0])["models"][0]["sha256"]
    assert {path.suffix for path in hashed} <= {".model", ".json"}
    for path in (models / layout).rglob("*"):
        forget(path)
    weights = open_weights(models / layout)
    assert checked == {"all": weights.digest, **weights.hashes}


def test_a_conversion_by_name_and_by_folder(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wan_folders.released(models / "from", {"generator": dict(wan_folders.transformer())}, "mine.pt")
    out, err = reply(capfd, "convert", "from")
    assert out == f"{models}/from-echo\n" and "--model from-echo" in err
    assert "transformer: " in err
    torch.save(wan_folders.adapter(), tmp_path / "lora.pt")
    generator = models / "from" / "mine.pt"
    out, err = reply(
        capfd,
        "convert",
        f"{models}/from",
        "-o",
        "merged",
        "--generator",
        str(generator),
        "--branch",
        "generator",
        "--lora",
        "lora.pt",
        "--lora-scale",
        "0.5",
        "--dtype",
        "bfloat16",
        "--json",
    )
    assert json.loads(out) == {"folder": "merged"}
    merged = open_weights(tmp_path / "merged").transformer
    for name, tensor in wan_folders.merged(0.5).items():
        torch.testing.assert_close(merged.read(name), tensor.bfloat16(), atol=0.01, rtol=0.01)
    wan_folders.diffusers(tmp_path / "pipeline")
    assert "assumed to be a few-step generator's" in reply(capfd, "convert", "pipeline", "-o", "third")[1]

    for arguments, code, said in (
        (("from",), 5, "holds a model already"), (("tiny",), 2, "tiny is already in the layout of this tool"),
        ((WAN,), 2, "its weights are not here"),
        (("from", "--lora", "lora.pt"), 2, "Add --generator FILE."),
        (("from", "--dtype", "float8"), 2, "no dtype is called 'float8'"),
        (("from", "-o", "x", "--generator", "no.pt"), 3, "no.pt: no such weights file"),
        (("from", "-o", "x", "--generator", str(generator), "--branch", "ema"), 3, "no 'ema' is in this checkpoint"),
        (("no/where",), 3, "there is no such folder"), (("from", "-o", "/proc/none"), 5, "cannot write /proc/none"),
    ):
        assert said in reply(capfd, "convert", *arguments, code=code)[1]
    reply(capfd, "convert", "from", "--force")


STORY = """
version: 1
scenes:
  - {id: a, prompt: a red ball, duration: 0.75s}
  - {id: b, transition: hard cut, prompt: a blue box, duration: 0.5s}
"""


def test_every_layout_makes_the_same_film(models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wan_folders.spelling(wan_folders.released(models / "released",
                                              {"generator_ema": wan_folders.wrapped(wan_folders.transformer())}))
    wan_folders.spelling(wan_folders.diffusers(models / "pipeline"))
    reply(capfd, "convert", "released", "-o", str(models / "ours"))
    (tmp_path / "story.yaml").write_text(STORY)
    films = {}
    for model in ("released", "pipeline", "ours", f"{models}/ours/"):
        pictures = tmp_path / f"film{len(films)}"
        assert run(["generate", "story.yaml", "--model", model, "--size", "48x32", "--scale", "1",
                    "-o", f"{pictures}/%03d.png"]) == 0
        films[model] = [path.read_bytes() for path in sorted(pictures.glob("*.png"))]
    assert len(films["ours"]) == 20 and len(set(films["ours"])) == 20
    assert films["ours"] == films["released"] == films["pipeline"] == films[f"{models}/ours/"]

    flip(models / "ours" / "codec.safetensors")
    os.utime(models / "ours" / "codec.safetensors")
    capfd.readouterr()
    assert run(["generate", "story.yaml", "--model", "ours", "--size", "48x32", "-o", "other/%03d.png"]) == 3
    assert "codec.safetensors: not the weights that model.json names" in capfd.readouterr().err
    assert run(["generate", "story.yaml", "--model", WAN, "--size", "48x32"]) == 3
    assert f"echo-cli models get {WAN}" in capfd.readouterr().err


class Evil:
    def __reduce__(self) -> tuple:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("command", [("check", "from"), ("convert", "from"), ("info", "from"), ("list",)])
def test_a_malicious_file_runs_nothing(command: tuple[str, ...], models: Path, tmp_path: Path,
                                       capfd: pytest.CaptureFixture[str]) -> None:
    wan_folders.released(models / "from", {"generator": Evil()})
    reads = command[0] in ("check", "convert")
    err = reply(capfd, *command, code=3 if reads else 0)[1]
    assert not reads or "it wants to call posix.system: refused" in err
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Hub]:
    base = wan_folders.released(tmp_path / "published" / "base")
    forcing, longlive = tmp_path / "published" / "forcing", tmp_path / "published" / "longlive"
    (forcing / "checkpoints").mkdir(parents=True)
    (base / "self_forcing_dmd.pt").rename(forcing / "checkpoints" / "self_forcing_dmd.pt")
    (longlive / "models").mkdir(parents=True)
    torch.save({"generator": dict(wan_folders.transformer())}, longlive / "models" / "longlive_base.pt")
    torch.save({"generator_lora": wan_folders.adapter()}, longlive / "models" / "lora.pt")
    (base / "README.md").write_text("not wanted")
    with hub.serving({"Wan-AI/Wan2.1-T2V-1.3B": base, "gdhe17/Self-Forcing": forcing,
                      "Efficient-Large-Model/LongLive-1.3B": longlive}) as states:
        yield states


@pytest.fixture
def fetch(publisher: Hub, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`models get` with that publisher; what it said."""
    # The environment says it once, when the library is first imported.
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                        constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, publisher.address))
    monkeypatch.setattr(constants, "ENDPOINT", publisher.address)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda seconds: None)

    def fetch(name: str = WAN, code: int = 0) -> str:
        publisher.asked.clear()
        return "".join(reply(capfd, "get", name, code=code))

    return fetch


def fetched(publisher: Hub) -> list[str]:
    return [path.rpartition(f"{hub.COMMIT}/")[2] for path, _ in publisher.asked if "/resolve/" in path]


def test_a_released_model_is_fetched_whole_and_once(models: Path, publisher: Hub, fetch: Callable[..., str],
                                                    capfd: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    said = fetch("wan-1.3b")
    assert "gdhe17/Self-Forcing: licence test-licence" in said
    assert "checkpoints/self_forcing_dmd.pt: 111.0 kB of 111.0 kB, overall 100.0%" in said
    assert sorted(fetched(publisher)) == [
        "Wan2.1_VAE.pth", "checkpoints/self_forcing_dmd.pt", "config.json", "google/umt5-xxl/spiece.model",
        "google/umt5-xxl/tokenizer.json", "models_t5_umt5-xxl-enc-bf16.pth"]
    assert not list(models.rglob("*.partial")) and not list(models.rglob("*.lock"))
    assert "here already" in fetch() and not fetched(publisher)
    with monkeypatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        assert fetch().startswith(str(models / WAN)) and not publisher.asked
    assert f"{WAN}: complete" in reply(capfd, "check", WAN)[0]
    assert "test-licence" in reply(capfd, "info", WAN)[0]

    said = fetch(f"{WAN}-longlive")  # of which most is here
    assert sorted(fetched(publisher)) == ["config.json", "google/umt5-xxl/tokenizer.json", "models/longlive_base.pt",
                                          "models/lora.pt"]
    assert "Wan2.1_VAE.pth: here already, in another model's folder" in said
    assert (models / WAN / "Wan2.1_VAE.pth").samefile(models / f"{WAN}-longlive" / "Wan2.1_VAE.pth")
    assert torch.allclose(open_weights(models / f"{WAN}-longlive").transformer.read("blocks.0.ffn.0.weight"),
                          wan_folders.merged()["blocks.0.ffn.0.weight"], atol=1e-6)

    os.utime(models / WAN / "Wan2.1_VAE.pth")
    assert open_weights(models / WAN).digest
    flip(models / WAN / "google" / "umt5-xxl" / "tokenizer.json")
    with pytest.raises(download.MissingError, match="tokenizer.json: not the file that was downloaded"):
        assert open_weights(models / WAN).digest
    assert "tokenizer.json: not the file that was downloaded" in reply(capfd, "check", WAN, code=3)[1]
    fetch()
    assert fetched(publisher) == ["google/umt5-xxl/tokenizer.json"]


def test_half_a_download_is_no_model_and_is_gone_on_with(models: Path, publisher: Hub, fetch: Callable[..., str],
                                                         capfd: pytest.CaptureFixture[str]) -> None:
    published = (publisher.repositories["Wan-AI/Wan2.1-T2V-1.3B"] / "Wan2.1_VAE.pth").read_bytes()
    publisher.breaks["Wan2.1_VAE.pth"] = 0  # the line breaks, whenever this file is asked for
    said = fetch(code=3)
    assert "it resumes the download" in said
    half, = models.rglob("*.partial")
    half.write_bytes(published[:700_001])
    assert "half a file: Wan2.1_VAE.pth." in reply(capfd, "list")[1]
    assert "half a file, left by an interrupted download" in reply(capfd, "check", WAN, code=3)[1]
    assert "half a file" in reply(capfd, "info", WAN)[0]

    publisher.breaks.clear()
    assert "Wan2.1_VAE.pth: resuming" in fetch()
    assert ("Wan-AI/Wan2.1-T2V-1.3B/resolve/" + hub.COMMIT + "/Wan2.1_VAE.pth", "bytes=700001-") in publisher.asked
    assert (models / WAN / "Wan2.1_VAE.pth").read_bytes() == published and not half.exists()


def test_a_file_of_ones_own_is_not_replaced_by_a_download(models: Path, fetch: Callable[..., str]) -> None:
    mine = models / WAN / "Wan2.1_VAE.pth"
    mine.parent.mkdir(parents=True)
    mine.write_text("my own codec")
    assert "Wan2.1_VAE.pth is not the file that Wan-AI/Wan2.1-T2V-1.3B publishes" in fetch(code=5)
    assert mine.read_text() == "my own codec"
    mine.unlink()
    fetch()


def test_what_arrives_changed_is_thrown_away(models: Path, publisher: Hub, fetch: Callable[..., str]) -> None:
    publisher.changed = {"config.json"}  # a small file, whose hash is git's
    assert "config.json of Wan-AI/Wan2.1-T2V-1.3B: what arrived is not what was published" in fetch(code=3)
    publisher.changed = {"Wan2.1_VAE.pth"}
    assert "Wan2.1_VAE.pth of Wan-AI" in fetch(code=3)
    assert {path.name for path in (models / WAN).iterdir()} == {"config.json"}


def test_a_publisher_that_cannot_be_had_is_exit_3(publisher: Hub, fetch: Callable[..., str],
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    for change, said in (({"refuses": 503}, "503"), ({"refuses": 401}, "Log in"),
                         ({"repositories": {}}, "a repository of 'wan2.1-t2v-1.3b' does not exist")):
        before = {name: getattr(publisher, name) for name in change}
        vars(publisher).update(change)
        assert said in fetch(code=3)
        vars(publisher).update(before)
    (publisher.repositories["gdhe17/Self-Forcing"] / "checkpoints" / "self_forcing_dmd.pt").unlink()
    assert "no longer has checkpoints/self_forcing_dmd.pt" in fetch(code=3)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    said = fetch(code=3)
    assert "the download of 'wan2.1-t2v-1.3b' failed: http://127.0.0.1:9 cannot be reached" in said
    assert "HF_ENDPOINT names another host" in said and "--manifest" in said


@pytest.mark.parametrize("name", [WAN, f"{WAN}-longlive"])
def test_a_machine_without_internet_is_told_what_to_bring(
    models: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The list is whole and of one mind: every name that `get` fetches, its size and hash, and where it goes."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example/")
    out, err = reply(capfd, "get", name, "--manifest")
    rows = [line.split("\t") for line in out.splitlines()]
    for source in RELEASES[name]:
        for file in source.files:
            states = [row for row in rows if row[1] == file or (file.endswith("/") and row[1].startswith(file))]
            assert states and all(f"/{source.repository}/resolve/{source.commit}/{row[1]}" in row[0] for row in states)
    assert all(row[0].startswith("http://mirror.example/") and int(row[2]) > 0 and len(row[3]) == 64 for row in rows)
    assert f"{models / name}/" in err and "licence" in err and f"models check {name}" in err
    listed = json.loads(reply(capfd, "get", name, "--manifest", "--json")[0])
    assert [file["sha256"] for file in listed["files"]] == [row[3] for row in rows] and not models.exists()

    described = json.loads(reply(capfd, "info", name, "--json")[0])
    assert described["state"] == "not here" and described["put them in"] == f"{models / name}/"
    assert {row[1]: (int(row[2]), row[3]) for row in rows} == {
        place: (file["bytes"], file["sha256"]) for place, file in described["files"].items()}
    assert described["licences"] == listed["licences"]
    out = reply(capfd, "info", name)[0]
    assert rows[1][3] in out and f"put them in: {models / name}/" in out


def test_the_environment_names_the_publisher_and_forbids_the_network(models: Path, publisher: Hub) -> None:
    def get(**environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", "from echo_cli.cli.app import main; main()", "models", "get", WAN, "--json"],
            capture_output=True,
            text=True,
            env={**os.environ, "HF_ENDPOINT": publisher.address, **environment},
        )
        return done.returncode, done.stdout or done.stderr

    code, said = get(HF_HUB_OFFLINE="1")
    assert code == 3 and "nothing can be downloaded in offline mode" in said and not publisher.asked
    code, said = get()
    assert code == 0 and json.loads(said)["folder"] == str(models / WAN) and json.loads(said)["bytes"] > 1e6


def test_what_cannot_be_fetched_is_told_at_once(models: Path, capfd: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'tiny' is in the package" in reply(capfd, "get", "tiny", code=2)[1]
    assert f"(did you mean '{WAN}-longlive'?)" in reply(capfd, "get", "wan2.1-t2v-longlive", code=2)[1]
    monkeypatch.setattr(download.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    with pytest.raises(download.OutputError, match="11.5 GB are to be downloaded, but 1.0 GB are free"):
        download._check_room(models, 11_500_000_000)


def test_without_the_extra_its_name_is_told(models: Path, capfd: pytest.CaptureFixture[str],
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    wan_folders.released(models / "from")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'echo-cli[wan]'" in reply(capfd, "get", WAN, code=3)[1]
    monkeypatch.setitem(sys.modules, "diffusers", None)
    assert "pip install 'echo-cli[wan]'" in reply(capfd, "check", "from", code=3)[1]
    reply(capfd, "list")
    reply(capfd, "info", "from")


@pytest.mark.parametrize(
    ("name", "proper"),
    [
        ("google/umt5-xxl/spiece.model", True),
        ("google/umt5-xxl/../../../.bashrc", False),
        ("/etc/passwd", False),
        ("..", False),
    ],
)
def test_a_publisher_cannot_name_files_elsewhere(name: str, proper: bool) -> None:
    assert download._proper(name) is proper


def test_a_fetch_that_is_interrupted_keeps_its_half_and_is_alone(
    models: Path, publisher: Hub, fetch: Callable[..., str]
) -> None:
    class Impatient(download.Silent):
        def progress(self, wanted: download.Wanted, done: int, whole_done: int, whole: int) -> None:
            if done and wanted.name == "Wan2.1_VAE.pth":
                assert "another `echo-cli models get` is running here" in fetch(code=3)
                raise KeyboardInterrupt

    with pytest.raises(download.Interrupted, match="was interrupted") as caught:
        download.get(WAN, reporter=Impatient())
    assert "it resumes the download" in (caught.value.hint or "") and caught.value.exit_code == 75
    half, = models.rglob("*.partial")
    assert half.name.startswith("Wan2.1_VAE.pth.") and half.stat().st_size > 0
    assert "Wan2.1_VAE.pth: resuming" in fetch() and not list(models.rglob("*.partial"))
