"""Records to JSON and back: a row is a record as plain dicts and lists, ready for one line of the file.

The keys of a row are the fields of its record. A field that has its default is left out, numbers are shortened to what
a reader can use, and a value that is not finite becomes null, because JSON cannot express it. Knows the record types
only through their annotations; knows no file.
"""

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from echo_cli.layout import Segment
from echo_cli.trace.records import KINDS, Record

DIGITS = 6  # after the point, or significant ones of a number below one: more than a float32 knows
# Where frames lie in the store concerns only the store.
OMITTED: Mapping[type, tuple[str, ...]] = {Segment: ("slots", "fades")}
LARGEST = 1 << 53  # beyond it, whole numbers of JSON are not exact everywhere; a field's annotation may say otherwise
PLAIN = frozenset({int, str, bool, type(None)})


def to_row(value: object) -> Any:
    """A record, or any part of one, as plain JSON values."""
    return _writer(type(value))(value)  # type: ignore[arg-type]  # a class is hashable; mypy asks its instances


def to_line(record: Record) -> str:
    kind = next(kind for kind, cls in KINDS.items() if isinstance(record, cls))
    return dump({"kind": kind, **to_row(record)})


def dump(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_row(hint: Any, row: Any) -> Any:
    """A row as the type it was made from, or a TypeError, ValueError or KeyError when it cannot be one.

    Keys that this version does not know are ignored.
    """
    return _maker(hint)(row)


@cache
def _writer(cls: type) -> Callable[[Any], Any]:
    """The function that turns values of a type into rows."""
    if cls in PLAIN:
        return _as_it_is
    if issubclass(cls, float):
        return _short
    if issubclass(cls, list | tuple):
        return lambda items: [to_row(item) for item in items]
    if issubclass(cls, Enum):
        return lambda member: member.value
    if issubclass(cls, Mapping):
        return lambda items: {str(key): to_row(item) for key, item in items.items()}
    if is_dataclass(cls):
        defaults = [(field.name, field.default if field.default_factory is MISSING else field.default_factory())
                for field in fields(cls) if field.name not in OMITTED.get(cls, ())]
        return lambda record: {
            name: to_row(item) for name, default in defaults if (item := getattr(record, name)) != default
        }
    raise ValueError(f"a trace holds plain values, not {cls.__name__}")


def _short(value: float) -> float | None:
    if not math.isfinite(value):
        return None
    return round(value, DIGITS) if abs(value) >= 1 else float(f"{value:.{DIGITS}g}")


@cache
def _maker(hint: Any) -> Callable[[Any], Any]:
    """The function that turns the row of an annotation into its value."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _between(*inner[1])
    if origin in (Union, types.UnionType):  # of one type and None
        some = _maker(next(arg for arg in inner if arg is not type(None)))
        return lambda row: None if row is None else some(row)
    if origin is tuple and inner[-1] is Ellipsis:
        each = _maker(inner[0])
        return lambda row: tuple(map(each, row))
    if origin is tuple:
        return _array_maker(tuple, inner)
    if isinstance(hint, type) and is_dataclass(hint):
        makers = {name: _maker(part) for name, part in get_type_hints(hint, include_extras=True).items()}
        return lambda row: hint(**{key: makers[key](item) for key, item in _items(row) if key in makers})
    if isinstance(hint, type) and issubclass(hint, tuple):  # a NamedTuple is an array in JSON
        return _array_maker(lambda items: hint(*items), tuple(get_type_hints(hint).values()))
    if origin is Mapping:
        value = _maker(inner[1])
        return lambda row: {key: value(item) for key, item in _items(row)}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint
    return _plain if hint is Any else {float: _number, int: _whole, str: _text}.get(hint) or _checked(hint)


def _checked(kind: type) -> Callable[[Any], Any]:
    """Refuses values of another type."""
    def check(row: Any) -> Any:
        if type(row) is not kind:
            raise TypeError(f"{row!r} is not of type {kind.__name__}")
        return row

    return check


def _number(row: Any) -> float:
    if type(row) not in (int, float) or not abs(row) <= LARGEST:
        raise TypeError("this is not a number, or a larger one than a trace holds")
    return float(row)


def _whole(row: Any) -> int:
    if type(row) is not int or abs(row) > LARGEST:
        raise TypeError("this is not a whole number, or a larger one than a trace holds")
    return row


def _between(least: int, most: int) -> Callable[[Any], int]:
    """Takes whole numbers between these."""
    def check(row: Any) -> int:
        if type(row) is not int or not least <= row <= most:
            raise TypeError("this is not a whole number, or one that is not allowed here")
        return row

    return check


def _text(row: Any) -> str:
    if type(row) is not str:
        raise TypeError("this is not text")
    row.encode()  # a ValueError where half a character stands
    return row


def _plain(row: Any) -> Any:
    """A value of any kind, as it is, if it can be written down again."""
    if isinstance(row, dict):
        return {_text(key): _plain(item) for key, item in row.items()}
    if isinstance(row, list):
        return [_plain(item) for item in row]
    return _text(row) if isinstance(row, str) else row if row is None or row is True or row is False else _finite(row)


def _finite(row: Any) -> Any:
    return _whole(row) if type(row) is int else _number(row)


_items = dict.items  # refuses anything but an object


def _array_maker(make: Callable[[Any], Any], parts: tuple[Any, ...]) -> Callable[[Any], Any]:
    makers = [_maker(part) for part in parts]
    return lambda row: make([each(item) for each, item in zip(makers, row, strict=True)])


def _as_it_is(row: Any) -> Any:
    return row
