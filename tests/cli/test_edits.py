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
    result = json.loads(out.splitlines()[-1])
    assert result["reused_blocks"] == 4
    assert result["sitting_seconds"] < result["wall_seconds"]
    said = f"in {result['sitting_seconds']:.1f} s, {result['loading_seconds']:.1f} s of it loading; 4 blocks reused"
    assert err.rstrip().endswith(said)
    assert json.loads(Path("story.manifest.json").read_text())["timings"]["reused_blocks"] == 4
    assert sha256(Path("story.mp4")) == film(EDITED)
    assert generate() == 0 and "skipped" in capsys.readouterr().err
    assert generate("--force", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["reused_blocks"] == 0


def test_what_an_edit_would_reuse_is_said_before_it_is_rendered(capsys: pytest.CaptureFixture[str]) -> None:
    """By every command that looks ahead, in the words of the run itself."""
    def said() -> tuple[str, ...]:
        capsys.readouterr()
        looking = (("generate", *OPTIONS, "--dry-run", "--json"), ("validate", "--json"),
                   ("batch", *OPTIONS, "--keep-states", "last", "--plan", "--json"))
        os.environ.update({"ECHO_SCALE": "1", "ECHO_PRESET": "ultrafast"})
        try:
            assert all(run([*words, "story.yaml"]) == 0 for words in looking)
        finally:
            del os.environ["ECHO_SCALE"], os.environ["ECHO_PRESET"]
        return tuple(json.loads(line).get("reuse") for line in capsys.readouterr().out.splitlines())

    assert said() == (None, None, None)
    assert generate() == 0
    assert "is there already" in said()[0] and said()[0] == said()[1] and len(said()) == 2
    for story in (EDITED, EDITED.replace("title:", "title: New") + MORE % "1s"):
        Path("story.yaml").write_text(story)
        before = {path: path.stat().st_mtime_ns for path in Path(".").rglob("*")}
        promised = said()
        assert len(set(promised)) == 1 and "reusing" in str(promised[0])
        assert {path: path.stat().st_mtime_ns for path in Path(".").rglob("*")} == before
        assert generate() == 0 and promised[0] in capsys.readouterr().err
    Path("story.yaml").write_text(EDITED)
    assert generate("--dry-run", "--force") == 0 and "from its beginning (--force)" in capsys.readouterr().out
    assert generate("--dry-run", "--seed", "99") == 0
    assert "already there: story.mp4 was made from something else" in capsys.readouterr().out
    assert generate("--dry-run", "--seed", "99", "--json") == 0
    assert json.loads(capsys.readouterr().out)["refused"].startswith("story.mp4 was made from something else")
    assert generate("--dry-run", "--seed", "99", "--here") == 5
    captured = capsys.readouterr()
    assert captured.err.startswith("story.mp4 was made from something else") and not captured.out
    plan = ["batch", "story.yaml", "--plan", "--scale", "1", "--seed", "99"]
    assert run(plan) == 0
    captured = capsys.readouterr()
    assert "warning: story.yaml: story.mp4 was made from something else" in captured.err and captured.out
    assert run([*plan, "--here"]) == 5
    captured = capsys.readouterr()
    assert "story.mp4 was made from something else" in captured.err and not captured.out


def test_a_film_that_keeps_its_scenes_from_now_on_is_a_later_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--quiet") == 0
    before = sha256(Path("story.mp4"))
    Path("story.yaml").write_text(stage.STORY + "keep_scenes: true\n")
    assert generate("--dry-run") == 0
    assert "from its beginning (a film that keeps" in capsys.readouterr().out
    assert generate() == 0
    assert Path("story.scenes").exists() and sha256(Path("story.mp4")) == before


KEEPING = ["--scenes", "my.scenes"]


@pytest.mark.parametrize(("first", "second"), [(["--keep-states", "none"], []), (KEEPING, KEEPING), ([], KEEPING)])
def test_a_later_version_needs_no_states(first: list[str], second: list[str],
                                         capsys: pytest.CaptureFixture[str]) -> None:
    assert generate(*first, "--quiet") == 0
    Path("story.yaml").write_text(EDITED)
    assert generate(*second) == 0
    assert "reusing" not in capsys.readouterr().err and sha256(Path("story.mp4")) == film(EDITED)
    Path("story.yaml").write_text(EDITED.replace("a red ball rolls", "a blue box rolls"))
    assert generate(*second) == 5
    assert "made from something else" in capsys.readouterr().err


def test_a_wrong_room_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--keep-room", "much") == 2
    assert "--keep-room much: not a size" in capsys.readouterr().err
    assert generate("--keep-room", "1kB", "--json") == 0
    assert "more than --keep-room allows" in capsys.readouterr().err and not Path("story.states").exists()


def test_a_kill_in_an_edit_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """The film as it was stays until the new one is whole, and the edit resumes from its last checkpoint."""
    assert generate() == 0
    before, edited = sha256(Path("story.mp4")), stage.STORY + MORE % "45s"
    Path("story.yaml").write_text(edited)
    running = start("story.yaml", "--checkpoint-every", "0.01")
    while not list(Path(".").glob("story.resume/state-*-1.safetensors")):
        assert running.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    gone(running.pid)
    assert sha256(Path("story.mp4")) == before and Path("story.resume/checkpoint.json").exists()
    capsys.readouterr()
    assert generate("--json") == 0
    out, err = capsys.readouterr()
    assert "story.mp4: resuming after block" in err and json.loads(out.splitlines()[-1])["reused_blocks"] == 4
    assert "; 4 blocks reused" in err
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


def test_another_file_is_another_film_though_it_begins_alike(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == 0
    before = sha256(Path("story.mp4"))
    Path("episode.yaml").write_text(EDITED)
    capsys.readouterr()
    assert run(["generate", *OPTIONS, "episode.yaml", "-o", "story.mp4"]) == 5
    assert "made from something else: another storyboard (story.yaml, now episode.yaml)" in capsys.readouterr().err
    assert sha256(Path("story.mp4")) == before
    assert run(["generate", *OPTIONS, "episode.yaml", "-o", "story.mp4", "--dry-run"]) == 0
    assert "reus" not in capsys.readouterr().out
    Path("episode.yaml").write_text(stage.STORY)
    assert run(["generate", *OPTIONS, "episode.yaml", "-o", "story.mp4"]) == 0, "the same film is there already"
    assert "skipped" in capsys.readouterr().err


def test_the_python_api_edits_too() -> None:
    options = {"scale": 1, "preset": "ultrafast"}
    echo_cli.generate("story.yaml", "story.mp4", **options)
    Path("story.yaml").write_text(EDITED)
    assert echo_cli.generate("story.yaml", "story.mp4", **options).sha256 == film(EDITED)
    assert json.loads(Path("story.manifest.json").read_text())["timings"]["reused_blocks"] == 4
