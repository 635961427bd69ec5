"""Films that are struck: the bench sees what is wrong, and finds nothing wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from echo_cli.bench.faults import Strike, _finished, _whole, measure, table
from echo_cli.bench.victim import MOMENTS
from echo_cli.cli.app import run
from tests.render.stage import job
from tests.render.test_resume import made

STRIKE = Strike(1, "film.mp4", "SIGKILL", "block", -9, "block 3 of 42", True, True, "")


def test_the_table_adds_up() -> None:
    rows = list(
        table(
            [STRIKE, replace(STRIKE, code=75, kept=None, same=None), replace(STRIKE, film=2, whole=False, same=False)]
        )
    )
    assert "SIGKILL" in rows[1] and rows[1].endswith("the same") and "exit 75" in rows[2] and "nothing" in rows[2]
    assert "INCOMPLETE" in rows[3] and rows[3].endswith("OTHER")
    assert rows[-1].startswith("3 interruptions of 2 films: 1 of 2 came out") and "2 of 3 times every file" in rows[-1]


def test_every_moment_is_there_to_be_struck() -> None:
    assert all(callable(getattr(owner, name)) for owner, name in MOMENTS.values())


@pytest.mark.parametrize("shape", ["film.mp4", "%03d.png"])
def test_a_film_that_is_not_whole_is_seen(tmp_path: Path, shape: str) -> None:
    whole, other = tmp_path / "a" / "film", tmp_path / "b" / "film"
    made(job(whole, name=shape))
    made(job(other, name=shape))
    assert _finished(other, shape, whole) and _whole(other, shape, whole)
    (other / "film.trace.json").rename(other / "film.trace.json.partial")
    assert _whole(other, shape, whole) and not _finished(other, shape, whole)
    picture = other / ("film.mp4" if shape == "film.mp4" else "007.png")
    picture.write_bytes(picture.read_bytes()[:-1])
    assert not _whole(other, shape, whole)


@pytest.mark.slow
def test_films_survive_being_struck() -> None:
    strikes = list(measure(run, 6, seed=7))
    assert len(strikes) >= 6 and all(strike.whole and strike.same is not False for strike in strikes), "\n".join(
        table(strikes)
    )
