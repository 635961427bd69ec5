"""`open` and `generate --open`: a film and its report, shown where there is a desktop, named where there is none."""

import json
import os
import time
from pathlib import Path

import pytest

from echo_cli.cli.app import run
from echo_cli.cli.guard import is_ours
from echo_cli.models.registry import MODELS
from tests.render import stage

QUICK = ("--scale", "1", "--preset", "ultrafast", "--quiet")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a storyboard in it, no desktop, and the small model under the name `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    for variable in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("story.yaml").write_text("scenes: [{id: a, prompt: a red ball, duration: 0.5s}]\n")
    return folder


@pytest.fixture
def desktop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desktop whose opener writes down what it was given."""
    opener = tmp_path / "bin" / "xdg-open"
    opener.parent.mkdir()
    opener.write_text(f'#!/bin/sh\nprintf %s "$1" > {tmp_path}/opening && mv {tmp_path}/opening {tmp_path}/opened\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{opener.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    return tmp_path / "opened"


def wait_for(path: Path) -> str:
    until = time.monotonic() + 20
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    return path.read_text()


def test_without_a_desktop_the_paths_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "story.yaml", *QUICK]) == 0
    assert run(["open", "story.mp4"]) == 0
    out, err = capsys.readouterr()
    assert out == "story.mp4\nstory.html\n" and "no desktop" in err
    assert "<video controls" in Path("story.html").read_text("utf-8")
    assert run(["open", "story.mp4", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["story.mp4", "story.trace.json", "story.manifest.json", "story.yaml", "story"])
def test_a_film_is_opened_by_any_of_its_names(name: str, desktop: Path, place: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "story.yaml", *QUICK]) == 0
    assert run(["open", name]) == 0
    assert wait_for(desktop) == str(place / "story.html")
    assert capsys.readouterr() == ("story.mp4\nstory.html\n", "")


def test_generate_opens_what_it_made_and_what_was_there(desktop: Path, place: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert run(["generate", "story.yaml", "-o", "frames/%04d.png", "--open", *QUICK[:-1]]) == 0
        assert capsys.readouterr().out == "frames/%04d.png\nframes/frames.html\n"
        assert wait_for(desktop) == str(place / "frames" / "frames.html")
        desktop.unlink()
    assert run(["generate", "story.yaml", "--open", "--json", *QUICK]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["report"], result["opened"]) == ("story.html", True)


def test_nothing_is_opened_that_is_no_film_and_nothing_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["open", "story.mp4"]) == 2
    assert "story.trace.json does not exist" in capsys.readouterr().err
    assert run(["open", "."]) == 2
    assert run(["open", "story.mxf"]) == 2
    assert "story.mxf is not a film" in capsys.readouterr().err
    assert run(["generate", "story.yaml", "-o", "-", "--open", *QUICK]) == 2
    assert "cannot be opened" in capsys.readouterr().err
    assert run(["generate", "story.yaml", *QUICK]) == 0
    Path("story.html").write_text("mine")
    assert run(["open", "story.mp4"]) == 5
    assert Path("story.html").read_text() == "mine"


def test_the_echo_script_opens_films_and_echoes_the_rest(place: Path) -> None:
    (place / "story.mp4").touch()
    (place / "issues").mkdir()
    assert is_ours(["open", "story.mp4"])
    for words in (["open"], ["open", "issues"], ["open", "source"], ["open", "missing.mp4"]):
        assert not is_ours(words)
