"""Options as the annotated fields of frozen dataclasses: one field says everything about an option.

From the fields come the signatures of commands and of the Python API, help, completion, the log, the identity of a film
and the command line that makes it. Knows fields, not films; `request` defines the options.
"""

import os
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from enum import Enum, StrEnum, auto
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from echo_cli.errors import UsageError, did_you_mean

PREFIX = "ECHO_"  # of the variables that give options their defaults


# What a value of a type is called.
_WORDS = {bool: "True or False", str: "text", os.PathLike: "a path", Mapping: "a mapping", Sequence: "a list"}


class Panel(StrEnum):
    """The groups of options in help, in order."""

    STORYBOARD = "Storyboard"
    PICTURE = "Picture"
    MEMORY = "Memory"
    MACHINE = "Machine"
    INTERRUPTION = "Interruption"
    OUTPUT = "Output"
    REPORTING = "Reporting"


class Decides(Enum):
    """What an option decides about a film, and so whether another value means another film."""

    NOTHING = auto()
    FILM = auto()
    FILM_IF_CHANGED = auto()  # films made before the option existed stay the same films
    ENCODING = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """All that the rest of the program needs to know about a field."""

    help: str
    panel: Panel
    flags: tuple[str, ...] = ()  # on a command line, the one to be written last; left out, the field's own name
    argument: bool = False  # given by its place instead
    spare: bool = False  # an argument that another option may stand for; without its word it is empty
    metavar: str | None = None
    least: float | None = None
    within: tuple[int, int] | None = None  # the least and the greatest whole number
    unset: str | None = None  # what help says of a default of None
    complete: str | None = None  # what a shell offers: a function of cli.complete
    read: Callable[[Any], Any] = lambda value: value  # raises UsageError for an invalid value
    text: bool = False  # a command line gives `read` its words as they are
    write: Callable[[Any], str] = str  # back to the word of a command line
    beside: Callable[[Any, Path], Any] = lambda value, folder: value  # what a value means in a file of this folder
    planned: bool = True  # whether the command line of a planned film has it
    storyboard: bool = False  # a storyboard may decide it: what it says outranks the environment and echo.toml
    in_python: Any = None  # the default of the Python API, where it differs
    python_help: str | None = None  # its help there
    decides: Decides = Decides.NOTHING
    identify: Callable[[Any], Any] = lambda value: value  # the part of a value that decides


