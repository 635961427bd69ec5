"""The storyboards that teach become films, with the weights that travel in the package."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from echo_cli.models.tiny.model import WEIGHTS
from echo_cli.trace.reader import read_trace
from echo_cli.video.read import facts
from tests import forked

STORYBOARDS = sorted((Path(__file__).parents[2] / "storyboards").glob("*.yaml"))


def generate(storyboard: Path, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return forked.run("generate", storyboard, *options, cwd=folder)


@pytest.mark.slow
@pytest.mark.parametrize("storyboard", STORYBOARDS, ids=lambda path: path.stem)
def test_a_storyboard_that_teaches_becomes_a_film(storyboard: Path, tmp_path: Path) -> None:
    done = generate(storyboard, tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    made = facts(tmp_path / report["film"])
    assert round(made.seconds * made.fps) == report["pictures"] > 0
    manifest = json.loads((tmp_path / f"{storyboard.stem}.manifest.json").read_text())
    assert set(manifest["outputs"]) >= {"film", "trace"}
    assert generate(storyboard, tmp_path).stderr.count("skipped") == 1


@pytest.mark.slow
def test_the_second_of_two_episodes_returns_to_the_first(tmp_path: Path) -> None:
    for episode in (1, 2):
        shutil.copy(STORYBOARDS[0].parent / "series" / f"episode-{episode}.yaml", tmp_path)
    early = generate(Path("episode-2.yaml"), tmp_path)
    assert early.returncode == 2 and early.stderr.startswith("episode-2.yaml:5:9: series episode-1.scenes: there is no")
    assert early.stderr.count("\n") == 1
    for episode in (1, 2):
        done = generate(Path(f"episode-{episode}.yaml"), tmp_path)
        assert done.returncode == 0, done.stderr
    trace = read_trace(tmp_path / "episode-2.trace.json")
    back = [trace.header.name_of(record.recalled) for record in trace.scenes if record.recalled is not None]
    assert back == ["episode-1/shore", "episode-1/town"]


@pytest.mark.slow
def test_the_evening_continues_the_day(tmp_path: Path) -> None:
    for part in ("day", "evening"):
        shutil.copy(STORYBOARDS[0].parent / "continue" / f"{part}.yaml", tmp_path)
    assert generate(Path("evening.yaml"), tmp_path).returncode == 2
    assert generate(Path("day.yaml"), tmp_path, "--keep-end").returncode == 0
    done = generate(Path("evening.yaml"), tmp_path)
    assert done.returncode == 0, done.stderr
    trace = read_trace(tmp_path / "evening.trace.json")
    assert [trace.header.name_of(record.recalled) for record in trace.scenes if record.recalled is not None] == [
        "day/town", "day/meadow"]


def test_a_model_is_also_the_folder_of_its_weights(tmp_path: Path) -> None:
    """The same weights by name and by path make the same film."""
    short = tmp_path / "short.yaml"
    short.write_text(
        yaml.safe_dump({"scenes": [{"id": "one", "prompt": "a red ball rests on the beach", "duration": "1s"}]})
    )
    films = []
    for options in ([], ["--model", str(WEIGHTS)]):
        done = generate(short, tmp_path, "--force", "-o", "film.mp4", "--scale", "1", *options)
        assert done.returncode == 0, done.stderr
        films.append((tmp_path / "film.mp4").read_bytes())
    assert films[0] == films[1]


@pytest.mark.parametrize(
    ("model", "said"), [("./nowhere", "no model is in this folder"), ("tinny", "did you mean 'tiny'")]
)
def test_a_model_that_is_not_there(model: str, said: str, tmp_path: Path) -> None:
    named = tmp_path / "named.yaml"
    named.write_text(f"title: One\nmodel: {model}\nscenes: [{{prompt: a red ball in a meadow, duration: 2}}]\n")
    for done, place in ((generate(STORYBOARDS[0], tmp_path, "--model", model), ""),
                        (generate(named, tmp_path), f"{named}:2:1: ")):
        assert done.returncode in (2, 3) and said in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.startswith(place)
