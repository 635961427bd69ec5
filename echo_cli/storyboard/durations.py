"""Times as people write them: `10`, `10s`, `2.5s`, `500ms`, `1m30s`, `1h`, `00:01:30`.

Times are exact fractions here, so that sixty scenes of 3.3 s add up to 198 s and not to a little less.
"""

import math
import re
from fractions import Fraction

LONGEST = 7 * 24 * 3600  # seconds; anything longer is a typing mistake

_DECIMAL = r"\d+(?:\.\d+)?"
_UNITS = re.compile(rf"(?:({_DECIMAL})h)?(?: ?({_DECIMAL})m)?(?: ?({_DECIMAL})s)?(?: ?({_DECIMAL})ms)?", re.ASCII)
_BARE = re.compile(_DECIMAL, re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d\d(?:\.\d+)?)", re.ASCII)
_SCALE = (Fraction(3600), Fraction(60), Fraction(1), Fraction(1, 1000))


def exact(seconds: float) -> Fraction:
    """The decimal that a float was written as: 0.1 is a tenth, not its nearest binary fraction."""
    return Fraction(repr(seconds))


def read_duration(value: object) -> Fraction:
    """Seconds from a number or a text; a ValueError tells the author what is wrong."""
    if isinstance(value, str):
        seconds = _read_text(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise ValueError("is not a finite time")
        seconds = exact(value)
    else:
        raise ValueError("is not a time; write it as 10s, 2.5s, 500ms, 1m30s or 00:01:30")
    if seconds < 0:
        raise ValueError("is negative")
    if seconds > LONGEST:
        raise ValueError(f"is longer than {describe(LONGEST)}, the most a film can last")
    return seconds


def _read_text(text: str) -> Fraction:
    if text.startswith("-"):
        _read_text(text[1:])
        raise ValueError("is negative")
    if text.lower().lstrip("+.") in ("inf", "infinity", "nan"):
        raise ValueError("is not a finite time")
    if len(text) <= 40:
        if _BARE.fullmatch(text):
            return Fraction(text)
        if text and (match := _UNITS.fullmatch(text)):
            return sum((Fraction(part) * scale for part, scale in zip(match.groups(), _SCALE, strict=True) if part),
                       Fraction(0))
        if match := _CLOCK.fullmatch(text):
            hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
            if seconds < 60 and (minutes < 60 or not match[1]):
                return hours * 3600 + minutes * 60 + seconds
    raise ValueError("is not a time; write it as 10s, 2.5s, 500ms, 1m30s or 00:01:30")


def describe(seconds: float | Fraction) -> str:
    """A time for people, to the millisecond: `0.75s`, `1m30s`, `24h`."""
    milliseconds = round(seconds * 1000)
    sign, milliseconds = ("-", -milliseconds) if milliseconds < 0 else ("", milliseconds)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    parts = [f"{hours}h" if hours else "", f"{minutes}m" if minutes else "", f"{rest / 1000:g}s" if rest else ""]
    return sign + ("".join(parts) or "0s")
