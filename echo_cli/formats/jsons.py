"""Reading JSON of other tools with suspicion: places for messages, types asked for, nothing assumed.

Knows no format.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from echo_cli.formats.cut import refuse
from echo_cli.storyboard.durations import LONGEST

DEEPEST = 200  # brackets in brackets; no tool nests deeper


@dataclass(frozen=True, slots=True)
class Value:
    """A value and its place, such as `prompts[2].endTime`; asking for another type is an error that names both."""

    value: Any
    place: str
    source: str
    line: int = 1  # that it begins on, as far as that is known

    def fail(self, message: str) -> Exception:
        return refuse(self.source, f"{self.place or 'the file'}: {message}", self.line)

    def has(self, key: str) -> bool:
        return isinstance(self.value, Mapping) and key in self.value

    def __getitem__(self, key: str) -> "Value":
        if not isinstance(self.value, Mapping):
            raise self.fail("should be an object")
        if key not in self.value:
            raise self.fail(f"has no '{key}'")
        return Value(self.value[key], f"{self.place}.{key}" if self.place else key, self.source,
                     self.line)

    def first(self, *keys: str) -> "Value":
        """The first of the keys that is there."""
        return self[next((key for key in keys if self.has(key)), keys[0])]

    def items(self) -> Iterator["Value"]:
        if not isinstance(self.value, list):
            raise self.fail("should be a list")
        for index, value in enumerate(self.value):
            yield Value(value, f"{self.place}[{index}]", self.source, self.line)

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.fail("should be a text")
        return self.value

    def number(self) -> Fraction:
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not math.isfinite(self.value):
            raise self.fail("should be a number")
        if abs(self.value) > LONGEST * 1000:
            raise self.fail("is larger than any film needs")
        return Fraction(repr(self.value))


_WRONG = {  # what json says, and what it means to an author
    "Expecting value": "a value is missing here",
    "Expecting property name enclosed in double quotes": "a name in double quotes must follow",
    "Expecting ':' delimiter": "a ':' is missing here",
    "Expecting ',' delimiter": "a ',' or a closing bracket is missing here",
    "Illegal trailing comma before end of object": "a ',' before the closing bracket; remove it",
    "Illegal trailing comma before end of array": "a ',' before the closing bracket; remove it",
    "Unterminated string starting at": "a text begins here and has no closing quote",
    "Invalid control character at": "a line break or another control character inside a text",
    "Invalid \\escape": "a backslash that means nothing; write \\\\ for one",
    "Extra data": "something follows the end of the JSON",
}


def read_json(text: str, source: str, line: int = 1) -> Value:
    """The one JSON value of a text that begins on that line of its file."""
    if _depth(text) > DEEPEST:
        raise refuse(source, f"brackets are nested more than {DEEPEST} deep", line)
    try:
        return Value(json.loads(text), "", source, line)
    except json.JSONDecodeError as error:
        raise refuse(source, f"not valid JSON: {_WRONG.get(error.msg, 'something is missing or too much here')}",
                     error.lineno + line - 1, error.colno) from None
    except (RecursionError, ValueError):
        raise refuse(source, "not valid JSON: a number is too long, or brackets are nested too deeply",
                     line) from None


def _depth(text: str) -> int:
    """How deep brackets stand in brackets; those inside of texts count too, which only makes the bound stricter."""
    depth = most = 0
    for character in text:
        if character in "[{":
            depth += 1
            most = max(most, depth)
        elif character in "]}":
            depth -= 1
    return most
