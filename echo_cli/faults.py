"""What an exception means to a person, and the log of one that is our own fault.

Knows the exceptions of Python and of torch, the latter without importing it. What only a failure needs is imported
then.
"""

import errno
import sys
from pathlib import Path

from echo_cli import __version__
from echo_cli.errors import EchoError, OutOfMemory
from echo_cli.files import output_error

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def known(error: BaseException) -> EchoError | None:
    """The error in words that a person can act on, when we have them."""
    if isinstance(error, EchoError):
        return error
    if isinstance(error, OSError) and error.errno in _FULL:
        return output_error(error, Path(error.filename or "standard output"))
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return OutOfMemory(f"out of memory: {error}".rstrip(": "),
                           hint="Lower the size, the memory's window, or take a smaller dtype.")
    return None


def details(error: BaseException) -> str:
    """The traceback, for a log."""
    import traceback

    return "".join(traceback.format_exception(error))


def write_log(told: str, arguments: list[str]) -> str:
    """Puts the details of a fault into a file; where it is, as a hint."""
    import platform
    import tempfile

    try:
        with tempfile.NamedTemporaryFile("w", prefix="echo-cli-", suffix=".log", delete=False, encoding="utf-8",
                                         errors="backslashreplace") as log:
            log.write(f"echo-cli {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
                      f"{arguments!r}\n\n{told}")
    except OSError as trouble:
        return f"This is a fault of ours. No log could be written ({trouble}); --debug shows the details."
    return f"This is a fault of ours: please report it with the log {log.name}"
