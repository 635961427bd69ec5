"""A signal waits for the block, a second one does not."""

import os
import signal
import threading

import pytest

from echo_cli.errors import Interrupted
from echo_cli.render.signals import SIGNALS, Interruption


@pytest.mark.parametrize("number", SIGNALS)
def test_one_signal_is_acted_on_at_the_boundary(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interruption() as interruption:
        interruption.check("after block 1 of 9")
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted, match=f"{number.name} after block 2 of 9") as caught:
            interruption.check("after block 2 of 9")
    assert caught.value.exit_code == 75
    assert signal.getsignal(number) is before


def test_a_second_signal_stops_at_once() -> None:
    with pytest.raises(Interrupted, match="at once"), Interruption():
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("went on")


def test_other_threads_take_no_signals() -> None:
    before = signal.getsignal(signal.SIGINT)

    def run() -> None:
        with Interruption() as interruption:
            interruption.check("never")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
