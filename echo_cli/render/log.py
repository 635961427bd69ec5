"""A run's log in a file, for the morning after: what ran, on what, and its messages, line by line.

Lines are appended, so a film that took several sittings has one log. Knows no film; callers decide what to log.
"""

import datetime
import os
import platform
import socket
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from echo_cli import __version__
from echo_cli.errors import EchoError, Exit, OutputError
from echo_cli.faults import details
from echo_cli.files import output_errors
from echo_cli.machine import cores, memory
from echo_cli.render.progress import Plain, Progress, Step
from echo_cli.text import plural, size

DATA = (".yaml", ".yml", ".json", ".srt", ".vtt", ".otio", ".edl", ".fcpxml", ".html", ".csv")
PACKAGES = ("torch", "numpy", "safetensors", "imageio-ffmpeg")


class Log:
    """A file that takes lines, each with its time; as a context it logs how the run ended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with output_errors(path, "--log-file"):
            path.parent.mkdir(parents=True, exist_ok=True)
            _check_text(path)
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, EchoError):
            self.line(f"ended with exit code {int(error.exit_code)}: {error.message}")
            self.line(f"hint: {error.hint}" if error.hint else "no hint")
        if error is not None and getattr(error, "exit_code", Exit.FAULT) not in (Exit.USAGE, Exit.INTERRUPTED):
            self.line(details(error).rstrip())
        with suppress(OutputError) if error else nullcontext(), output_errors(self.path, "--log-file"):
            self._file.close()

    def head(self, arguments: list[str]) -> None:
        """What every log begins with: version and machine."""
        self.line(
            f"echo-cli {__version__}, Python {platform.python_version()}, " + ", ".join(map(_installed, PACKAGES))
        )
        self.line(f"machine: {socket.gethostname()}, {platform.platform()}, {cores()} of "
                  f"{plural(os.cpu_count() or 1, 'core')}{_memory()}, process {os.getpid()}")
        self.line(f"command: {arguments!r} in {os.getcwd()}")

    def settings(self, settings: Mapping[str, Any]) -> None:
        """What is about to be made, each setting on its line."""
        for name, value in settings.items():
            self.line(f"{name}: {value}")

    def line(self, text: str) -> None:
        """Not flushed to the disk; a log that cannot be written does not stop a film."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        try:
            self._file.write("".join(f"{now} {part}\n" for part in text.splitlines()))
            self._file.flush()
        except (OSError, ValueError):
            return

    def hearing(self, teller: Progress) -> Progress:
        """The teller, with this log as another listener."""
        return Logged(teller, self)

    def write(self, text: str) -> None:
        """As a stream, for code that prints lines."""
        if text.strip():
            self.line(text)

    def flush(self) -> None:
        """Every line has been."""


class NoLog:
    """Stands in for a log if none was requested."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was opened."""

    def settings(self, settings: Mapping[str, Any]) -> None:
        """Not written down."""

    def line(self, text: str) -> None:
        """Not written down."""

    def hearing(self, teller: Progress) -> Progress:
        return teller


def _check_text(path: Path) -> None:
    """An OutputError for a file that no line should be appended to: a storyboard, a film, anything that is not text."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        start = file.read(1000)
    if b"\0" in start or (start and path.suffix.lower() in DATA):
        raise OutputError(f"{path} is not a log, and lines would be appended to it", "Name another file.")


def open_log(path: str | os.PathLike[str] | None, arguments: list[str]) -> Log | NoLog:
    """The log of a run, with its head written."""
    if path is None:
        return NoLog()
    log = Log(Path(path))
    log.head(arguments)
    return log


class Logged(Progress):
    """Passes everything on, and logs some of it."""

    def __init__(self, teller: Progress, log: Log) -> None:
        super().__init__()
        self._teller, self._log, self._lines = teller, log, Plain(log)

    def __enter__(self) -> Self:
        self._teller.__enter__()
        self._lines.__enter__()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._teller.__exit__(kind, error, trace)

    def step(self, step: Step) -> None:
        self._teller.step(step)
        self._lines.step(step)

    def say(self, text: str) -> None:
        self._teller.say(text)
        self._log.line(text)

    def warn(self, text: str) -> None:
        self._teller.warn(text)
        self._log.line(text)

    def failed(self, message: str) -> None:
        self._teller.failed(message)


def _installed(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return f"no {package}"


def _memory() -> str:
    total = memory()
    return "" if total is None else f", {size(total)}"
