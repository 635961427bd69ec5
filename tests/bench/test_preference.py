"""The eye's preference between two films, as the command prints it: of drawn films whose right answer is known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from echo_cli.bench.eyesight import Trial, trials
from echo_cli.cli import app
from echo_cli.render.outputs import outputs_of
from echo_cli.storyboard.nouns import Kind, Scene
from echo_cli.video.writer import FilmWriter
from echo_cli.world.draw import HEIGHT, WIDTH
from tests.trace.story import timeline, write_story

SCENES = 4


def film(folder: Path, trial: Trial, turned: int = 0) -> str:
    """A film whose scenes show what their prompts say, or what another prompt says; its trace."""
    folder.mkdir()
    scenes = tuple(Scene(f"scene-{n}", prompt, 2.25, Kind.HARD_CUT if n else None)
                   for n, prompt in enumerate(trial.prompts[:SCENES]))
    trace = write_story(folder / "film.trace.json", scenes)
    shown = trial.pictures[:SCENES].roll(turned, 0)
    with FilmWriter(outputs_of(str(folder / "film.mp4"), "").film, WIDTH, HEIGHT, 16, scale=4) as writer:
        for span, pictures in zip(timeline(scenes).spans, shown, strict=True):
            drawn = torch.cat((pictures, pictures[-1:].expand(len(span.pictures) - len(pictures), -1, -1, -1)))
            writer.write((drawn * 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy())
        writer.close()
    return str(trace)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder, trial = tmp_path_factory.mktemp("films"), next(trials(SCENES))
    return {name: film(folder / name, trial, turned) for name, turned in (("right", 0), ("wrong", 1))}


@pytest.mark.parametrize(("before", "after", "preferred"), [
    ("wrong", "right", 1.0), ("right", "wrong", 0.0), ("right", "right", 0.5)])
def test_the_film_that_shows_what_its_prompts_say_is_preferred(
    films: dict[str, str], capsys: pytest.CaptureFixture[str], before: str, after: str, preferred: float
) -> None:
    assert app.run(["bench", "preference", films[before], films[after], "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["scenes"] == SCENES and result["preferred"] == preferred
    assert np.sign(result["gain"]["mean"]) == np.sign(preferred - 0.5)
    assert result["before"] > 0.6 if before == "right" else result["before"] < 0.5
    for name, shares in zip((before, after), zip(*result["right"].values(), strict=True), strict=True):
        assert (min(shares) == 1.0) is (name == "right")


def test_it_says_so_in_plain_text_of_films_too(films: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    wrong, right = (films[name].replace(".trace.json", ".mp4") for name in ("wrong", "right"))
    assert app.run(["bench", "preference", wrong, right]) == 0
    first, *aspects = capsys.readouterr().out.splitlines()
    assert first.startswith("4 scenes: the eye prefers the second film in 100%; alignment ")
    assert [line.split()[0] for line in aspects] == ["place", "time", "shape", "colour", "motion"]
    assert aspects[0].endswith("100.0%")


def test_what_cannot_be_compared_is_refused(
    films: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = write_story(tmp_path / "alone.trace.json")
    trial = next(trials(SCENES))
    other = film(tmp_path / "other", replace(trial, prompts=trial.prompts[::-1]))
    changed = film(tmp_path / "changed", next(trials(SCENES)))
    write_story(Path(changed))
    page = tmp_path / "page.html"
    page.write_text("<html>")
    for trace, said in ((str(page), "is not a trace"), (str(alone), "the film of this trace is missing"),
                        (other, "different prompts"), (changed, "has 141 pictures, and its trace 621")):
        assert app.run(["bench", "preference", films["right"], trace]) == 2
        assert said in (printed := capsys.readouterr()).err and "hint:" in printed.err and not printed.out
