"""What a command prints on standard error: an error and its hint, or its progress; how it fails in JSON; and when it
began.
"""

import io
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from contextvars import ContextVar
from itertools import pairwise
from typing import Any, TextIO

from echo_cli.errors import EchoError, OutputError
from echo_cli.render.progress import OpenJobDescription, Style, json_line, message_line

_EVERY = 5.0  # seconds between lines of progress when there is no terminal
_BEGAN: ContextVar[float] = ContextVar("began")
_STYLE: ContextVar[str] = ContextVar("style", default="")  # of progress, where errors are told in it


def begin(before: float) -> None:
    """A command runs in this process, and began that many seconds ago."""
    _BEGAN.set(time.monotonic() - before)


def began() -> float:
    """When, by the clock that only moves forward."""
    return _BEGAN.get()


class ObjectLines(io.TextIOBase):
    """Standard error that takes JSON objects, one a line; any other line that is written to it, such as a Python
    warning, becomes one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._rest = stream, ""

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in filter(str.strip, lines):
            self._stream.write(f"{line}\n" if _is_object(line) else message_line(line))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


@contextmanager
def as_asked(arguments: Sequence[str]) -> Iterator[None]:
    """Errors as the arguments of a call ask for them."""
    with redirect_stderr(sys.stderr):
        speak(next((style for style in (Style.JSON, Style.OPENJD) if f"--progress={style}" in arguments
                    or ("--progress", style) in pairwise(arguments)), ""))
        yield
        if isinstance(sys.stderr, ObjectLines):
            sys.stderr.write("\n")  # ends an unfinished line


def speak(style: str) -> None:
    """From here on, until the command ends, errors are told as this style of progress has them: with `json`, standard
    error takes JSON objects and nothing else; with `openjd`, standard output has a line for the farm."""
    _STYLE.set(style)
    if style == Style.JSON and not isinstance(sys.stderr, ObjectLines):
        sys.stderr = ObjectLines(sys.stderr)


def failure(problem: EchoError) -> dict[str, Any]:
    """What `--json` prints when there is no result."""
    return {"status": problem.status, "exit_code": int(problem.exit_code), "error": problem.message,
            "hint": problem.hint, "where": problem.where}


def tell(problem: EchoError) -> None:
    """Prints an error and its hint."""
    if isinstance(sys.stderr, ObjectLines):
        sys.stderr.write(json_line({"event": "error", "exit_code": int(problem.exit_code), "message": problem.message,
                                    "hint": problem.hint}))
        return
    red, dim, plain = ("\033[31m", "\033[2m", "\033[0m") if _coloured() else ("", "", "")
    print(f"{red}{problem.message}{plain}", file=sys.stderr)
    if problem.hint:
        print(f"{dim}hint:{plain} {problem.hint}", file=sys.stderr)


def tell_program(problem: EchoError, as_json: bool) -> None:
    """What failed, on standard output, for the program that reads it; ignored if nobody does."""
    with suppress(OSError, OutputError):
        if as_json:
            print(json.dumps(failure(problem)), flush=True)
        elif _STYLE.get() == Style.OPENJD and not problem.told:
            OpenJobDescription(sys.stdout).failed(problem.message)


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Lines:
    """Progress in one line: redrawn on a terminal, a few seconds apart elsewhere."""

    def __init__(self) -> None:
        self._printed, self._drawn = time.monotonic(), sys.stderr.isatty()

    def __call__(self, text: str, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._printed < (0.1 if self._drawn else _EVERY):
            return
        self._printed = now
        print(f"\r\033[K{text}" if self._drawn else text, end="\n" if last or not self._drawn else "",
              file=sys.stderr, flush=True)
