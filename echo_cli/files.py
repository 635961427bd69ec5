"""Files that appear whole or not at all: written beside their final name, flushed to the disk, then renamed.

Films, traces and manifests are all written through this module, so that a name without `.partial` always means a
complete file, and a full disk or a locked folder always gives the same message. What the files contain is not known
here.
"""

import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from echo_cli.errors import OutputError

PARTIAL = ".partial"
PAGE = b"default-src 'none'"  # of the policy that keeps a page from loading anything
OPENING = b'{"format":"echo-'  # of everything that we write in JSON, but for its spaces
MOST = 1 << 26  # bytes of a description, a manifest or a checkpoint's note; ours are far smaller
LONGEST = 255  # bytes of a file name on nearly every file system

# errno → (what happened, what to try); for any other, the system's message
REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space, or write to another disk with -o."),
    errno.EDQUOT: ("your disk quota is used up", "Free some space, or write to another disk with -o."),
    errno.EFBIG: ("the file would be larger than this account may write", "Raise `ulimit -f`, or make a shorter film."),
    errno.EROFS: ("the file system is read-only", "Choose a folder you may write to with -o."),
    errno.EACCES: ("permission denied", "Choose a folder you may write to with -o."),
    errno.EPERM: ("permission denied", "Choose a folder you may write to with -o."),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "Choose a shorter name with -o."),
    errno.ENOTDIR: ("a part of its path is a file, not a folder", "Choose another name with -o."),
    errno.EEXIST: ("a part of its path is a file, not a folder", "Choose another name with -o."),  # from mkdir
    errno.EISDIR: ("it is a folder", "Choose another name with -o."),
    errno.ENOENT: ("its folder does not exist any more", "Make the folder again, or choose another with -o."),
    errno.ELOOP: ("its path leads through links that lead back to themselves", "Remove the links, or choose another "
                  "name with -o."),
    errno.EIO: ("the disk reports an error", "Check the disk, or write to another with -o."),
}


def fitted(path: Path, ending: str) -> Path:
    """The name with an ending; if it would be too long for a file system, a hash of the whole replaces its middle."""
    name = path.name + ending
    if len(os.fsencode(name)) > LONGEST:
        mark = "~" + hashlib.sha256(os.fsencode(name)).hexdigest()[:8] + ending
        name = os.fsencode(path.name)[:LONGEST - len(mark)].decode("utf-8", "ignore") + mark
    return path.with_name(name)


def partial(path: Path) -> Path:
    """Where a file grows until it is complete."""
    return fitted(path, PARTIAL)


def output_error(error: OSError, path: Path, option: str | None = "-o") -> OutputError:
    """The OutputError for a failed write; `option` is the one that names the file, None where an argument does."""
    what, hint = REASONS.get(error.errno or 0, (error.strerror or str(error), "Choose another place with -o."))
    return OutputError(f"cannot write {path}: {what}", hint.replace(" with -o", f" with {option}" if option else ""))


@contextmanager
def output_errors(path: Path, option: str | None = "-o") -> Iterator[None]:
    """Every OSError inside becomes an OutputError about `path`, which `option` names."""
    try:
        yield
    except OSError as error:
        raise output_error(error, path, option) from error


def make_folder(path: Path, ours: Callable[[str], bool], what: str) -> None:
    """A folder to write `what` into; an OutputError if it holds anything whose name is not `ours`, so that files of
    other origin are never overwritten."""
    with output_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        strange = sorted(name for name in os.listdir(path) if not ours(name.removesuffix(PARTIAL)))
    if strange:
        raise OutputError(f"{path} holds something that {what} did not write: {strange[0]}",
                          "Name another folder, or an empty one.")


def publish(path: Path, growing: Path | None = None, option: str | None = "-o") -> None:
    """Rename the finished file, its `.partial` unless it grew elsewhere; afterwards it survives a power cut."""
    growing = growing or partial(path)
    with output_errors(path, option):
        flush(growing)
        growing.replace(path)
        flush(path.parent)


