"""The command that a stranger runs, timed from outside."""

from echo_cli.bench.cold import cold_run


def test_a_cold_run_makes_the_whole_film_and_tells_when_it_began() -> None:
    run = cold_run(2)
    assert run.pictures == 32
    assert 0 < run.first_picture_s < run.wall_s
    assert run.pictures_a_second == run.pictures / run.wall_s
