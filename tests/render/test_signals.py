"""A signal waits for the block, a second one does not."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_cli.errors import Interrupted
from echo_cli.render.signals import SIGNALS, Interruption


@pytest.fixture(autouse=True)
def in_a_terminal() -> Iterator[None]:
    """Also where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


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


def test_a_hang_up_that_comes_again_hurries_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system sends it when a terminal closes, and so does the shell in it."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr("echo_cli.render.signals.DEAF", 0.05)
    with Interruption(lambda text: None) as interruption:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.1)
        assert interruption.by == "SIGHUP" and not ended
        with pytest.raises(Interrupted, match="at once by SIGTERM, after SIGHUP"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interruption(lambda text: None) as interruption:
        os.kill(os.getpid(), signal.SIGHUP)
        interruption.check("after block 1 of 9")
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_other_threads_take_no_signals() -> None:
    before = signal.getsignal(signal.SIGINT)

    def run() -> None:
        with Interruption() as interruption:
            interruption.check("never")

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_signal_will_do_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    results: list[str] = []
    with Interruption(results.append, grace=7):
        os.kill(os.getpid(), signal.SIGUSR1)
        for _ in range(200):
            if results:
                break
            time.sleep(0.01)
    assert results == ["SIGUSR1: stopping after this block, within 7 seconds; a second signal stops at once"]
    assert capsys.readouterr() == ("", "")


def test_a_block_that_takes_too_long_is_not_waited_for() -> None:
    with pytest.raises(
        Interrupted, match=r"by SIGTERM in the middle of a block, which was not done within 0\.1 seconds"
    ), Interruption(lambda text: None, grace=0.1):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(500):
            time.sleep(0.01)
        pytest.fail("went on")


DEEP = """
import os, signal, sys, time
from echo_cli.render import signals
signals.DEAF = 0.2
with signals.Interruption(grace=0.1):
    os.kill(os.getpid(), signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, [])  # the handler has run
    signals._thread.interrupt_main = lambda number: None  # as deep in one operation, where Python does not hear
    time.sleep(20)
"""


def test_a_run_that_does_not_hear_ends_all_the_same() -> None:
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", DEEP], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 75 and time.monotonic() - began < 15
    assert (
        "within 0.1 seconds" in done.stderr
        and "in the middle of a block" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_nothing_of_it_is_left() -> None:
    before = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Interruption(lambda text: None) as interruption:
            os.kill(os.getpid(), signal.SIGINT)
            assert interruption.by == "SIGINT"
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == before
