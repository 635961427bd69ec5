"""Scenes that begin with the end of a clip, by the real command: the film shows it, and continues from there."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from echo_cli.cli.app import run
from echo_cli.models.registry import MODELS
from echo_cli.render.keeper import Keeper
from echo_cli.trace.reader import read_trace
from echo_cli.video.clip import excerpt
from tests.render import stage
from tests.video.clips import write_clip
from tests.video.sounds import tone

WINDOW, BLOCK = stage.SPEC.window, stage.SPEC.block_frames


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a clip in it, and the small model in place of `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    monkeypatch.chdir(tmp_path)
    return write_clip(tmp_path / "clips/drone.mkv", 144, 24, (160, 96))


def film(scenes: str, *arguments: str) -> np.ndarray:
    return stage.rendered(f"scenes:\n{scenes}", *arguments)


def carried(clip: Path, shown: int, lead: int, begins: float | None = None) -> np.ndarray:
    """What the codec can carry of a clip's pictures; `lead` of them come before those that are shown."""
    pictures = excerpt(clip, shown + lead, 16, stage.SPEC.size, begins)
    with torch.inference_mode():
        latents = stage.backend().codec.encode(torch.tensor(pictures).permute(0, 3, 1, 2)[None].float() / 255)
        made, _ = stage.backend().codec.decode(latents, None)
    return made[0, lead:].mul(255).round().byte().permute(0, 2, 3, 1).numpy()


def same(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and bool(abs(one.astype(int) - other).max() <= 1)


def given() -> list[int]:
    trace = read_trace(Path("frames/frames.trace.json"))
    return [trace.block(index).given for index in range(len(trace))]


ALONE = "  - {id: a, prompt: a red ball, duration: 3s, clip: clips/drone.mkv, for: 1.1s}\n"
BEFORE = "  - {id: b, prompt: a blue box, duration: 1.5s}\n"


def test_a_film_begins_with_the_end_of_a_clip(place: Path) -> None:
    pictures = film(ALONE)
    assert same(pictures[:17], carried(place, 17, 0)), "1.1 seconds are 18 pictures, five whole latent frames 17"
    assert given() == [3, 2, 0, 0, 0] and not same(pictures[17:18], carried(place, 17, 0)[-1:])


def test_a_clip_in_the_middle_of_a_film_has_its_own_stream(place: Path) -> None:
    pictures = film(BEFORE + ALONE)
    opens = read_trace(Path("frames/frames.trace.json")).header.timeline[1].pictures[0]
    assert same(pictures[opens:opens + 16], carried(place, 16, 1)) and given()[2:5] == [3, 1, 0]


def test_any_second_of_a_clip_may_come_first(place: Path) -> None:
    pictures = film(ALONE.replace("for: 1.1s", "from: 2s, for: 0.4s"))
    assert same(pictures[:5], carried(place, 5, 0, 2.0)) and given() == [2, 0, 0, 0, 0]
    pictures = film(BEFORE + ALONE.replace("for: 1.1s", "from: 2s, for: 0.6s"))
    opens = read_trace(Path("frames/frames.trace.json")).header.timeline[1].pictures[0]
    shown = excerpt(place, 8, 16, stage.SPEC.size, 2.0)
    with torch.inference_mode():
        still = torch.tensor(np.concatenate((shown[:1], shown))).permute(0, 3, 1, 2)[None].float() / 255
        made, _ = stage.backend().codec.decode(stage.backend().codec.encode(still), None)
    assert same(pictures[opens:opens + 8], made[0, 1:].mul(255).round().byte().permute(0, 2, 3, 1).numpy())


def test_left_to_itself_a_clip_fills_the_window_and_no_more() -> None:
    film("  - {id: a, prompt: a red ball, duration: 8s, clip: clips/drone.mkv}\n")
    assert sum(given()) == WINDOW - BLOCK
    film("  - {id: a, prompt: a red ball, duration: 2s, clip: clips/drone.mkv}\n")
    assert given() == [3, 3, 0], "something of the scene is left to be generated"


@pytest.mark.parametrize("memory", ["echo-forcing", "echo-infinity --set memory.trained=false", "recache", "sink"])
def test_every_memory_goes_on_from_a_clip(place: Path, memory: str) -> None:
    """The end of a clip is in memory: another one is followed by other pictures."""
    scenes = "  - {id: a, prompt: a red ball, duration: 9s, clip: clips/drone.mkv, for: 6s}\n"
    ends = 1 + 4 * 23
    first = film(scenes, "--memory", *memory.split())
    write_clip(place, 144, 24, (96, 160))
    second = film(scenes, "--memory", *memory.split())
    assert given()[:8] == [3] * 8 and (first[ends:ends + 12] != second[ends:ends + 12]).any((1, 2, 3)).all()


def test_a_film_that_stops_inside_a_clip_goes_on_to_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = film(BEFORE + ALONE)
    count = [0]

    def stop(keeper: Keeper) -> bool:
        count[0] += 1
        if count[0] > 3:
            raise KeyboardInterrupt
        return count[0] == 3

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "due", stop)
        assert run(["generate", "story.yaml", "--scale", "2", "-o", "frames/%04d.png", "--force"]) != 0
    assert (film(BEFORE + ALONE) == whole).all()


def test_clips_that_cannot_be_used_are_mistakes(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("clips/text.mp4").write_text("no clip")
    Path("story.yaml").write_text("scenes:\n  - {id: a, prompt: x, duration: 3s, clip: clips/text.mp4}\n"
                                  "  - {id: b, prompt: x, duration: 3s, clip: clips/none.mp4}\n"
                                  "  - {id: c, prompt: x, duration: 3s, clip: clips/drone.mkv, from: 7s}\n")
    assert run(["generate", "story.yaml"]) == 2
    said = capsys.readouterr().err
    assert "story.yaml:2:38: scene 'a': clip clips/text.mp4 is not a clip that ffmpeg can read" in said
    assert "none.mp4 is not there" in said and "lasts 6 seconds, so nothing of it begins at 7" in said


def test_what_is_no_clip_is_called_what_it_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (64, 64)).save("clips/photo.png")
    Path("clips/empty.mp4").touch()
    tone(Path("clips/tone.m4a"), 440, 1)
    for name, said in (("photo.png", "is a picture; write picture: in place of clip:"), ("empty.mp4", "is empty"),
                       ("tone.m4a", "has a sound and no pictures")):
        Path("story.yaml").write_text(f"scenes:\n  - {{id: a, prompt: x, duration: 3s, clip: clips/{name}}}\n")
        assert run(["validate", "story.yaml"]) == 2
        assert f"clip clips/{name} {said}\n" in capsys.readouterr().err


def test_a_clip_that_is_too_short_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_clip(Path("clips/blink.mkv"), 3)
    Path("story.yaml").write_text(f"scenes:\n{BEFORE}  - {{id: a, prompt: x, duration: 3s, clip: clips/blink.mkv}}\n")
    assert run(["generate", "story.yaml", "--scale", "2"]) == 2
    assert "has 3 pictures there at 16 a second" in capsys.readouterr().err


def test_a_clip_is_part_of_the_films_identity(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(f"scenes:\n{ALONE}")
    assert run(["generate", "story.yaml", "--scale", "2"]) == 0
    write_clip(place, 143, 24, (160, 96))
    assert run(["generate", "story.yaml", "--scale", "2"]) == 5
    assert "another clips/drone.mkv" in capsys.readouterr().err
    assert run(["validate", "story.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"][0]["what"] == "clip"
