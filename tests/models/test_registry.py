"""Models by name and by folder, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from echo_cli.errors import MissingError, UsageError
from echo_cli.models.files.folders import Layout, part_bytes
from echo_cli.models.registry import cache_folder, find, models_folder, names
from echo_cli.models.tiny.parts import WEIGHTS
from echo_cli.spec import TINY, WAN_1_3B

KNOWN = ("tiny", *(f"wan2.1-t2v-1.3b{which}" for which in (
    "", "-longlive", "-causal-forcing", "-causal-forcing-framewise")))


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def ours(folder: Path, **sizes: object) -> Path:
    folder.mkdir(parents=True)
    config = {"depth": 30, "width": 1536, "heads": 12, "ffn": 8960, **sizes}
    (folder / "model.json").write_text(
        json.dumps({"format": "echo-model", "version": 1, "parts": {"transformer": {"config": config}}})
    )
    (folder / "codec.safetensors").write_bytes(b"12345")
    return folder


def test_where_models_and_caches_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert models_folder(Path("here")) == Path("here") and models_folder() == tmp_path / "models"
    monkeypatch.delenv("ECHO_MODELS")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ECHO_CACHE", raising=False)
    for platform, variables, data, cache in (
        ("linux", {"XDG_DATA_HOME": "", "XDG_CACHE_HOME": ""}, ".local/share/echo-cli/models", ".cache/echo-cli"),
        (
            "linux",
            {"XDG_DATA_HOME": str(tmp_path / "d"), "XDG_CACHE_HOME": str(tmp_path / "c")},
            "d/echo-cli/models",
            "c/echo-cli",
        ),
        ("darwin", {}, "Library/Application Support/echo-cli/models", "Library/Caches/echo-cli"),
        ("win32", {"LOCALAPPDATA": str(tmp_path / "local")}, "local/echo-cli/models", "local/echo-cli"),
    ):
        monkeypatch.setattr(sys, "platform", platform)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert models_folder() == tmp_path / data and cache_folder() == tmp_path / cache


def test_a_name_is_a_folder_of_the_models_folder(models: Path) -> None:
    assert names() == KNOWN
    assert find("wan2.1-t2v-1.3b").folder is None and find("wan-1.3b").spec is WAN_1_3B
    ours(models / "mine", width=24, heads=2)
    ours(models / WAN_1_3B.name)
    for name, config in (("empty", None), ("other", '{"_class_name": "Other"}'), ("broken", "{")):
        (models / name).mkdir()
        if config:
            (models / name / "config.json").write_text(config)
    assert names() == (*KNOWN, "mine")
    assert find("wan-1.3b").folder == models / WAN_1_3B.name and find(WAN_1_3B.name).spec == WAN_1_3B
    result = find("mine")
    assert (result.folder, result.layout, result.family) == (models / "mine", Layout.OURS, "wan")
    assert result.spec.width == 24 and result.spec.name == "wan2.1-t2v-24x30" and result.spec.window == WAN_1_3B.window
    assert find(f"{models}/mine").spec == result.spec
    with pytest.raises(UsageError, match=r"no model is called 'mini' \(did you mean 'mine'\?\)") as caught:
        find("mini")
    assert caught.value.hint == f"The models are: {', '.join(KNOWN)}, mine."


def test_tiny_is_the_one_in_the_package_or_in_its_own_folder(models: Path, tmp_path: Path) -> None:
    ours(models / "tiny")  # a name that is taken
    assert (find("tiny").spec, find("tiny").folder) == (TINY, WEIGHTS) and names() == KNOWN
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "index.json").write_text('{"model": "tiny"}')
    result = find(f"{tmp_path}/trained")
    assert (result.spec, result.layout, result.family) == (TINY, Layout.TRAINED, "tiny")
    (tmp_path / "trained" / "index.json").write_text('{"model": "huge"}')
    with pytest.raises(MissingError, match="does not know: 'huge'"):
        find(f"{tmp_path}/trained")
    (tmp_path / "trained" / "index.json").write_text("[]")
    with pytest.raises(MissingError, match="index.json: damaged"):
        find(f"{tmp_path}/trained")


def test_a_folder_without_a_model_says_so(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no model is in this folder$"):
        find(f"{tmp_path}/")
    with pytest.raises(MissingError, match="there is no such folder"):
        find(f"{tmp_path}/nowhere")


def test_how_large_parts_are(models: Path) -> None:
    assert part_bytes(ours(models / "mine")) == {"transformer": 0, "codec": 5, "text": 0}


def test_asking_needs_no_torch(models: Path) -> None:
    ours(models / "mine")
    code = (
        "import sys; from echo_cli.models.registry import find, names; "
        "find('mine'); names(); assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(("model", "said", "hint"), [
    ("gen.pt", "gen.pt: this is one file of weights", "--model wan2.1-t2v-1.3b --generator FILE"),
    ("./elsewhere/gen.safetensors", "this is one file of weights", "--generator FILE"),
    ("gdhe17/Self-Forcing", "is a repository; its weights are those of the model wan2.1-t2v-1.3b", "models get wan"),
    ("zhuhz22/Causal-Forcing", "those of the model wan2.1-t2v-1.3b-causal-forcing", "--model wan2.1-t2v-1.3b-c"),
    ("Efficient-Large-Model/LongLive-1.3B", "those of the model wan2.1-t2v-1.3b-longlive", "--model wan2.1-t2v-1.3b-l"),
    ("Someone/Wan2.1-Tuned", "repositories are not read by their ids", "download it into a folder"),
    ("no/where", "there is no such folder", "models list"),
])
def test_a_file_or_a_repository_as_a_model_gets_an_answer_about_that(model: str, said: str, hint: str) -> None:
    with pytest.raises((UsageError, MissingError)) as caught:
        find(model)
    assert said in caught.value.message and hint in caught.value.hint
