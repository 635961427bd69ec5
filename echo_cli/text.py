"""Sizes, times, counts and lists as people read them. Does not know what they measure."""

from collections.abc import Sequence

DOZEN = 12


def size(count: float) -> str:
    """Bytes: `812 B`, `4.1 MB`."""
    unit, larger = "B", iter(("kB", "MB", "GB", "TB"))
    while count >= 1000 and (following := next(larger, None)):
        count, unit = count / 1000, following
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def clock(seconds: float, digits: int = 1, hours: bool = False) -> str:
    """`0:42`, `1:02:03.5`, as players show it: so many digits after the point, without zeros at the end. `hours` shows
    hours even where there are none."""
    whole, rest = divmod(round(seconds * 10**digits), 10**digits)
    fraction = f".{rest:0{digits}d}".rstrip("0") if rest else ""
    minutes, second = divmod(whole, 60)
    hour, minute = divmod(minutes, 60)
    return (f"{hour}:{minute:02}" if hour or hours else f"{minute}") + f":{second:02}{fraction}"


def timestamp(milliseconds: int, point: str) -> str:
    """`00:01:02.345`, as captions are timed; `point` stands before the milliseconds."""
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def number(value: float | None, digits: int = 2) -> str:
    return or_dash(value, f".{digits}f")


def or_dash(value: float | None, form: str, unit: str = "") -> str:
    """A dash for what is not there."""
    return "–" if value is None else f"{value:{form}}{unit}"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def listed(words: Sequence[str], most: int = DOZEN) -> str:
    """`one, two, three`; of a long list the beginning, and how many more there are."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


def ranges(frames: Sequence[int | None]) -> str:
    """Source frames, runs either way joined: `0–11, 8–6`. Those that are not single frames are counted."""
    runs: list[list[int]] = []
    for frame in frames:
        if frame is None:
            continue
        last = runs[-1] if runs else []
        if last and abs(frame - last[-1]) == 1 and (len(last) == 1 or frame - last[-1] == last[-1] - last[-2]):
            last.append(frame)
        else:
            runs.append([frame])
    words = [f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    if folded := sum(frame is None for frame in frames):
        words.append("one frame folded from several" if folded == 1 else f"{folded} frames' worth of picked tokens")
    return ", ".join(words)


def ticks(seconds: float, at_most: int) -> list[float]:
    """Even, round times from 0 on, for an axis with room for `at_most`."""
    steps = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    step = next((step for step in steps if seconds / step < at_most), steps[-1])
    return [index * step for index in range(int(seconds / step) + 1)]
