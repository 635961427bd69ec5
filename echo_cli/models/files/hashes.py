"""The sha256 of files too large to be read on every run: remembered while a file keeps its size and its time.

What is remembered can be deleted at any moment. Knows nothing of what is in the files.
"""

import json
from contextlib import suppress
from pathlib import Path

from echo_cli.errors import EchoError
from echo_cli.files import read_json, sha256, write_whole
from echo_cli.models.registry import cache_folder

_MOST = 1000  # files remembered; the oldest are forgotten


def known_sha256(path: Path) -> str:
    """The hash of the file's bytes, which are read only if they have changed since the last time."""
    mark = _mark(path)
    known = _remembered().get(str(path.resolve()))
    if isinstance(known, list) and known[:2] == mark:
        return str(known[2])
    return remember(path, sha256(path))


def recalled_sha256(path: Path) -> str | None:
    """The remembered hash of the file, without reading it."""
    known = _remembered().get(str(path.resolve()))
    return str(known[2]) if isinstance(known, list) and known[:2] == _mark(path) else None


def remember(path: Path, sha: str) -> str:
    """Remember that the file, as it is now, has this hash."""
    _write({**_others(path), str(path.resolve()): [*_mark(path), sha]})
    return sha


def forget(path: Path) -> None:
    """Forget the hash of a file: it will be read again."""
    if str(path.resolve()) in _remembered():
        _write(_others(path))


def _others(path: Path) -> dict[str, object]:
    return {name: value for name, value in _remembered().items() if name != str(path.resolve())}


def _write(table: dict[str, object]) -> None:
    """If the table cannot be written, nothing is remembered."""
    with suppress(OSError, EchoError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_whole(_place(), json.dumps(dict(list(table.items())[-_MOST:])))


def _mark(path: Path) -> list[int]:
    known = path.stat()
    return [known.st_size, known.st_mtime_ns]


def _place() -> Path:
    return cache_folder() / "hashes.json"


def _remembered() -> dict[str, object]:
    try:
        table = read_json(_place())
    except (OSError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}
