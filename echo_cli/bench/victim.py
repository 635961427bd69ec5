"""The process that renders a film and is interrupted: the real command, with a moment at which it gets a signal.

Runs in a child process, forked from one that has torch loaded. `faults` decides what is interrupted, when and how;
the caller says which function runs a command line.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from echo_cli.render.keeper import Keeper
from echo_cli.video.segments import SegmentedFilm

# The moments at which a signal can arrive: the function that is called then.
MOMENTS: dict[str, tuple[type, str]] = {
    "block": (Keeper, "due"), "checkpoint": (Keeper, "keep"),
    "join": (SegmentedFilm, "finish"), "naming": (SegmentedFilm, "publish"),
}


Command = Callable[[list[str]], int]  # runs a command line; its exit code


@dataclass(frozen=True, slots=True)
class Blow:
    """A signal, some seconds after a moment has come for the nth time."""

    moment: str
    nth: int
    delay: float
    signal: str


def make(run: Command, arguments: list[str], words: Path, blow: Blow | None) -> None:
    """Run `generate` with these arguments; its output goes to `words`. Ends the process."""
    torch.set_num_threads(1)
    said = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1) for number in (1, 2))
    if blow:
        _arm(blow)
    code = run(["generate", *arguments])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _arm(blow: Blow) -> None:
    owner, name = MOMENTS[blow.moment]
    called: Callable[..., Any] = getattr(owner, name)
    count = 0

    def strike() -> None:
        os.kill(os.getpid(), signal.Signals[blow.signal])

    def watched(*args: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == blow.nth:
            timer = threading.Timer(blow.delay, strike)
            timer.daemon = True
            timer.start()
        return called(*args, **named)

    setattr(owner, name, watched)
