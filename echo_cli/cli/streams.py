"""Standard streams that the program which started the tool has closed.

A missing stream is replaced by one whose use is an error for people, standard error by one that discards. Its number
stays taken: the first file that is opened would get it, and with it whatever else is printed there.
"""

import io
import os
import sys
from typing import NoReturn

from echo_cli.errors import OutputError, UsageError


class NoOutput(io.TextIOBase):
    """Standard output that is closed: a command that prints nothing does not notice."""

    closed = True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError("this stream takes text")
        if text:
            raise closed_output()
        return 0

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


class NoInput(io.TextIOBase):
    """Standard input that is closed."""

    @property
    def buffer(self) -> NoReturn:
        raise UsageError("standard input is closed", "Name a file instead of '-', or pipe something in.")

    def isatty(self) -> bool:
        return False


def closed_output() -> OutputError:
    return OutputError("cannot write standard output: it is closed")


def replace_missing() -> None:
    """Called once, before anything is opened."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the least free number is this one
    if sys.stdin is None:
        sys.stdin = NoInput()
    if sys.stdout is None:
        sys.stdout = NoOutput()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
