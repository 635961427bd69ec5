"""A model of single frames, by the real command: pictures that come in, traces, resuming, batches and benches."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonschema import Draft202012Validator

from echo_cli.bench.contestants import contestant
from echo_cli.bench.filming import takes
from echo_cli.bench.judging import judge, wanted
from echo_cli.bench.scenarios import SCENARIOS, geometry_for, story
from echo_cli.cli.app import run
from echo_cli.render.keeper import Keeper
from echo_cli.trace.reader import read_trace
from tests.cli.test_pictures import carried, paint
from tests.render import stage
from tests.trace.test_schema import SCHEMA
from tests.video.clips import write_clip

MODEL = "random-small-framewise"
STORY = """scenes:
  - {id: meadow, prompt: a red ball on a meadow, duration: 7s, picture: meadow.png}
  - {id: desert, prompt: a blue star in the desert, duration: 1s, transition: hard cut}
  - {id: again, prompt: the red ball on the meadow, duration: 1.1s, transition: 'recall:meadow', picture: star.png}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("story.yaml").write_text(STORY)
    for seed, name in enumerate(("meadow.png", "star.png")):
        paint(Path(name).absolute(), seed)


def film(*arguments: str) -> np.ndarray:
    assert run(["generate", "story.yaml", "--model", MODEL, "-o", "frames/%04d.png", "--scale", "2", *arguments]) == 0
    return stage.pictures_in(Path("frames"))


@pytest.mark.parametrize("memory", ["echo", "recache", "scene-queries --set memory.trained=false"])
def test_a_film_of_single_frames_begins_with_its_picture_and_is_traced(memory: str) -> None:
    pictures = film("--memory", *memory.split())
    assert len(pictures) == 146  # 9.1 s at 16 pictures a second
    trace = read_trace(Path("frames/frames.trace.json"))
    Draft202012Validator(SCHEMA).validate(json.loads(Path("frames/frames.trace.json").read_text()))
    spans = trace.header.timeline
    assert trace.header.film.block_frames == 1 and len(trace) == 38
    assert [span.pictures[0] for span in spans] == [0, 113, 129]  # to the latent frame
    assert [trace.block(index).given for index in range(38)] == [1] + [0] * 32 + [1] + [0] * 4
    for begin, name in ((0, "meadow.png"), (129, "star.png")):
        assert abs(pictures[begin].astype(int) - carried(Path(name), begin == 0)).max() <= 1


def test_an_interrupted_film_of_single_frames_resumes_to_the_same_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = film()
    count = [0]

    def stop(keeper: Keeper) -> bool:
        count[0] += 1
        if count[0] > 30:
            raise KeyboardInterrupt
        return count[0] == 30

    with monkeypatch.context() as patched:
        patched.setattr(Keeper, "due", stop)
        with pytest.raises(AssertionError):
            film("--force")
    assert (film("--force") == whole).all()


HALVES = ([{"id": "meadow", "prompt": "a red ball on a meadow", "duration": 3}],
          [{"id": "desert", "prompt": "a blue star in the desert", "duration": 1, "transition": "hard cut"},
           {"id": "again", "prompt": "the red ball on the meadow", "duration": 1.5, "transition": "recall:meadow"}])


def film_of(scenes: list[dict], folder: str, *arguments: str, **top: object) -> np.ndarray:
    Path(f"{folder}.yaml").write_text(yaml.safe_dump({"scenes": scenes, **top}))
    assert run(["generate", f"{folder}.yaml", "--model", MODEL, "-o", f"{folder}/%04d.png", "--scale", "1",
                *arguments]) == 0
    return stage.pictures_in(Path(folder))


@pytest.mark.parametrize("memory", ["echo", "window", "scene-queries --set memory.trained=false"])
def test_two_halves_of_single_frames_are_one_film(memory: str) -> None:
    one, first = (film_of(scenes, folder, "--keep-end", "--memory", *memory.split()) for scenes, folder in (
        ([*HALVES[0], *HALVES[1]], "one"), (HALVES[0], "first")))
    rest = film_of(HALVES[1], "rest", **{"continue": "first/first.end"})
    assert (np.concatenate((first, rest)) == one).all()


def test_a_film_of_single_frames_recalls_a_place_of_another_and_continues_pictures() -> None:
    first = film_of(HALVES[0], "first", keep_scenes=True)
    street = {"id": "street", "prompt": "a blue star in the city", "duration": 1}
    again = {**HALVES[1][1], "transition": "recall:first/meadow"}
    film_of([street, again], "second", series="first/first.scenes")
    trace = read_trace(Path("second/second.trace.json"))
    recalled = [trace.header.name_of(each.recalled) for each in trace.scenes if each.recalled is not None]
    assert recalled == ["first/meadow"]
    write_clip(Path("clip.mkv"), len(first), 16, (96, 64))
    assert len(film_of(HALVES[0], "after", **{"continue": "clip.mkv"})) == 48
    trace = read_trace(Path("after/after.trace.json"))
    assert [trace.block(index).given for index in range(len(trace))] == [1] * 12 + [0] * 12


def test_every_command_knows_blocks_of_one_frame(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["validate", "story.yaml", "--model", MODEL, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["block_seconds"] == 0.25
    assert run(["batch", "story.yaml", "--model", MODEL, "--out-dir", "out", "--preset", "ultrafast"]) == 0
    assert Path("out/story.mp4").is_file()
    assert run(["generate", "story.yaml", "--model", MODEL, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "38 blocks; model random-small-framewise" in said and "memory: needs about" in said
    assert run(["batch", "story.yaml", "--model", MODEL, "--out-dir", "out", "--plan"]) == 0
    assert "story.yaml" in capsys.readouterr().out
    assert run(["inspect-cache", "out/story.trace.json", "--at", "7.2s"]) == 0
    assert "desert" in capsys.readouterr().out


def test_benches_measure_it_over_the_same_seconds() -> None:
    scenario, backend = SCENARIOS["recall-1"], stage.framewise()
    stories = {4: story(scenario, 4)}
    take, = takes(backend, scenario, contestant("echo"), stories, wanted(scenario)).values()
    assert set(take.pictures) == wanted(scenario) and len(take.latents) == 3 * scenario.blocks
    assert {len(pictures) for index, pictures in take.pictures.items() if index} == {12}
    figures = judge(scenario, stories[4], take, take, geometry_for(backend.spec), None).figures
    assert all(np.isfinite(value) for value in figures.values()) and "recall" in figures
