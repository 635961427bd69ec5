"""The ffmpeg binary: where it is, how to run it once, what its complaints mean. Knows no film."""

import errno
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from echo_cli.errors import EchoError, MissingError, OutputError
from echo_cli.files import REASONS, output_error

QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error")


@cache
def executable() -> str:
    """The binary that imageio-ffmpeg brings, or the one IMAGEIO_FFMPEG_EXE names."""
    import imageio_ffmpeg

    try:
        binary = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MissingError("there is no ffmpeg on this machine",
                           "pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to a binary") from error
    if not os.access(binary, os.X_OK):
        raise MissingError(f"ffmpeg at {binary} cannot be run",
                           "pip install --force-reinstall imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to a binary")
    return binary


def run(arguments: Sequence[str], cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """One short run with nothing on its standard input; the caller looks at the return code."""
    return subprocess.run([executable(), *QUIET, *arguments], stdin=subprocess.DEVNULL, capture_output=True, cwd=cwd)


def failure(returncode: int, complaint: str, path: Path) -> EchoError:
    """Why a writing ffmpeg stopped, for a person: the system's reason if it gave one, else its own last words."""
    if returncode == -signal.SIGXFSZ:
        return output_error(OSError(errno.EFBIG, ""), path)
    if returncode < 0:
        return OutputError(f"cannot write {path}: ffmpeg was stopped from outside (signal {-returncode})",
                           "look whether the machine ran out of memory, then run again")
    if os.strerror(errno.EPIPE) in complaint:
        return OutputError("whoever read the film stopped reading", "let the reader run to the end of the film")
    for number in REASONS:
        if os.strerror(number) in complaint:
            return output_error(OSError(number, ""), path)
    return OutputError(f"cannot write {path}: ffmpeg stopped: {cause(complaint)}",
                       "leave out --codec, --crf and --preset, or write elsewhere with -o")


def cause(complaint: str) -> str:
    """The first thing ffmpeg said, which is the reason; what follows are consequences."""
    for line in complaint.splitlines():
        if words := re.sub(r"^(\[[^]]*\] *)+", "", line.strip()):
            return words
    return "it did not say why"