class Field(NamedTuple):
    """An option with its name, type and default."""

    name: str
    type: Any
    default: Any  # MISSING where there is none
    option: Option

    @property
    def flag(self) -> str:
        """Its name in messages and on a command line."""
        if self.option.argument:
            return self.name
        return self.option.flags[-1] if self.option.flags else "--" + self.name.replace("_", "-")

    @property
    def in_python(self) -> dict[str, str]:
        """What each of its flags is called in Python; one that stands for a value has it."""
        if self.option.argument:
            return {}
        flags = [flag.split("/") for flag in self.option.flags or (self.flag,)]
        if bool not in self.kinds:
            return {flag: self.name for each in flags for flag in each}
        return {flag: f"{self.name}={value}" for each in flags
                for flag, value in zip(each, (True, False), strict=False)}

    @property
    def variable(self) -> str:
        """How the environment names it."""
        return PREFIX + self.name.upper()

    @property
    def choices(self) -> tuple[str, ...]:
        return next((get_args(kind) for kind in self.kinds if get_origin(kind) is Literal), ())

    @property
    def kinds(self) -> tuple[Any, ...]:
        """The types that a value may have, None left out."""
        union = get_origin(self.type) in (Union, types.UnionType)
        return tuple(kind for kind in (get_args(self.type) if union else (self.type,)) if kind is not type(None))

    @property
    def repeats(self) -> bool:
        return any(get_origin(kind) is Sequence for kind in self.kinds)

    def checked(self, value: Any, folder: Path | None = None) -> Any:
        """The value as it is kept; None stands for the default. With a folder, as a file of this folder means it."""
        if value is None and self.default is not MISSING:
            return self.default
        if self.choices and value not in self.choices:
            near = did_you_mean(str(value), self.choices)
            raise UsageError(f"{self.flag} {value}: not one of {', '.join(self.choices)}{near}",
                             "Choose one of these.")
        if int in self.kinds or float in self.kinds:
            self._check_number(value)
        elif not (self.choices or self.option.text):
            self._check_type(value)
        return self.option.read(value if folder is None else self.option.beside(value, folder))

    def _check_type(self, value: Any) -> None:
        kinds = [get_origin(kind) or kind for kind in self.kinds]
        if not isinstance(value, tuple(kinds)):
            right = " or ".join(_WORDS.get(kind, f"a {kind.__name__}") for kind in kinds
                                if kind is not str or len(kinds) == 1)  # text that may be a path is one
            raise UsageError(f"{self.flag} {value!r:.60}: must be {right}", f"Give {right}.")
        if os.PathLike in kinds and isinstance(value, str | os.PathLike):
            path = os.fspath(value)
            if (not path and not self.option.spare) or "\0" in path:
                raise UsageError(f"{self.flag} {value!r:.60}: a path {'has no zero byte' if path else 'is not empty'}",
                                 "Give another path.")

    def _check_number(self, value: Any) -> None:
        kind, least = "number" if float in self.kinds else "whole number", self.option.least
        right = isinstance(value, int | float if float in self.kinds else int) and not isinstance(value, bool)
        if right and self.option.within:
            self._check_bounds(value, *self.option.within)
        if not right or value != value or (least is not None and value < least):
            bound = "" if least is None else f" of at least {least:g}"
            raise UsageError(f"{self.flag} {value!r}: must be a {kind}{bound}", f"Give a {kind}{bound}.")

    def _check_bounds(self, value: int, least: int, most: int) -> None:
        if not least <= value <= most:
            raise UsageError(f"{self.flag} must lie between {least} and {most}, not '{value}'",
                             f"Give a whole number between {least} and {most}.")

    def words(self, value: Any) -> list[str]:
        """The words of a command line that say it; none for the default."""
        if value == self.default:
            return []
        if self.option.argument:
            return [self.option.write(value)]
        if isinstance(value, bool):
            on, _, off = self.flag.partition("/")
            return [on if value else off]
        return [word for one in (value if self.repeats else (value,)) for word in (self.flag, self.option.write(one))]


class Options:
    """The base of dataclasses whose fields are options. An invalid value is a UsageError when one is created."""

    def __post_init__(self) -> None:
        for field in fields_of(type(self)):
            object.__setattr__(self, field.name, field.checked(getattr(self, field.name)))

    def values(self) -> Iterator[tuple[Field, Any]]:
        for field in fields_of(type(self)):
            yield field, getattr(self, field.name)


_KNOWN: dict[type, tuple[Field, ...]] = {}


def fields_of(kind: type[Any]) -> tuple[Field, ...]:
    """The options of a dataclass; those that are given by their place first."""
    if kind not in _KNOWN:
        _KNOWN[kind] = tuple(_read_fields(kind))
    return _KNOWN[kind]


def _read_fields(kind: type[Any]) -> Iterator[Field]:
    hints = get_type_hints(kind, include_extras=True)
    for field in sorted(fields(kind), key=lambda field: bool(field.kw_only)):
        annotated = get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else ()
        option = next((part for part in annotated if isinstance(part, Option)), None)
        if option is None:
            raise ValueError(f"{kind.__name__}.{field.name} has no Option annotation")
        yield Field(field.name, annotated[0], field.default, option)


def joined(path: Any, folder: Path) -> Any:
    """A path in a file of `folder`; standard output stays itself."""
    return path if not isinstance(path, str) or path == "-" else os.path.join(folder, os.path.expanduser(path))


def absolute(path: Any) -> str:
    """A path that means the same in every folder."""
    return os.path.abspath(path)
