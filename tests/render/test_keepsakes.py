"""Scenes that outlast their film: written beside it, recalled in another one, and part of that film's identity."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from echo_cli.cli import app
from echo_cli.errors import UsageError
from echo_cli.memory.scene_files import read_entry, read_thumbnail
from echo_cli.models.registry import MODELS
from echo_cli.render.made import Made
from echo_cli.render.manifest import Standing, standing
from echo_cli.storyboard.series import ScenesFile, read_scenes
from echo_cli.text import size
from echo_cli.trace.reader import read_trace
from tests.render import stage
from tests.render.stage import WEIGHTS
from tests.render.test_resume import Keeping, made, stopped

FIRST = """
title: Episode 1
keep_scenes: true
scenes:
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 3s}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 1s}
"""
SECOND = """
title: Episode 2
series: first.scenes
scenes:
  - {id: street, prompt: a yellow star in a city street at night, duration: 1s}
  - {id: again, transition: "recall:first/meadow", prompt: the red ball in the meadow, duration: 2s}
  - {id: nearest, transition: "recall:auto", prompt: the star in the desert, duration: 1s}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Paths in storyboards are relative to this folder; the small model is called tiny."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def first(**options) -> Made:
    return made(stage.job(Path(), FIRST, "first.mp4", **options))


