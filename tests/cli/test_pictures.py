"""Scenes that begin with a picture, by the real command: the film's picture is it, wherever the scene stands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonschema import Draft202012Validator
from PIL import Image

from echo_cli.cli.app import run
from echo_cli.models.registry import MODELS
from echo_cli.render.keeper import Keeper
from echo_cli.trace.reader import read_trace
from tests.render import stage
from tests.trace.test_schema import SCHEMA

WIDTH, HEIGHT = stage.SPEC.size
SCENES = {
    "meadow": "prompt: a red ball on a meadow, duration: 1.5s, picture: pictures/meadow.png",
    "desert": "prompt: a blue star in the desert, duration: 1.5s, picture: pictures/desert.png",
    "again": "prompt: the red ball on the meadow, duration: 1.6s, transition: 'recall:meadow', picture: star.jpg",
}
POLICIES = ("echo-forcing", "scene-queries --set memory.trained=false", "recache", "flush", "sink", "window")


def paint(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    path.parent.mkdir(exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, quality=95)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a storyboard and its pictures, another one to work in, and the small model in place of `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    folder = tmp_path / "board"
    folder.mkdir()
    scenes = "".join(f"  - {{id: {id}, {rest}}}\n" for id, rest in SCENES.items())
    (folder / "story.yaml").write_text(f"scenes:\n{scenes}")
    for seed, name in enumerate(("pictures/meadow.png", "pictures/desert.png", "star.jpg")):
        paint(folder / name, seed, (WIDTH, HEIGHT) if seed else (3 * WIDTH, 3 * HEIGHT))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def generate(*arguments: str) -> int:
    return run(["generate", "../board/story.yaml", "--scale", "2", "--preset", "ultrafast", *arguments])


def film(*arguments: str) -> np.ndarray:
    """Every picture of the film, as it was decoded."""
    assert generate("-o", "frames/%04d.png", *arguments) == 0
    return stage.pictures_in(Path("frames"))


def carried(path: Path, opens_film: bool = False) -> np.ndarray:
    """What the codec can carry of a picture: alone, or from the second latent frame of a stream on."""
    pixels = np.asarray(Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
    codec = stage.backend().codec
    still = torch.tensor(pixels).permute(2, 0, 1)[None, None].float() / 255
    with torch.inference_mode():
        made, _ = codec.decode(codec.encode(still.expand(1, 5, -1, -1, -1)), None)
    return made[0, 0 if opens_film else 1].mul(255).round().byte().permute(1, 2, 0).numpy()


@pytest.mark.parametrize("memory", POLICIES)
def test_a_scene_begins_with_its_picture_under_every_memory(place: Path, memory: str) -> None:
    pictures = film("--memory", *memory.split())
    opens = [span["pictures"][0] for span in json.loads(_validated(place))["scenes"]]
    for begin, name in zip(opens, ("pictures/meadow.png", "pictures/desert.png", "star.jpg"), strict=True):
        assert abs(pictures[begin].astype(int) - carried(place / name, begin == 0)).max() <= 1
    after = opens[1] + stage.SPEC.strides[0]
    assert abs(pictures[after].astype(int) - pictures[opens[1]]).max() > 1, "then the film goes on"


def _validated(place: Path) -> str:
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert run(["validate", "--json", str(place / "story.yaml")]) == 0
    return said.getvalue()


def test_the_rest_of_the_film_follows_from_the_picture(place: Path) -> None:
    """Another picture changes what comes after it, and nothing before it."""
    before = film()
    paint(place / "pictures/desert.png", 9)
    after = film("--force")
    opens = json.loads(_validated(place))["scenes"][1]["pictures"][0]
    assert (before[:opens] == after[:opens]).all()
    assert (before[opens + 4:opens + 12] != after[opens + 4:opens + 12]).any((1, 2, 3)).all()


def test_another_photo_is_another_film(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == 0
    assert generate() == 0 and "skipped" in capsys.readouterr().err
    identity = json.loads(Path("story.manifest.json").read_text())["identity"]["settings"]["inputs"]
    assert set(identity) == {"pictures/meadow.png", "pictures/desert.png", "star.jpg"}
    paint(place / "pictures/meadow.png", 8)
    assert generate() == 5 and "another pictures/meadow.png" in capsys.readouterr().err


def test_an_interrupted_film_goes_on_to_the_same_pictures(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = film()
    for block in (2, 3):  # the next block opens a scene with a picture; the last one did
        due, count = Keeper.due, [0]

        def stop(keeper: Keeper, block: int = block, count: list[int] = count, due=due) -> bool:
            count[0] += 1
            if count[0] > block:
                raise KeyboardInterrupt
            return count[0] == block

        with monkeypatch.context() as patched:
            patched.setattr(Keeper, "due", stop)
            assert generate("-o", "frames/%04d.png", "--force", "--checkpoint-every", "0.001") != 0
        assert (film("--force") == whole).all()


def test_a_picture_that_changes_under_an_interrupted_film_ends_it(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    due = Keeper.due

    def change(keeper: Keeper) -> bool:
        paint(place / "star.jpg", 8)
        return due(keeper)

    monkeypatch.setattr(Keeper, "due", change)
    assert generate() == 2
    said = capsys.readouterr().err
    assert "picture 'star.jpg' of scene 'again'" in said and "has changed since the film was begun" in said


def test_the_trace_says_which_frames_came_from_where() -> None:
    assert generate() == 0
    trace = read_trace(Path("story.trace.json"))
    openings = [scene.opening for scene in trace.header.timeline]
    assert [(each.what, each.path) for each in openings] == [
        ("picture", "pictures/meadow.png"), ("picture", "pictures/desert.png"), ("picture", "star.jpg")]
    given = [trace.block(index).given for index in range(len(trace))]
    assert given == [1, 0, 1, 0, 1, 0, 0] and all(len(each.sha256) == 64 for each in openings)
    Draft202012Validator(SCHEMA).validate(json.loads(Path("story.trace.json").read_text()))


def test_the_report_shows_what_a_scene_begins_with_beside_it() -> None:
    assert generate() == 0
    assert run(["inspect-cache", "story.trace.json", "--html", "report.html"]) == 0
    page = Path("report.html").read_text()
    thumbnails = [scene.opening.thumbnail for scene in read_trace(Path("story.trace.json")).header.timeline]
    assert len(set(thumbnails)) == 3 and all(page.count(each) == 1 and len(each) < 20_000 for each in thumbnails)
    assert "It begins with the picture pictures/desert.png." in page


def test_validate_lists_what_comes_in(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = json.loads(_validated(place))
    assert [(each["what"], each["path"], each["scene"]) for each in report["inputs"]] == [
        ("picture", "pictures/meadow.png", "meadow"), ("picture", "pictures/desert.png", "desert"),
        ("picture", "star.jpg", "again")]
    assert run(["validate", str(place / "story.yaml")]) == 0
    assert "desert begins with the picture pictures/desert.png" in capsys.readouterr().out


def test_mistakes_have_lines_and_columns_and_come_before_anything_is_loaded(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("echo_cli.render.session.load_backend", lambda *_: pytest.fail("a model was loaded"))
    (place / "pictures/meadow.png").unlink()
    (place / "star.jpg").write_text("no picture")
    for command in ("validate", "generate"):
        assert run([command, str(place / "story.yaml")]) == 2
        said = capsys.readouterr().err
        assert "story.yaml:2:66: scene 'meadow': picture" in said and "pictures/meadow.png is not there" in said
        assert "star.jpg is not a JPEG, PNG or WebP picture" in said


def test_a_plan_names_the_files_that_must_be_there(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", str(place), "--plan", "--json"]) == 0
    row = json.loads(capsys.readouterr().out.splitlines()[0])
    assert [Path(each).name for each in row["inputs"]] == ["meadow.png", "desert.png", "star.jpg"]
    assert all(Path(each).is_file() for each in row["inputs"])


def test_a_python_storyboard_begins_with_a_picture(place: Path) -> None:
    import echo_cli
    from echo_cli.storyboard.nouns import Opening, Scene, Storyboard

    board = Storyboard([Scene("a", "a red ball", 1.0, opening=Opening("star.jpg"))], source=str(place / "mine"))
    first = next(iter(echo_cli.blocks(board, model="tiny"))).pictures[0]
    assert abs(first.astype(int) - carried(place / "star.jpg", True)).max() <= 1


def test_pictures_clips_and_series_come_into_films_of_a_batch_however_it_is_shared(
    place: Path
) -> None:
    """The same bytes from one batch and from two shares of it."""
    from tests.video.clips import write_clip

    write_clip(place / "drone.mkv", 48, 24, (96, 64))
    films = {"first": "keep_scenes: true\nscenes:\n  - {id: a, prompt: a red ball, duration: 1s, picture: star.jpg}\n",
             "clip": "scenes:\n  - {id: a, prompt: a red ball, duration: 2s, clip: drone.mkv}\n"}
    for name, text in films.items():
        (place / f"{name}.yaml").write_text(text)
    batch = ["batch", str(place), "--preset", "ultrafast"]
    assert run([*batch, "--out-dir", "one"]) == 0
    (place / "later.yaml").write_text("series: ../here/one/first.scenes\nscenes:\n"
                                      "  - {id: a, prompt: a blue box, duration: 1s}\n"
                                      "  - {id: b, prompt: the ball, duration: 1s, transition: 'recall:first/a'}\n")
    assert run([*batch, "--out-dir", "one"]) == 0
    for shard in ("1/2", "2/2"):
        assert run([*batch, "--out-dir", "two", "--shard", shard]) == 0
    made = sorted(path.name for path in Path("one").glob("*.mp4"))
    assert made == ["clip.mp4", "first.mp4", "later.mp4", "story.mp4"]
    assert all((Path("one") / name).read_bytes() == (Path("two") / name).read_bytes() for name in made)
