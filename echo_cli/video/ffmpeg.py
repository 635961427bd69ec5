"""The ffmpeg binary: where it is, how to run it once, what its error messages mean. Knows no film."""

import errno
import os
import re
import signal
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from echo_cli.errors import EchoError, MissingError, OutputError, ReaderGone
from echo_cli.files import REASONS, output_error

QUIET = ("-hide_banner", "-nostdin", "-loglevel", "error")


@cache
def executable() -> str:
    """The binary that imageio-ffmpeg brings, or the one IMAGEIO_FFMPEG_EXE names."""
    import imageio_ffmpeg

    try:
        binary: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MissingError("there is no ffmpeg on this machine",
                           "Run `pip install imageio-ffmpeg`, or set IMAGEIO_FFMPEG_EXE to a binary.") from error
    if not os.access(binary, os.X_OK):
        raise MissingError(f"ffmpeg at {binary} cannot be run",
                           "Run `pip install --force-reinstall imageio-ffmpeg`, or set IMAGEIO_FFMPEG_EXE to a binary.")
    return binary


def run(arguments: Sequence[str], cwd: Path | None = None,
        inherited: Sequence[int] = ()) -> subprocess.CompletedProcess[bytes]:
    """One run with nothing on its standard input and these file descriptors; the caller looks at the return code."""
    return subprocess.run([executable(), *QUIET, *arguments], stdin=subprocess.DEVNULL, capture_output=True, cwd=cwd,
                          pass_fds=inherited)


def failure(returncode: int, complaint: str, path: Path) -> EchoError:
    """Why a writing ffmpeg stopped, for a person: the system's reason if it gave one, else ffmpeg's own message."""
    if returncode == -signal.SIGXFSZ:
        return output_error(OSError(errno.EFBIG, ""), path)
    if returncode == -signal.SIGPIPE or os.strerror(errno.EPIPE) in complaint:
        return ReaderGone()
    if returncode < 0:
        return OutputError(f"cannot write {path}: ffmpeg was killed (signal {-returncode})",
                           "Check whether the machine ran out of memory, then run again.")
    for number in REASONS:
        if os.strerror(number) in complaint:
            return output_error(OSError(number, ""), path)
    return OutputError(f"cannot write {path}: ffmpeg stopped: {cause(complaint)}",
                       "Leave out --codec, --crf and --preset, or write elsewhere with -o.")


def cause(complaint: str) -> str:
    """The first line of ffmpeg's message, which is the reason; the rest are consequences."""
    for line in complaint.splitlines():
        if words := re.sub(r"^(\[[^]]*\] *)+", "", line.strip()):
            return words
    return "it gave no reason"
