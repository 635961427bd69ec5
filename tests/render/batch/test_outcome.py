"""How a film's end is told: what another process holds is neither a failure nor an interruption."""

import pytest

from echo_cli.errors import EchoError, Exit, Held, Interrupted, OutputError
from echo_cli.render.batch.outcome import Status, exit_code, failed


@pytest.mark.parametrize(("error", "status", "code"), [
    (Held("film.mp4 is being rendered by process 7"), Status.HELD, 75),
    (Interrupted("stopped"), Status.INTERRUPTED, 75),
    (OutputError("full"), Status.FAILED, 5), (EchoError("ours"), Status.FAILED, 1),
])
def test_an_error_has_its_own_status(error: EchoError, status: Status, code: int) -> None:
    outcome = failed(3, "a.yaml", error)
    assert (outcome.status, outcome.exit_code) == (status, code)
    said = outcome.plain(4)
    assert (said["status"], said["exit_code"]) == (status.value, code)


def test_a_film_that_is_held_asks_a_farm_to_come_again() -> None:
    assert exit_code([failed(1, "a", Held("held")), failed(2, "b", OutputError("full"))]) is Exit.INTERRUPTED
