"""Records to JSON and back: a row is a record as plain dicts and lists, ready for one line of the file.

The keys of a row are the fields of its record. A field that has its default is left out, numbers are shortened to what
a reader can use, and a value that is not finite becomes null, because JSON has no word for it. Knows the record types
only through their annotations; knows no file.
"""

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from echo_cli.trace.records import KINDS, Record

DIGITS = 6  # after the point, or significant ones of a number below one: more than a float32 knows


def to_row(value: Any) -> Any:
    """A record, or any part of one, as plain JSON values."""
    if value is None or isinstance(value, bool | int) and not isinstance(value, Enum):
        return value
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        return _short(value) if math.isfinite(value) else None
    if is_dataclass(value):
        return {name: to_row(item) for name, default in _fields(type(value))
                if (item := getattr(value, name)) != default}
    if isinstance(value, Mapping):
        return {str(key): to_row(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | range):
        return [to_row(item) for item in value]
    raise ValueError(f"a trace holds plain values, not {type(value).__name__}: {value!r}")


def to_line(record: Record) -> str:
    kind = next(kind for kind, cls in KINDS.items() if isinstance(record, cls))
    return dump({"kind": kind, **to_row(record)})


def dump(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def from_row(hint: Any, row: Any) -> Any:
    """A row as the type it was made from; keys that this version does not know are passed over."""
    origin = get_origin(hint)
    if hint is Any or row is None:
        return row
    if origin in (Union, types.UnionType):
        return from_row(next(arg for arg in get_args(hint) if arg is not type(None)), row)
    if origin is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return tuple(from_row(inner[0], item) for item in row)
        return tuple(from_row(each, item) for each, item in zip(inner, row, strict=True))
    if is_dataclass(hint):
        hints = _hints(hint)
        return hint(**{key: from_row(hints[key], item) for key, item in row.items() if key in hints})
    if isinstance(hint, type) and issubclass(hint, tuple):  # a NamedTuple is an array in JSON
        return hint(*(from_row(each, item) for each, item in zip(_hints(hint).values(), row, strict=True)))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(row)
    return float(row) if hint is float else row


def _short(value: float) -> float:
    return round(value, DIGITS) if abs(value) >= 1 else float(f"{value:.{DIGITS}g}")


@cache
def _fields(cls: type) -> tuple[tuple[str, Any], ...]:
    """Names and defaults, in order."""
    return tuple((f.name, f.default_factory() if f.default_factory is not MISSING else f.default) for f in fields(cls))


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)
