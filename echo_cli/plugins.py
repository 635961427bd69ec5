"""What other packages add to the program through entry points.

A package takes part by declaring an entry point in one of our groups (`echo_cli.policies`, `echo_cli.models`,
`echo_cli.formats`), under the name that users will type. Names are read from the metadata of what is installed;
nothing of a package is imported until its entry is used, so that a broken package does not affect commands that do
not use it. Knows neither policies nor models nor formats.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from echo_cli.errors import MissingError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Row = TypeVar("Row")

_MARK = b"[echo_cli."  # the line of each of our groups in a package's entry_points.txt begins with this


class Table(Mapping[str, Row], Generic[Row]):
    """Our own rows by name, then those that other packages offer in `group`. Our names cannot be taken over.

    Iterating imports nothing. Looking up a row of another package imports that package, and raises a MissingError that
    names it if that fails.
    """

    def __init__(self, group: str, kind: type[Row], own: Mapping[str, Row]) -> None:
        self.group, self.kind, self.own = group, kind, dict(own)

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (name for name in _offered(self.group) if name not in self.own)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in _offered(self.group)

    def __getitem__(self, name: str) -> Row:
        if name in self.own:
            return self.own[name]
        first, *others = _offered(self.group)[name]
        if others:
            packages = ", ".join(_package(entry) for entry in (first, *others))
            raise MissingError(f"several packages offer '{name}' in {self.group}: {packages}",
                               hint="Uninstall all of them but one.")
        row = _load(first)
        if not isinstance(row, self.kind):
            raise MissingError(f"'{name}' comes from the package {_package(first)}, but {first.value} is not a "
                               f"{self.kind.__name__}", hint=_remedy(first))
        return row

    @contextmanager
    def blamed(self, name: str) -> Iterator[None]:
        """What fails in loading what a row of another package names is that package's fault, as a row is that fails."""
        try:
            yield
        except Exception as error:  # importing foreign code can raise anything
            if name in self.own:
                raise
            raise _unloadable(_offered(self.group)[name][0], error) from error


@cache
def _offered(group: str) -> Mapping[str, tuple["EntryPoint", ...]]:
    """The entry points of a group by name: more than one where several packages use the same name."""
    if not any(map(_mentions_us, sys.path)):
        return {}  # without `importlib.metadata`, whose import takes longer than all the rest of a command's --help
    from importlib.metadata import entry_points

    offered: dict[str, list[EntryPoint]] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: (entry.name, _package(entry))):
        offered.setdefault(entry.name, []).append(entry)
    return {name: tuple(entries) for name, entries in offered.items()}


def _mentions_us(place: str) -> bool:
    """Whether a package that is installed in this folder declares an entry point of ours."""
    try:
        with os.scandir(place or ".") as inside:
            folders = [entry.path for entry in inside if entry.name.endswith((".dist-info", ".egg-info"))]
    except OSError:  # not a folder, or one that cannot be read
        return False
    for folder in folders:
        try:
            if _MARK in Path(folder, "entry_points.txt").read_bytes():
                return True
        except OSError:
            continue
    return False


def _package(entry: "EntryPoint") -> str:
    return entry.dist.name if entry.dist else entry.module


@cache
def _load(entry: "EntryPoint") -> object:
    try:
        return entry.load()
    except Exception as error:  # importing foreign code can raise anything
        raise _unloadable(entry, error) from error


def _unloadable(entry: "EntryPoint", error: Exception) -> MissingError:
    return MissingError(f"'{entry.name}' comes from the package {_package(entry)}, which cannot be loaded: "
                        f"{type(error).__name__}: {error}", hint=_remedy(entry))


def _remedy(entry: "EntryPoint") -> str:
    return f"Update {_package(entry)} or uninstall it. --debug shows the traceback."
