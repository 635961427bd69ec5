"""Scenes with a sound of their own, by the real command: in films, beside sequences of pictures, in streams."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from echo_cli.cli.app import run
from echo_cli.trace.reader import read_trace
from echo_cli.video import read
from tests.render import stage
from tests.video.sounds import heard, tone

STORY = """
seed: 5
scenes:
  - {id: meadow, prompt: a red ball in the meadow, duration: 1.5s, soundtrack: sounds/birds.wav}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 1.5s}
  - {id: again, transition: hard cut, prompt: a red ball in the meadow, duration: 1.5s, soundtrack: sounds/rain.mp3}
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a storyboard and its sounds, and the small model under the name `tiny`."""
    stage.settle(tmp_path / "here", monkeypatch)
    tone(Path("sounds/birds.wav"), 440, 0.8)
    tone(Path("sounds/rain.mp3"), 1000, 9)
    Path("story.yaml").write_text(STORY)


def generate(*arguments: str) -> int:
    return run(["generate", "story.yaml", "--scale", "1", "--preset", "ultrafast", *arguments])


def edges(trace: str) -> list[float]:
    """The second at which each scene begins, and the film ends."""
    header = read_trace(Path(trace)).header
    return [*(scene.pictures[0] / 16 for scene in header.timeline), header.film.pictures / 16]


def test_each_sound_begins_with_its_scene(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == 0
    film, (_, second, third, end) = Path("story.mp4"), edges("story.trace.json")
    assert heard(film, 0, 0.7) == {440} and heard(film, 0.9, third - 0.1) == set(), "padded with silence"
    assert heard(film, third + 0.05, end - 0.05) == {1000} and second < third, "cut where the film ends"
    assert read.facts(film).seconds == pytest.approx(end, abs=0.01)
    inputs = json.loads(Path("story.manifest.json").read_text())["identity"]["settings"]["inputs"]
    assert list(inputs) == ["sounds/birds.wav", "sounds/rain.mp3"]
    first = film.read_bytes()
    assert generate("--force") == 0 and film.read_bytes() == first
    assert run(["validate", "story.yaml"]) == 0
    assert "again has the sound of sounds/rain.mp3" in capsys.readouterr().out
    assert run(["export", "story.yaml", "--to", "otio", "-o", "story.otio"]) == 0
    assert "left out: scene 'meadow': its own soundtrack" in capsys.readouterr().err


def test_the_track_under_the_film_is_heard_with_them() -> None:
    tone(Path("music.flac"), 220, 9)
    assert generate("--audio", "music.flac") == 0
    _, _, third, end = edges("story.trace.json")
    assert heard(Path("story.mp4"), 0, 0.7) == {220, 440}
    assert heard(Path("story.mp4"), 0.9, third - 0.1) == {220}
    assert heard(Path("story.mp4"), third + 0.05, end - 0.05) == {220, 1000}


def test_another_sound_makes_another_film_and_reuses_its_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == 0
    tone(Path("sounds/rain.mp3"), 1500, 9)
    capsys.readouterr()
    assert generate() == 0
    assert "reusing" in capsys.readouterr().err
    *_, third, end = edges("story.trace.json")
    assert heard(Path("story.mp4"), third + 0.05, end - 0.05) == {1500}
    edited = Path("story.mp4").read_bytes()
    assert generate("--force", "--keep-states", "none") == 0 and Path("story.mp4").read_bytes() == edited


def test_a_sequence_of_pictures_has_its_sound_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "frames/%03d.png", "--dry-run") == 0
    assert "beside it frames.wav" in capsys.readouterr().out
    assert generate("-o", "frames/%03d.png") == 0
    sound = Path("frames/frames.wav")
    assert heard(sound, 0, 0.7) == {440} and len(list(Path("frames").glob("*.png"))) == 72
    assert json.loads(Path("frames/frames.manifest.json").read_text())["outputs"]["sound"]["name"] == "frames.wav"
    assert generate("-o", "frames/%03d.png") == 0 and "skipped" in capsys.readouterr().err
    sound.unlink()
    assert generate("-o", "frames/%03d.png") == 0 and sound.exists()
    assert generate("-o", "more/%03d.png", "--audio", "sounds/birds.wav") == 0 and Path("more/more.wav").exists()
    tone(Path("own/own.wav"), 440, 1)
    assert generate("-o", "own/%03d.png", "--audio", "own/own.wav") == 2
    assert "would overwrite a sound that comes into it" in capsys.readouterr().err


def test_a_sequence_that_is_rendered_again_without_sound_leaves_no_sound_of_the_one_before() -> None:
    assert generate("-o", "frames/%03d.png") == 0 and generate("-o", "other/%03d.png") == 0
    tone(Path("other/other.wav"), 440, 1)  # no longer the one that was written
    Path("story.yaml").write_text("scenes: [{id: a, prompt: a red ball, duration: 1s}]")
    for folder in ("frames", "other"):
        assert generate("-o", f"{folder}/%03d.png", "--force") == 0
        assert "sound" not in json.loads(Path(f"{folder}/{folder}.manifest.json").read_text())["outputs"]
    assert not Path("frames/frames.wav").exists() and Path("other/other.wav").exists()


def test_the_sound_of_a_sequence_whose_pictures_are_gone_is_left_alone() -> None:
    assert generate("-o", "frames/%03d.png") == 0
    for picture in Path("frames").glob("*.png"):
        picture.unlink()
    Path("story.yaml").write_text("scenes: [{id: a, prompt: a red ball, duration: 1s}]")
    assert generate("-o", "frames/%03d.png") == 0 and Path("frames/frames.wav").exists()  # nobody said --force


def test_the_sound_of_a_sequence_may_not_come_into_it_by_another_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "frames/%03d.png") == 0
    Path("sounds/before.wav").symlink_to("../frames/frames.wav")
    Path("story.yaml").write_text(
        "scenes: [{id: a, prompt: a red ball, duration: 1s, soundtrack: sounds/before.wav}]")
    assert generate("-o", "frames/%03d.png", "--force") == 2
    assert "would overwrite a sound that comes into it" in capsys.readouterr().err
    assert heard(Path("frames/frames.wav"), 0, 0.7) == {440}


def test_a_stream_has_sound() -> None:
    tone(Path("music.flac"), 220, 9)
    for options, wanted in (((), {440}), (("--audio", "music.flac"), {220, 440})):
        done = subprocess.run(
            [sys.executable, "-m", "tests.render.stage", "generate", "story.yaml", "-o", "-", "--scale", "1", *options],
            capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
        Path("stream.mp4").write_bytes(done.stdout)
        assert heard(Path("stream.mp4"), 0.1, 0.7) == wanted
        assert sum(1 for _ in read.pictures(Path("stream.mp4"))) == 72


def test_a_gif_says_what_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "story.yaml", "--scale", "1", "-o", "film.gif"]) == 0
    said = "left out: the soundtrack of 'meadow', 'again', since a .gif film has no sound"
    assert said in capsys.readouterr().err and sum(1 for _ in read.pictures(Path("film.gif"))) == 72


@pytest.mark.parametrize(("change", "message"), [
    (lambda: tone(Path("sounds/birds.wav"), 500, 0.8), "has changed since the film was begun"),
    (lambda: Path("sounds/birds.wav").unlink(), "cannot be read: No such file or directory"),
], ids=["changed", "gone"])
def test_a_sound_that_changes_while_the_film_is_made_is_noticed(
        change: Callable[[], object], message: str, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    from echo_cli.render import film

    def late(*arguments: object) -> None:
        change()
        write(*arguments)

    write = film._write_blocks
    monkeypatch.setattr(film, "_write_blocks", late)
    assert generate() == 2
    where = "soundtrack 'sounds/birds.wav' of scene 'meadow': sounds/birds.wav"
    assert f"{where} {message}" in capsys.readouterr().err and not Path("story.mp4").exists()


def test_mistakes_of_a_soundtrack_have_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text("scenes:\n" + "".join(
        f"  - {{id: s{number}, prompt: a red ball, duration: 3s, soundtrack: {path}}}\n"
        for number, path in enumerate(("none.wav", "story.yaml", "'http://x/y.mp3'", "[a]"))))
    assert run(["validate", "story.yaml"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "story.yaml:2:48: scene 's0': soundtrack none.wav is not there",
        "story.yaml:3:48: scene 's1': soundtrack story.yaml has no sound that ffmpeg can read: Error opening input: "
        "Invalid data found when processing input",
        "story.yaml:4:48: scene 's2': soundtrack 'http://x/y.mp3' is an address; files are read from this machine, so "
        "download it first",
        "story.yaml:5:48: scene 's3': soundtrack is a list",
    ]
