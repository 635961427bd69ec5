"""Being asked to stop: a signal is noted when it comes and acted on at the next block boundary.

A second one stops at once. Outside the main thread Python delivers no signals, and there the host decides.
"""

import signal
import threading
from types import FrameType

from echo_cli.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interruption:
    """While open, holds off the signals that ask a run to stop; `check` at a boundary raises if one has come."""

    def __init__(self) -> None:
        self.by: str | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.by is not None:
            raise Interrupted(f"stopped at once by {name}, after {self.by}")
        self.by = name

    def check(self, where: str) -> None:
        """`where` says how far the run has come."""
        if self.by is not None:
            raise Interrupted(f"stopped by {self.by} {where}")
