"""Edited storyboards by the real command: what is reused, what it says, and what a kill in the middle leaves."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

import echo_cli
from echo_cli.cli.app import run
from echo_cli.files import sha256
from tests.cli.test_generate import gone, start
from tests.render import stage

OPTIONS = ("--scale", "1", "--preset", "ultrafast")
EDITED = stage.STORY.replace("at night", "in the rain")
MORE = "  - {id: city, transition: hard cut, prompt: a blue star in the city, duration: %s}\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.settle(tmp_path / "here", monkeypatch)


def generate(*arguments: str) -> int:
    return run(["generate", *OPTIONS, "story.yaml", *arguments])


def film(story: str) -> str:
    """The hash of a storyboard's film, rendered from nothing."""
    Path("whole.yaml").write_text(story)
    assert run(["generate", *OPTIONS, "whole.yaml", "--keep-states", "none", "--force", "--quiet"]) == 0
    assert not Path("whole.states").exists()
    return sha256(Path("whole.mp4"))


def test_the_same_command_renders_an_edit(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == 0
    Path("story.yaml").write_text(EDITED)
    assert generate("--json") == 0
    out, err = capsys.readouterr()
    assert "story.mp4: reusing 4 of 6 blocks" in err and "from the beginning of scene 'again'" in err
    assert json.loads(out.splitlines()[-1])["reused_blocks"] == 4
    assert json.loads(Path("story.manifest.json").read_text())["timings"]["reused_blocks"] == 4
    assert sha256(Path("story.mp4")) == film(EDITED)
    assert generate() == 0 and "skipped" in capsys.readouterr().err
    assert generate("--force", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["reused_blocks"] == 0


def test_a_wrong_room_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--keep-room", "much") == 2
    assert "--keep-room much: not a size" in capsys.readouterr().err
    assert generate("--keep-room", "1kB", "--json") == 0
    assert "more than --keep-room allows" in capsys.readouterr().err and not Path("story.states").exists()


def test_a_kill_in_an_edit_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The film as it was stays until the new one is whole, and the edit resumes from its last checkpoint."""
    assert generate() == 0
    before, edited = sha256(Path("story.mp4")), stage.STORY + MORE % "90s"
    Path("story.yaml").write_text(edited)
    running = start("story.yaml", "--checkpoint-every", "0.01")
    while not list(Path(".").glob("story.resume/state-*-1.safetensors")):
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    gone(running.pid)
    assert sha256(Path("story.mp4")) == before and Path("story.resume/checkpoint.json").exists()
    capsys.readouterr()
    assert generate("--json") == 0
    out, err = capsys.readouterr()
    assert "story.mp4: resuming after block" in err and json.loads(out.splitlines()[-1])["reused_blocks"] == 4
    assert sha256(Path("story.mp4")) == film(edited)
    assert {path.name for path in Path(".").glob("story.*")} == {
        f"story.{end}" for end in ("yaml", "mp4", "trace.json", "manifest.json", "srt", "states")}


def test_a_batch_edits_what_it_kept(capsys: pytest.CaptureFixture[str]) -> None:
    def batch(*arguments: str) -> dict:
        assert run(["batch", *OPTIONS, "story.yaml", "--json", *arguments]) == 0
        return json.loads(capsys.readouterr().out)

    batch()
    assert not Path("story.states").exists()  # a farm that never edits is left no litter
    batch("--keep-states", "last", "--force")
    Path("story.yaml").write_text(EDITED)
    assert batch()["status"] == "made" and not Path("story.states").exists()
    assert sha256(Path("story.mp4")) == film(EDITED)


def test_the_python_api_edits_too() -> None:
    options = {"scale": 1, "preset": "ultrafast"}
    echo_cli.generate("story.yaml", "story.mp4", **options)
    Path("story.yaml").write_text(EDITED)
    assert echo_cli.generate("story.yaml", "story.mp4", **options).sha256 == film(EDITED)
    assert json.loads(Path("story.manifest.json").read_text())["timings"]["reused_blocks"] == 4
