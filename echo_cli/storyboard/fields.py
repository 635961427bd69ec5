"""Reads the values of one mapping, key by key; a wrong value is noted with its place and read as absent.

Knows types and ranges, not what a storyboard is made of.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from echo_cli.errors import did_you_mean, nearest
from echo_cli.storyboard.document import kind_of, mark_of, scalar, short
from echo_cli.storyboard.durations import read_duration
from echo_cli.storyboard.mistakes import Mark, Message, Mistakes

MERGE = "<<"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # what a terminal acts on
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fields:
    """The entries of a mapping. `where` opens every message: `scene 'back': `, or nothing at the top. `unknown` are its
    keys that are not among the `known` ones, which has been noted."""

    where: str
    mark: Mark
    entries: dict[str, tuple[Mark, Node]]
    mistakes: Mistakes
    is_mapping: bool = True  # otherwise there are no entries, and that has been noted
    known: Sequence[str] = ()
    unknown: list[str] = field(default_factory=list)

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def mark_of(self, key: str) -> Mark:
        return self.entries[key][0] if key in self.entries else self.mark

    def note(self, key: str, message: Message) -> None:
        where = self.where

        def whole() -> str:
            return where + (message if isinstance(message, str) else message())

        self.mistakes.note(self.mark_of(key), whole)

    def misspelled(self, key: str) -> bool:
        """Whether an unknown key was probably meant to be this one."""
        return any(nearest(each, self.known) == key for each in self.unknown)

    def lacks(self, key: str, message: str) -> None:
        """Notes that a key is missing, unless what has been noted already is the reason."""
        if self.is_mapping and not self.misspelled(key):
            self.note(key, message)

    def node(self, key: str) -> Node | None:
        return self.entries[key][1] if key in self.entries else None

    def value(self, key: str, read: Callable[[object], T]) -> T | None:
        """The scalar at `key` as `read` understands it; None when it is absent or wrong; the latter is noted."""
        node = self.node(key)
        if node is None:
            return None
        try:
            return read(scalar(node))
        except ValueError as error:
            self.note(key, f"{key} {error}")
            return None

    def text(self, key: str, why: str = "write some text") -> str | None:
        """Text with runs of white space collapsed."""
        text = self.lines(key, why)
        return text and " ".join(text.split())

    def lines(self, key: str, why: str = "write some text") -> str | None:
        """Text that keeps its line breaks; white space is collapsed within a line and trimmed around the lines."""

        def read(value: object) -> str:
            if not isinstance(value, str):
                node = self.entries[key][1]
                if value is None:
                    raise ValueError(f"is empty; {why}, or leave the line out")
                raise ValueError(f"is {kind_of(node)}, not text; put it in quotes: '{node.value}'")
            return "\n".join(printable(" ".join(line.split())) for line in value.strip().splitlines())

        return self.value(key, read)

    def name(self, key: str) -> str | None:
        """Text that is not empty."""
        text = self.text(key)
        if text == "":
            self.note(key, f"{key} is empty; write a name, or leave the line out")
        return text or None

    def whole(self, key: str, least: int, most: int) -> int | None:
        def read(value: object) -> int:
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            if not isinstance(value, int) or isinstance(value, bool):
                raise ValueError(f"must be a whole number, not {short(value)}")
            if not least <= value <= most:
                raise ValueError(f"must lie between {least} and {most}, not {short(value)}")
            return value

        return self.value(key, read)

    def number(self, key: str, least: float, most: float) -> float | None:
        def read(value: object) -> float:
            if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
                raise ValueError(f"must be a number between {least:g} and {most:g}, not {short(value)}")
            return float(value)

        return self.value(key, read)

    def duration(self, key: str, zero: bool = False) -> Fraction | None:
        def read(value: object) -> Fraction:
            try:
                seconds = read_duration(value)
            except ValueError as error:
                raise ValueError(f"{short(value)} {error}") from None
            if seconds == 0 and not zero:
                raise ValueError("is zero; every scene needs some time")
            return seconds

        return self.value(key, read)

    def choice(self, key: str, known: Sequence[str]) -> str | None:
        def read(value: object) -> str:
            if value not in known:
                raise ValueError(f"must be one of {', '.join(known)}, not {short(value)}"
                                 f"{did_you_mean(str(value), tuple(known))}")
            return str(value)

        return self.value(key, read)


def printable(line: str) -> str:
    """The same line; a ValueError if a character in it would control a terminal."""
    if found := _CONTROL.search(line):
        raise ValueError(f"has the control character U+{ord(found[0]):04X}; leave it out")
    return line


def fields_of(node: Node, what: str, where: str, known: Sequence[str] | None, mistakes: Mistakes) -> Fields:
    """The entries of `node`, which should be a mapping; `known` names the keys it may have, None allows any."""
    entries: dict[str, tuple[Mark, Node]] = {}
    read = Fields(where, mark_of(node), entries, mistakes, isinstance(node, MappingNode), known or ())
    if not isinstance(node, MappingNode):
        mistakes.note(read.mark, f"{where}{what} must be 'key: value' lines, not {kind_of(node)}")
        return read
    for key_node, value in node.value:
        mark = mark_of(key_node)
        if not isinstance(key_node, ScalarNode):
            mistakes.note(mark, f"{where}a key must be a plain word, not {kind_of(key_node)}")
            continue
        key = key_node.value
        if key in entries:
            mistakes.note(mark, f"{where}{short(key)} appears a second time (first on line {entries[key][0].line})")
        elif known is None or key in known:
            entries[key] = (mark, value)
        elif key == MERGE:
            mistakes.note(mark, f"{where}merging with '<<' is not understood; write the keys out")
        else:
            read.unknown.append(key)
            mistakes.note(mark, partial(_unknown_key, f"{where}{what}", key, known))
    return read


def _unknown_key(what: str, key: str, known: Sequence[str]) -> str:
    near = did_you_mean(key, tuple(known)) or f"; it may have {', '.join(known)}"
    return f"{what} has no key {short(key)}{near}"


def plain(node: Node) -> Any:
    """A setting's value: a scalar, a list or a mapping of such; ValueError for anything else."""
    if isinstance(node, SequenceNode):
        return [plain(child) for child in node.value]
    if isinstance(node, MappingNode):
        return {str(plain(key)): plain(value) for key, value in node.value}
    value = scalar(node)
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"is {kind_of(node)}; if it is meant as text, put it in quotes")
    return value
