"""What the terminal and the page share: colours of scenes, words for roles, numbers as people read them."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from echo_cli.layout import Role

# distinguishable on black and on white, neighbours most of all
SCENE_COLOURS = ("#4f7df3", "#e8804b", "#2fa37f", "#b765d6", "#cf9a12", "#e05c8a", "#2fa7c4", "#8b8a3f", "#7a6ff0",
                 "#a8694a")

ROLE_WORDS: Mapping[Role, str] = MappingProxyType({
    Role.TRANSITION: "carried in when the scene opened, and fading",
    Role.ANCHOR: "early frames of the scene that hold it together",
    Role.HISTORY: "tokens selected from frames that have left the window",
    Role.QUERY: "learned tokens that summarise the past",
    Role.RECENT: "the latest frames",
    Role.CURRENT: "the block being rendered",
})


def colour_of(scene: int) -> str:
    return SCENE_COLOURS[scene % len(SCENE_COLOURS)]


def clock(seconds: float) -> str:
    """0:42 or 1:02:03, with a tenth if there is one."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest % 10}" if rest % 10 else ""
    return f"{hours}:{minutes:02}:{rest // 10:02}{fraction}" if hours else f"{minutes}:{rest // 10:02}{fraction}"


def size(count: float) -> str:
    """Bytes for people: 812 B, 4.1 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def number(value: float | None, digits: int = 2) -> str:
    return or_dash(value, f".{digits}f")


def or_dash(value: float | None, form: str, unit: str = "") -> str:
    return "–" if value is None else f"{value:{form}}{unit}"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def ranges(frames: Sequence[int | None]) -> str:
    """Source frames, runs either way joined: 0–11, 8–6. Those that are not single frames are counted."""
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
