"""A first storyboard, by the real command: it validates, it renders, and it overwrites nothing."""

import json
import shlex
from pathlib import Path

import pytest

from echo_cli.cli.app import run
from echo_cli.models.registry import MODELS
from echo_cli.storyboard.parse import load, parse
from tests.render import stage


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("scenes", [1, 3, 12])
def test_it_validates_without_a_warning(scenes: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "first film", "--scenes", str(scenes)]) == 0
    assert capsys.readouterr() == ("first film.yaml\n", "")
    assert run(["validate", "first film.yaml", "--json", "--elsewhere"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (len(printed["scenes"]), printed["model"], printed["warnings"]) == (scenes, "tiny", [])
    assert "# " in Path("first film.yaml").read_text()


def test_it_renders_with_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    assert run(["init"]) == 0
    assert run(["generate", "story.yaml", "--scale", "1", "--preset", "ultrafast", "-q"]) == 0
    assert Path("story.manifest.json").exists()


def test_it_makes_the_folder_and_names_no_option_that_it_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "new/er/story"]) == 0 and load("new/er/story.yaml").scenes
    Path("file").write_text("no folder")
    capsys.readouterr()
    assert run(["init", "file/story"]) == 5
    assert capsys.readouterr().err == (
        "cannot write file/story.yaml: a part of its path is a file, not a folder\nhint: Choose another name.\n")


def test_a_file_that_exists_is_kept_unless_forced(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yml").write_text("precious")
    assert run(["init", "mine.yml"]) == 5
    assert "mine.yml exists" in capsys.readouterr().err and Path("mine.yml").read_text() == "precious"
    assert run(["init", "mine.yml", "--force", "--model", "wan2.1-t2v-1.3b"]) == 0
    assert load("mine.yml").model == "wan2.1-t2v-1.3b"


def test_a_model_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--model", "tinny"]) == 2
    assert "tiny" in capsys.readouterr().err and not Path("story.yaml").exists()


def test_its_commands_can_be_copied_whatever_its_name_is(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ünï code/x y", "-x"):
        assert run(["init", "--", name]) == 0
        command = Path(f"{name}.yaml").read_text().splitlines()[0].removeprefix("# Render it:").split("echo-cli ")[1]
        assert run([*shlex.split(command), "--dry-run"]) == 0, command


def test_a_dash_prints_it_and_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "-"]) == 0
    assert parse(capsys.readouterr().out, "<stdin>").scenes and not list(Path().iterdir())
    assert run(["init", "."]) == 2
    assert capsys.readouterr().err == ".: is a folder\nhint: Name the storyboard in it: story.yaml.\n"
