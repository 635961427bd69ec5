"""The sha256 of files too large to be read on every run: remembered for as long as a file keeps its size and its time.

What is remembered can be thrown away at any moment. Knows nothing of what is in the files.
"""

import json
from contextlib import suppress
from pathlib import Path

from echo_cli.errors import EchoError
from echo_cli.files import read_json, sha256, write_whole
from echo_cli.models.registry import cache_folder

_MOST = 1000  # files remembered; the oldest are forgotten


def known_sha256(path: Path) -> str:
    """Of the file's bytes, read only if it has changed since it was last read."""
    mark = _mark(path)
    found = _remembered().get(str(path.resolve()))
    if isinstance(found, list) and found[:2] == mark:
        return str(found[2])
    return remember(path, sha256(path))


def recalled_sha256(path: Path) -> str | None:
    """What is remembered of the file, without reading it."""
    found = _remembered().get(str(path.resolve()))
    return str(found[2]) if isinstance(found, list) and found[:2] == _mark(path) else None


def remember(path: Path, sha: str) -> str:
    """That the file, as it is now, has this hash."""
    _write({**_others(path), str(path.resolve()): [*_mark(path), sha]})
    return sha


def forget(path: Path) -> None:
    """Nothing is known of the file any more: it will be read."""
    if str(path.resolve()) in _remembered():
        _write(_others(path))


def _others(path: Path) -> dict[str, object]:
    return {name: value for name, value in _remembered().items() if name != str(path.resolve())}


def _write(told: dict[str, object]) -> None:
    """Where nothing can be written, nothing is remembered."""
    with suppress(OSError, EchoError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        write_whole(_place(), json.dumps(dict(list(told.items())[-_MOST:])))


def _mark(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_size, found.st_mtime_ns]


def _place() -> Path:
    return cache_folder() / "hashes.json"


def _remembered() -> dict[str, object]:
    try:
        told = read_json(_place())
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}
