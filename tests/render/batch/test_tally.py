"""A batch's progress is of all its films, and what fails is not waited for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_cli.errors import OutputError
from echo_cli.render.batch.outcome import Film, Outcome, Status, failed
from echo_cli.render.batch.tally import Tally
from echo_cli.render.progress import JsonLines, Progress, Step, WholePercents, plain_line
from tests.render import stage


class Steps(Progress):
    every = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def tell(self, step: Step, rate: float, left: float) -> None:
        self.steps.append(step)


@pytest.fixture
def films(tmp_path: Path) -> Iterator[list[Film]]:
    yield [
        Film(number, f"shots/two\nlines {number}.yaml", stage.job(tmp_path, name=f"{number}.mp4"))
        for number in (2, 3, 5)
    ]


def step(picture: int) -> Step:
    return Step(picture // 11, 6, 1, 3, "meadow", picture, 66, 1000, 11, 1.0)


def test_the_share_is_of_all_films_that_are_still_wanted(films: list[Film]) -> None:
    progress = Steps()
    tally = Tally(films, 9, progress)
    tally.of(2).step(step(33))
    assert progress.steps[-1].percent == 16.6
    tally.of(2).step(step(66))
    tally.over(Outcome(2, "", Status.MADE))
    tally.of(3).step(step(22))
    tally.over(failed(3, "", OutputError("full")))  # 22 pictures were made, 44 will never be
    tally.step(5, step(11))
    assert progress.steps[-1].done == (99, 154)
    tally.step(5, step(66))
    assert progress.steps[-1].percent == 100


def test_a_film_that_is_made_again_takes_no_percentage_back(films: list[Film]) -> None:
    progress = Steps()
    tally = Tally(films, 3, progress)
    for picture in (11, 44, 0, 11, 55):
        tally.step(2, step(picture))
    shares = [one.percent for one in progress.steps]
    assert shares == sorted(shares) and shares[-1] == 27.7


def test_lines_name_the_film_and_keep_their_form(films: list[Film], capsys: pytest.CaptureFixture[str]) -> None:
    progress = Steps()
    Tally(films, 9, progress).step(3, step(33))
    line = plain_line(progress.steps[0], 31.24, 3723.4)
    assert line == ("Progress: 16.6% | film 3/9 two lines 3.yaml | block 3/6 | scene 1/3 meadow | picture 33/66 | "
                    "31.2 pictures/s | left 1:02:03 | memory 1.0 kB")
    import sys

    JsonLines(sys.stdout).tell(progress.steps[0], 1.0, 2.0)
    assert (
        '"percent": 16.6, "film": 3, "films": 9, "storyboard": "two\\nlines 3.yaml", "block": 3'
        in capsys.readouterr().out
    )
    WholePercents(sys.stdout).tell(progress.steps[0], 1.0, 2.0)
    assert capsys.readouterr().out.startswith("Progress: 16% | film 3/9")