def error_of(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capfd.readouterr()
    code = app.run(arguments)
    return code, capfd.readouterr().err


def test_scenes_are_written_beside_the_film_and_described(tmp_path: Path) -> None:
    outputs = first().outputs
    file = read_scenes(tmp_path / "first.scenes")
    assert [(scene.id, scene.film, scene.memory, scene.seconds) for scene in file.description.scenes] == [
        ("meadow", "Episode 1", "echo", 2.8125), ("desert", "Episode 1", "echo", 1.1875)]
    assert dict(file.description.scenes[0].parts) == {"frames": 9, "recall": 1}
    assert file.description.model.weights == WEIGHTS
    assert outputs["scenes"].bytes == file.size == Path("first.scenes").stat().st_size
    for index in range(2):
        thumbnail = read_thumbnail(file, index)
        assert thumbnail is not None and thumbnail.shape == (107, 160, 3)
        read_entry(file, index)
    assert json.loads(Path("first.manifest.json").read_text())["outputs"]["scenes"]["name"] == "first.scenes"


def test_another_film_recalls_them(tmp_path: Path) -> None:
    first()
    made(stage.job(tmp_path, SECOND))
    trace = read_trace(tmp_path / "film.trace.json")
    assert [record.recalled for record in trace.scenes] == [None, -2, -1]
    assert [trace.header.name_of(number) for number in (-2, -1)] == ["first/meadow", "first/desert"]
    assert [candidate.scene for candidate in trace.scenes[1].candidates] == [-2, -1, 0]
    assert any(segment.scene == -2 for segment in trace.block(2).layout.past)
    film = Path("film.mp4").read_bytes()
    made(stage.job(tmp_path, SECOND.replace("first/meadow", "first/desert"), "other.mp4"))
    assert Path("other.mp4").read_bytes() != film


def test_a_long_recall_chooses_from_frames_of_another_film(tmp_path: Path) -> None:
    """History that has them is traced: they have no numbers in this film."""
    first()
    made(stage.job(tmp_path, SECOND.replace("duration: 2s", "duration: 9s")))
    trace = read_trace(tmp_path / "film.trace.json")
    measurements = [trace.block(index).measured for index in range(len(trace))]
    assert any(measured and measured.chosen for measured in measurements)


def test_a_resumed_film_is_the_same_and_leaves_the_same(tmp_path: Path) -> None:
    first()
    whole = SECOND + "keep_scenes: [again, street]\n"
    made(stage.job(tmp_path, whole, "whole.mp4"))
    for block in (1, 3, 5):
        task = stage.job(tmp_path, whole, f"halves-{block}.mp4")
        stopped(task, block)
        assert not Path(f"halves-{block}.scenes").exists()
        made(task)
        for ending in ("mp4", "scenes"):
            assert Path(f"halves-{block}.{ending}").read_bytes() == Path(f"whole.{ending}").read_bytes(), block
    assert [scene.id for scene in read_scenes(tmp_path / "whole.scenes").description.scenes] == ["street", "again"]
    assert not list(tmp_path.glob("*.resume"))


def test_an_interrupted_film_needs_no_series_to_be_resumed(tmp_path: Path) -> None:
    first()
    task = stage.job(tmp_path, SECOND)
    stopped(task, 2, Keeping(every=None))
    Path("first.scenes").unlink()
    made(task)


def test_a_series_is_part_of_the_film(tmp_path: Path) -> None:
    first()
    task = stage.job(tmp_path, SECOND)
    made(task)
    assert standing(task.outputs, task.identity(WEIGHTS)) is Standing.DONE
    first(seed=4, force=True)
    other = stage.job(tmp_path, SECOND)
    assert standing(other.outputs, other.identity(WEIGHTS)) is Standing.TAKEN
    with pytest.raises(UsageError, match=r"first\.scenes has changed since the film was begun"):
        made(task)


def test_a_film_keeps_its_scenes_where_it_is_asked_to(tmp_path: Path) -> None:
    elsewhere = tmp_path / "kept" / "places.scenes"
    elsewhere.parent.mkdir()
    board = FIRST.replace("keep_scenes: true\n", "")
    task = stage.job(tmp_path, board, scenes=elsewhere)
    made(task)
    assert len(read_scenes(elsewhere).past) == 2 and not Path("film.scenes").exists()
    assert standing(task.outputs, task.identity(WEIGHTS)) is Standing.DONE
    other = stage.job(tmp_path, board, scenes=tmp_path / "other.scenes")
    assert standing(other.outputs, other.identity(WEIGHTS)) is Standing.FREE
    plain = stage.job(tmp_path, board, "plain.mp4")
    made(plain)
    assert Path("plain.mp4").read_bytes() == Path("film.mp4").read_bytes()


def test_mistakes_are_told_with_their_places(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first()
    Path("text.scenes").write_text("no")
    Path("story.yaml").write_text("""
series: [first.scenes, text.scenes, none.scenes, ./first.scenes, 7]
keep_scenes: [a, d]
scenes:
  - {id: a, prompt: x, duration: 1s}
  - {id: b, prompt: x, duration: 1s, transition: "recall:first/medow"}
  - {id: c, prompt: x, duration: 1s, transition: "recall:frist/meadow"}
""")
    code, printed = error_of(["validate", "story.yaml"], capfd)
    assert code == 2
    for line in ("2:24: series text.scenes: is no file of scenes, or is damaged: it does not begin as safetensors do",
                 "2:37: series none.scenes: there is no such file of scenes", "2:50: series 'first' is already named",
                 "2:66: series must be the path of a file of scenes, or a list of such, not a number",
                 "3:18: keep_scenes: no scene has the id 'd'",
                 "6:38: scene 'b': recall of 'first/medow', but that series has no such scene (did you mean 'meadow'?)",
                 "7:38: scene 'c': recall of 'frist/meadow', but no series is called 'frist' (did you mean 'first'?)"):
        assert f"story.yaml:{line}" in printed, printed


def test_validate_shows_what_is_recalled_from_a_series(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first()
    (tmp_path / "sub").mkdir()
    Path("sub/second.yaml").write_text(SECOND.replace("first.scenes", "../first.scenes"))
    assert app.run(["validate", "sub/second.yaml", "--json"]) == 0
    scenes = json.loads(capfd.readouterr().out)["scenes"]
    assert [scene["recall"] and scene["recall"]["scene"] for scene in scenes] == [None, "first/meadow", "first/desert"]
    assert scenes[2]["recall"]["score"] > scenes[2]["recall"]["runner_up"]["score"]


def test_scenes_of_a_film_that_keeps_none_any_more_are_doubted(capfd: pytest.CaptureFixture[str]) -> None:
    first()
    Path("second.yaml").write_text(SECOND)
    assert app.run(["validate", "second.yaml"]) == 0 and "earlier version" not in capfd.readouterr().out
    made(stage.job(Path(), FIRST.replace("keep_scenes: true\n", ""), "first.mp4", force=True))
    assert Path("first.scenes").exists()
    assert app.run(["validate", "second.yaml"]) == 0
    assert "warning: first.scenes is of an earlier version of first.mp4, which keeps no scenes now" in (
        capfd.readouterr().out)


def test_scenes_of_other_weights_or_of_another_size_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str],
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    first()
    Path("second.yaml").write_text(SECOND)
    code, printed = error_of(["generate", "second.yaml", "--size", "128x96"], capfd)
    assert code == 2 and all(words in printed for words in ("first.scenes", "3x2 tokens", "4x3"))
    monkeypatch.setattr("echo_cli.models.loaders.RandomSmall.DIGEST", "f00f00f00f00f00")
    for command in ("generate", "validate"):
        code, printed = error_of([command, "second.yaml"], capfd)
        assert code == 2 and "weights random-smal" in printed and "weights f00f00f00f00" in printed


def test_a_film_does_not_overwrite_its_own_series(capfd: pytest.CaptureFixture[str]) -> None:
    first()
    before = Path("first.scenes").read_bytes()
    Path("second.yaml").write_text(SECOND + "keep_scenes: true\n")
    code, printed = error_of(["generate", "second.yaml", "-o", "first.mp4", "--force"], capfd)
    assert code == 2 and "first.scenes: the film would overwrite the series" in printed
    assert Path("first.scenes").read_bytes() == before
    Path("links").mkdir()
    Path("links/first.scenes").symlink_to("../first.scenes")
    linked = SECOND.replace("series: first.scenes", "series: links/first.scenes")
    Path("second.yaml").write_text(linked + "keep_scenes: true\n")
    code, printed = error_of(["generate", "second.yaml", "-o", "first.mp4", "--force"], capfd)
    assert code == 2 and "first.scenes: the film would overwrite the series" in printed


def test_a_plan_says_how_large_the_scenes_will_be(capfd: pytest.CaptureFixture[str]) -> None:
    Path("first.yaml").write_text(FIRST)
    assert app.run(["generate", "first.yaml", "--dry-run"]) == 0
    said = capfd.readouterr().out
    first()
    frames = sum(scene.parts["frames"] + 1 for scene in read_scenes(Path("first.scenes")).description.scenes)
    assert f"beside it first.scenes, at least {size(frames * 4 * 2 * 6 * 24)}" in said


@pytest.mark.parametrize("arguments", [["-o", "-"], ["--scenes", "x.json"]])
def test_a_film_that_cannot_keep_scenes_says_so(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    Path("first.yaml").write_text(FIRST)
    code, printed = error_of(["generate", "first.yaml", "--scenes", "x.scenes", *arguments], capfd)
    assert code == 2 and "scenes" in printed and "hint" in printed and not Path("first.mp4").exists()


def test_a_film_keeps_the_last_of_very_many_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echo_cli.render.keepsakes.MOST_KEPT", 1)
    first()
    file: ScenesFile = read_scenes(tmp_path / "first.scenes")
    assert [scene.id for scene in file.past] == ["desert"]


def library(story: str) -> int:
    """Bytes of the host for scenes, as they are counted before the film begins."""
    from echo_cli.models.running import Running
    from echo_cli.render.budget import room_for
    from echo_cli.runtime import Runtime

    runtime = Runtime(torch.device("cpu"), torch.float32)
    return room_for(stage.job(Path(), story, "x.mp4"), stage.SPEC, runtime, Running()).library


def test_scenes_that_outlast_their_film_are_part_of_the_memory_that_it_needs() -> None:
    frame = 2 * 4 * stage.SPEC.depth * stage.SPEC.grid().tokens * stage.SPEC.width
    assert library(FIRST) - library(FIRST.replace("keep_scenes: true", "")) == 18 * frame
    first()
    both, alone = library(SECOND), library(SECOND.replace('"recall:auto"', "hard cut"))
    sizes = [read_scenes(Path("first.scenes")).size_of(index) for index in range(2)]
    assert both - alone >= sizes[1] and alone >= sizes[0]


def test_scenes_of_a_file_in_eight_bits_are_counted_as_they_are_once_they_have_been_read(
        monkeypatch: pytest.MonkeyPatch) -> None:
    needed = []
    for bits in (16, 8):
        monkeypatch.setattr("echo_cli.render.keepsakes.scene_bits", lambda spec, bits=bits: bits)
        first()
        assert read_scenes(Path("first.scenes")).description.bits == bits
        needed.append(library(SECOND))
        for path in Path().glob("first.*"):
            path.unlink()
    assert needed[1] >= needed[0]
