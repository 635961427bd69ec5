"""Standard streams that the program which started the tool has closed, or that take nothing; the content of a file on
standard output, and how wide a table may be there.

A missing stream is replaced by one whose use is an error for people; its number stays taken, or the first file that is
opened would get it, and with it whatever else is printed there. What is told on standard error is a courtesy: if it is
closed, if its disk is full or if its reader has gone, the run goes on silently.
"""

import io
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from echo_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

PIPE = 132  # columns, where no terminal says how many


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


class Courtesy(io.RawIOBase):
    """Standard error. Once it has refused something, it takes everything and keeps nothing."""

    silent = False

    def write(self, data: Any) -> int:
        if not self.silent:
            try:
                return os.write(2, data)
            except OSError:
                self.silent = True
        return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)


def closed_output() -> OutputError:
    return OutputError("cannot write standard output: it is closed")


def print_file(text: str) -> None:
    """The content of a file on standard output: UTF-8 in every locale, as in the file."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    print(text, end="")


def columns() -> int:
    """How wide a table on standard output may be: as the terminal or COLUMNS say, or wider where neither says it."""
    return shutil.get_terminal_size((PIPE, 24)).columns


def console() -> "Console":
    """For tables and pictures of characters."""
    from rich.console import Console

    return Console(highlight=False, width=columns())


def replace_streams() -> None:
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
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    sys.stderr = io.TextIOWrapper(io.BufferedWriter(Courtesy()), encoding, line_buffering=True)
