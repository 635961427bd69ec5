"""The storyboards that files, folders, globs and a list on standard input name: each once, in an order that depends on
their paths alone.

Reads names, never storyboards: a missing or faulty one is reported when it is read.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from glob import glob, has_magic

from echo_cli.errors import UsageError

SUFFIXES = (".yaml", ".yml")
STDIN = "-"


def storyboards(paths: Iterable[str]) -> list[str]:
    """Every storyboard that `paths` name, as they were spelled; `-` stands for a list of paths on standard input."""
    by_path: dict[str, str] = {}
    for path in paths:
        named = [one for line in _lines() for one in _under(line)] if path == STDIN else list(_named(path))
        for one in named:
            by_path.setdefault(os.path.abspath(one), one if one != STDIN else os.path.join(os.curdir, one))
    if not by_path:
        raise UsageError(
            "there is no storyboard to render", "Name files, folders, globs, or - for a list on standard input."
        )
    return [by_path[key] for key in sorted(by_path, key=os.fsencode)]


def _named(path: str) -> Iterator[str]:
    """What one argument names; a name that exists is never a pattern."""
    if os.path.lexists(path) or not has_magic(path):
        yield from _under(path)
        return
    matches = glob(path, recursive=True)
    kept = [
        one for match in matches for one in (_under(match) if os.path.isdir(match) else [match] * _is_storyboard(match))
    ]
    if not kept:
        raise UsageError(f"{path}: no storyboard matches", f"Storyboards end in {' or '.join(SUFFIXES)}.")
    yield from kept


def _under(path: str) -> Iterator[str]:
    """A file as named, whatever it is; in a folder, every storyboard in it and below, except hidden ones."""
    if not os.path.isdir(path):
        yield path
        return
    empty = True
    for folder, below, names in os.walk(path):
        below[:] = [name for name in below if not name.startswith(".")]
        for name in filter(_is_storyboard, names):
            empty = False
            yield os.path.join(folder, name)
    if empty:
        raise UsageError(f"{path}: this folder holds no storyboard", f"Storyboards end in {' or '.join(SUFFIXES)}.")


def _is_storyboard(path: str) -> bool:
    name = os.path.basename(path)
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _lines() -> list[str]:
    """The list on standard input: one path a line, or separated by NULs, as `find -print0` writes them for names that
    have line breaks."""
    data = sys.stdin.buffer.read()
    return [os.fsdecode(name) for name in (data.split(b"\0") if b"\0" in data else data.splitlines()) if name.strip()]
