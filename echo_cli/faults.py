"""What an exception means to a user, and the log of an internal error.

Knows the exceptions of Python and of torch, the latter without importing it. Imports are deferred until there is a
failure.
"""

import errno
import os
import sys
from pathlib import Path

from echo_cli import __version__
from echo_cli.errors import EchoError, OutOfMemory, OutputError, UsageError
from echo_cli.files import REASONS, output_error

_PATHS = {errno.ENAMETOOLONG: "Check the path.", errno.EACCES: "Check the path and its permissions."}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def known(error: BaseException) -> EchoError | None:
    """The error as one that a user can act on, if it is a known kind."""
    if isinstance(error, EchoError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return output_error(error, Path(error.filename)) if error.filename else OutputError(
            f"cannot write standard output: {REASONS[error.errno][0]}", "Free some space.")
    if isinstance(error, OSError) and error.errno in _PATHS and error.filename:
        return UsageError(f"{os.fsdecode(error.filename)}: {REASONS[error.errno][0]}", _PATHS[error.errno])
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return OutOfMemory(f"out of memory: {error}".rstrip(": "),
                           hint="Use a smaller --size, memory window or --dtype.")
    return None


def details(error: BaseException) -> str:
    """The traceback, for a log."""
    import traceback

    return "".join(traceback.format_exception(error))


def write_log(traceback: str, arguments: list[str]) -> str:
    """Writes the details of an internal error to a file and returns the hint that names it."""
    import platform
    import tempfile

    try:
        with tempfile.NamedTemporaryFile("w", prefix="echo-cli-", suffix=".log", delete=False, encoding="utf-8",
                                         errors="backslashreplace") as log:
            log.write(f"echo-cli {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
                      f"{arguments!r}\n\n{traceback}")
    except OSError as trouble:
        return f"This is an internal error. No log could be written ({trouble}); use --debug to see the details."
    return f"This is an internal error. Please report it with the log {log.name}."
