"""Requests to stop: a signal is noted when it arrives and acted on at the next block boundary, or when its grace ends.

A second signal stops at once, and so does the first when its grace is over. A closed terminal sends SIGHUP, often more
than once, so a repeated one changes nothing; where it is ignored, as under nohup, it stays ignored. If the main thread
is in one long operation and cannot react, the process ends anyway; the last checkpoint remains. Outside the main thread
Python delivers no signals, and there the host decides.
"""

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from echo_cli.errors import Exit, Interrupted

HURRYING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)  # as a second signal
SIGNALS = (*HURRYING, signal.SIGHUP)
GRACE = 25.0  # seconds: farms commonly kill half a minute after they asked
DEAF = 5.0  # seconds within which a run that was stopped immediately must end


class Interruption:
    """While open, holds off the signals that ask a run to stop; `check` at a boundary raises if one has come. `tell`
    is called immediately when one arrives, with how long it may take."""

    def __init__(self, tell: Callable[[str], None] | None = None, grace: float = GRACE) -> None:
        self.by: str | None = None
        self._tell, self._grace, self._late = tell or _print, grace, False
        self._before: dict[signal.Signals, Any] = {}
        self._over = threading.Event()

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._over.clear()
            self._inlet, outlet = os.pipe()
            os.set_blocking(self._inlet, False)
            os.set_blocking(outlet, False)
            self._outlet, self._wakeup = outlet, signal.set_wakeup_fd(outlet, warn_on_full_buffer=False)
            self._before = {number: signal.signal(number, self._note) for number in heeded()}
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        signal.set_wakeup_fd(self._wakeup)
        self._over.set()
        os.close(self._outlet)  # the watcher sees its end
        self._watcher.join()
        os.close(self._inlet)

    def check(self, where: str, hint: str | None = None) -> None:
        """`where` says how far the run has come, `hint` how to continue."""
        if self.by is not None:
            raise Interrupted(f"stopped by {self.by} {where}", hint)

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self._late:
            raise Interrupted(
                f"stopped by {self.by} in the middle of a block, which was not done within {self._grace:g} seconds"
            )
        if self.by is None:
            self.by = name
        elif number in HURRYING:
            raise Interrupted(f"stopped at once by {name}, after {self.by}")

    def _watch(self) -> None:
        """Beside the main thread, which sees a signal only between two operations: reports the first one and then
        measures the grace."""
        came = self._next(SIGNALS)
        if came is None:
            return
        self._tell(
            f"{signal.Signals(came).name}: stopping after this block, within {self._grace:g} seconds; "
            "a second signal stops at once"
        )
        if self._next(HURRYING, self._grace) is None and not self._over.is_set():
            self._late = True
            _thread.interrupt_main(signal.Signals(came))
        if not self._over.wait(DEAF):
            self._tell("stopped in the middle of a block")
            os._exit(Exit.INTERRUPTED)

    def _next(self, awaited: Sequence[int], patience: float | None = None) -> int | None:
        """The next of the signals; None when patience or the watch is over."""
        until = None if patience is None else time.monotonic() + patience
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            heard = select.select([self._inlet], [], [], left)[0] and os.read(self._inlet, 64)
            if not heard:
                return None
            if ours := [number for number in heard if number in awaited]:
                return ours[0]


def heeded() -> tuple[signal.Signals, ...]:
    """The signals that ask a run to stop here."""
    return HURRYING if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else SIGNALS


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