def flush(path: Path) -> None:
    """When this returns, everything the system had buffered for a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str, option: str | None = "-o") -> None:
    """Write and publish a small file; a pipe or a device in its place is left alone."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OutputError(f"cannot write {path}: it is a device or a pipe", "Choose another name.")
    write_partial(path, text, option)
    publish(path, option=option)


def check_replaceable(path: Path, ours: Callable[[bytes], bool], option: str | None = "-o") -> None:
    """An OutputError if a file is there already and its content is not `ours`, or if its folder, which is made, cannot
    take it: known before whatever it takes to fill the file."""
    with output_errors(path, option):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(path.parent, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "")
        data = read_small(path) if os.path.lexists(path) else b""
    if data and not ours(data):
        raise OutputError(f"{path} was not written by this command", "Choose another name, or move it away.")


def is_binary(data: bytes) -> bool:
    """Whether the beginning of a file is that of no text."""
    return b"\0" in data[:4096]


def begins_as_ours(path: Path) -> bool:
    """Whether a file is a trace, a manifest or a note of ours by its beginning, even if that is cut short."""
    with path.open("rb") as file:
        head = b"".join(file.read(100).split())[:len(OPENING)]
    return OPENING.startswith(head)


def is_page(data: bytes) -> bool:
    """Whether it is a report page: every page of ours has PAGE near its beginning."""
    return PAGE in data[:1000]


def is_json_of(kind: str) -> Callable[[bytes], bool]:
    """Whether data is a JSON object that says that it is of this kind."""

    def ours(data: bytes) -> bool:
        try:
            value = parse_json(data)
        except ValueError:
            return False
        return isinstance(value, dict) and value.get("kind") == kind

    return ours


def write_page(path: Path, text: str, option: str | None = "--html") -> None:
    """Write a report page, overwriting nothing but another one."""
    check_replaceable(path, is_page, option)
    write_whole(path, text, option)


def write_partial(path: Path, text: str, option: str | None = "-o") -> None:
    """Write a small file without its final name; `publish` renames it, which needs no disk space."""
    with output_errors(path, option):
        try:
            partial(path).write_text(text, encoding="utf-8")
        except OSError:
            partial(path).unlink(missing_ok=True)
            raise


def own(path: Path) -> None:
    """Copy the file onto itself, so that a process that still has the old one open no longer writes here."""
    with output_errors(path):
        try:
            shutil.copyfile(path, partial(path))
        except FileNotFoundError:
            return
        except OSError:
            partial(path).unlink(missing_ok=True)
            raise
    publish(path)


def open_regular(path: Path) -> BinaryIO:
    """A file opened to read; an OSError if it is a pipe, a device or a folder. Never waits for a pipe."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        kind = os.fstat(handle).st_mode
        if not stat.S_ISREG(kind):
            code = errno.EISDIR if stat.S_ISDIR(kind) else errno.EINVAL
            raise OSError(code, os.strerror(code) if stat.S_ISDIR(kind) else "it is a pipe or a device, not a file")
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_small(path: Path, most: int = MOST) -> bytes:
    """The bytes of a small file; an OSError if it is large or not a regular file."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EFBIG, f"it is larger than {most} bytes")
    return data


def read_json(path: Path) -> Any:
    """What a small file of JSON holds; an OSError or a ValueError says why it cannot be read."""
    return parse_json(read_small(path))


def parse_json(data: bytes | str, strict: bool = False) -> Any:
    """A value of JSON; a ValueError also if it is nested too deeply and, if `strict`, for NaN and infinities."""
    try:
        return json.loads(data, parse_constant=_refuse if strict else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def why_unreadable(error: Exception) -> str:
    """Why a file cannot be read, or not as JSON with certain keys: in words of ours, not in a library's."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON at line {error.lineno}, column {error.colno}"
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, KeyError):
        return f"it does not give '{error.args[0]}'"
    if isinstance(error, TypeError | AttributeError | IndexError):
        return "a value is of the wrong kind"
    if type(error).__name__ == "SafetensorError":
        return "its tensors are damaged or cut short"
    return str(error)


def sha256(*paths: Path) -> str:
    """Of the bytes of the files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
