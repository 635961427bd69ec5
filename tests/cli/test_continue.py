"""Films that continue others, by the real command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from echo_cli.cli.app import run
from echo_cli.models.registry import MODELS
from echo_cli.render.keeper import Keeper
from echo_cli.rollout.rollout import BlockResult
from echo_cli.trace.reader import read_trace
from tests.render import stage
from tests.video.clips import write_clip

WINDOW, BLOCK = stage.SPEC.window, stage.SPEC.block_frames
PAST = WINDOW - BLOCK
NEXT = "continue: clips/drone.mkv\nscenes:\n  - {id: a, prompt: a red ball, duration: 2s}\n"
LONG = "x" * 300  # no file's name is as long


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a film of somebody else in it, and the small model in place of `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    monkeypatch.chdir(tmp_path)
    return write_clip(tmp_path / "clips/drone.mkv", 200, 24, (160, 96))


def shown_first(clip: Path, story: str) -> np.ndarray:
    """The film that shows the end of a clip and goes on, as `clip` makes it."""
    seconds = (PAST * 4 - 3) / 16
    return stage.rendered(story.replace("continue: clips/drone.mkv\n", "").replace(
        "duration: 2s", f"duration: {2 + seconds}s, clip: {clip.relative_to(Path.cwd())}, for: {seconds}s"))


def test_the_film_goes_on_as_after_a_clip_and_does_not_show_it(place: Path) -> None:
    after = shown_first(place, NEXT)[PAST * 4 - 3:]
    pictures = stage.rendered(NEXT)
    assert len(pictures) == 32 and np.array_equal(pictures, after)
    trace = read_trace(Path("frames/frames.trace.json"))
    records = [trace.block(index) for index in range(len(trace))]
    assert [record.given for record in records] == [BLOCK] * (PAST // BLOCK) + [0] * 3
    assert [record.pictures for record in records] == [(0, 0)] * (PAST // BLOCK) + [(0, 12), (12, 24), (24, 32)]
    opening = trace.header.timeline[0].opening
    assert opening and (opening.what, opening.path) == ("continue", "clips/drone.mkv") and opening.thumbnail
    assert trace.header.timeline[0].pictures == (0, 32)
    for view in ([], ["--json"], ["--csv"], ["--html", "report.html"], ["--at", "1s"], ["--block", "0"]):
        assert run(["inspect-cache", "frames/frames.trace.json", *view]) == 0
    assert "It continues clips/drone.mkv." in Path("report.html").read_text()


def test_a_block_of_the_film_before_says_so_and_a_time_finds_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    stage.rendered(NEXT)
    capsys.readouterr()

    def head(*question: str) -> str:
        assert run(["inspect-cache", "frames/frames.trace.json", *question]) == 0
        return " ".join(capsys.readouterr().out.split("role")[0].split())

    assert head("--block", "0") == (
        "block 0 before the beginning of a · frames 0–2 · pictures of the film before, none of this one")
    first = PAST // BLOCK
    assert head("--block", str(first)).startswith(f"block {first} 0:00–0:00.8 of a") and "pictures 0–11" in head(
        "--block", str(first))
    for seconds, block in (("0s", first), ("0.74s", first), ("0.75s", first + 1), ("1.99s", first + 2)):
        assert head("--at", seconds) == head("--block", str(block))


def test_the_first_line_of_progress_does_not_guess_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    stage.rendered(NEXT, "--progress", "plain")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Progress: ")]
    assert "picture 0/32 | 0.0 pictures/s | memory " in lines[0] and "left 0:00:00" in lines[-1]


@pytest.mark.parametrize("pictures", [1, 6, 14, 30])
def test_a_short_film_can_be_continued(pictures: int, place: Path) -> None:
    write_clip(place, pictures, 16, (160, 96))
    assert len(stage.rendered(NEXT)) == 32
    trace = read_trace(Path("frames/frames.trace.json"))
    given = sum(trace.block(index).given for index in range(len(trace)))
    frames = 1 + -(-(pictures - 1) // 4) if pictures < 10 else (pictures + 3) // 12 * 3
    assert 1 <= given <= frames


def test_an_interrupted_continuation_resumes(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    whole = stage.rendered(NEXT)
    generate = ["generate", "story.yaml", "--scale", "2", "-o", "again/%04d.png"]
    keep = Keeper.keep

    def cut_off(self: Keeper, result: BlockResult, *arguments: Any, **options: Any) -> None:
        keep(self, result, *arguments, wait=True)
        if result.block.index == PAST // BLOCK:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "due", lambda self: True)
        patch.setattr(Keeper, "keep", cut_off)
        assert run(generate) == 75
    capsys.readouterr()
    assert run(generate) == 0
    assert f"resuming after block {PAST // BLOCK + 1} of {PAST // BLOCK + 3}" in capsys.readouterr().err
    again = stage.pictures_in(Path("again"))
    assert np.array_equal(again, whole)


def test_another_film_before_it_is_another_film(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(NEXT)
    generate = ["generate", "story.yaml", "--scale", "1", "-o", "film.mp4"]
    assert run(generate) == 0 and run(generate) == 0 and "skipped" in capsys.readouterr().err
    settings = json.loads(Path("film.manifest.json").read_text())["identity"]["settings"]
    assert list(settings["inputs"]) == ["clips/drone.mkv"]
    write_clip(place, 180, 24, (160, 96))
    assert run(generate) == 5 and "another clips/drone.mkv" in capsys.readouterr().err


@pytest.mark.parametrize("story", [
    NEXT, "scenes:\n  - {id: a, prompt: a red ball, duration: 2s, clip: clips/drone.mkv, for: 1s}\n"])
def test_a_film_that_is_gone_when_it_is_needed_ends_the_run(
        story: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from echo_cli.render import film

    def late(*arguments: object) -> None:
        place.unlink()
        write(*arguments)

    write = film._write_blocks
    monkeypatch.setattr(film, "_write_blocks", late)
    Path("story.yaml").write_text(story)
    assert run(["generate", "story.yaml", "--scale", "1"]) == 2
    assert "clips/drone.mkv cannot be read: No such file or directory" in capsys.readouterr().err


def test_validate_shows_what_is_continued(capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(NEXT)
    assert run(["validate", "story.yaml"]) == 0
    assert "continues clips/drone.mkv from its last pictures" in capsys.readouterr().out
    assert run(["validate", "story.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["continues"] == told["canonical"]["continue"] == "clips/drone.mkv" and told["pictures"] == 32
    assert [scene["moved"] for scene in told["scenes"]] == [0]


@pytest.mark.parametrize(("story", "message"), [
    (NEXT.replace("drone.mkv", "nowhere.mp4"), "story.yaml:1:1: continue clips/nowhere.mp4 is not there"),
    *((NEXT.replace("clips/drone.mkv", folder), f"story.yaml:1:1: continue {folder.rstrip('/') or '/'} is a folder")
      for folder in (".", "./", "/", "..")),
    (NEXT.replace("clips/drone.mkv", f"{LONG}.mp4"), f"story.yaml:1:1: continue {LONG}.mp4 cannot be read: File "),
    (NEXT.replace("clips/drone.mkv", f"{LONG}.end"), f"story.yaml:1:1: continue {LONG}.end: cannot be read: File "),
    (NEXT.replace("clips/drone.mkv", ".") + "  - {id: b, prompt: a box, duration: 2s, transition: recall:dusk}\n",
     "story.yaml:1:1: continue . is a folder"),
    (NEXT.replace("clips/drone.mkv", "story.yaml"), "story.yaml:1:1: continue story.yaml is not a clip that ffmpeg"),
    (NEXT.replace("clips/", "https://example.org/"), "is an address; files are read from this machine"),
    (NEXT.replace("duration: 2s", "duration: 2s, transition: hard cut"),
     "story.yaml:3:47: scene 'a': the first scene continues the film that is named under 'continue'; leave its"),
    (NEXT.replace("duration: 2s", "duration: 2s, clip: clips/drone.mkv"), "begins with a clip, but continues the film"),
    (NEXT.replace("duration: 2s", "duration: 0.2s") + "  - {id: b, prompt: a box, duration: 2s}\n",
     "scene 'a': 0.2s is too short to be shown here"),
])
def test_what_cannot_be_continued_is_a_mistake(story: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(story)
    assert run(["validate", "story.yaml"]) == 2
    out, err = capsys.readouterr()
    assert message in err and len(err.splitlines()) <= 2 and not out


def test_blocks_from_python_are_those_of_the_film(place: Path) -> None:
    import echo_cli

    pictures = stage.rendered(NEXT)
    shown = np.concatenate([block.pictures for block in echo_cli.blocks("story.yaml")])
    assert np.array_equal(shown, pictures)


@pytest.mark.parametrize("memory", ["window", "none", "recache", "echo-forcing"])
def test_every_memory_continues_pictures(memory: str) -> None:
    assert len(stage.rendered(NEXT, "--memory", memory)) == 32

