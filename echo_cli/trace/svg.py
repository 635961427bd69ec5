"""Drawings of memory: lanes of what was held, a map of where memory looked, decay as cells, curves.

The horizontal unit is one picture of the film, so that every drawing lies on the film's own time axis. Neighbours that
look the same become one rectangle, and all rectangles that look the same one path, so a film of ten thousand blocks
is a few dozen elements. Colours are classes (`s0` … by scene); the page's style sheet says what they are.
"""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby

from echo_cli.layout import Role
from echo_cli.text import clock, number
from echo_cli.trace.inspect import Column, Survey, most_mixed, start_of
from echo_cli.trace.look import SCENE_COLOURS
from echo_cli.trace.reader import Trace
from echo_cli.trace.records import DecayMap

ORDER = (Role.TRANSITION, Role.QUERY, Role.ANCHOR, Role.HISTORY, Role.RECENT, Role.CURRENT)
HOVERS = 240  # columns that respond to a pointer
REACH_COLUMNS, REACH_ROWS = 700, 300
MARKS = 24  # scenes whose beginnings are marked
VEILS = 16  # thicknesses that an eye can distinguish

Look = tuple[int, int]  # scene, opacity in tenths
Box = tuple[float, float, float, float]  # x, y, width, height


def svg(width: float, height: float, inside: str, label: str, of: str = "") -> str:
    return (f'<svg class="{of}" viewBox="0 0 {_short(width)} {_short(height)}" preserveAspectRatio="none" role="img" '
            f'aria-label="{escape(label)}">{inside}</svg>')


def paths(boxes: Iterable[tuple[Look, Box]]) -> str:
    """One path for each look."""
    drawn: dict[Look, list[str]] = {}
    for look, (x, y, width, height) in boxes:
        drawn.setdefault(look, []).append(
            f"M{_short(x)} {_short(y)}h{_short(width)}v{_short(height)}h-{_short(width)}z"
        )
    return "".join(f'<path class="s{scene}" opacity="{opacity / 10:g}" d="{"".join(parts)}"/>'
                   for (scene, opacity), parts in sorted(drawn.items()))


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Axis:
    """Pictures of the film from left to right, and where a column of the survey lies."""

    def __init__(self, trace: Trace, surveyed: Survey) -> None:
        self.trace, self.surveyed, self.pictures = trace, surveyed, trace.header.film.pictures

    def edge(self, column: int) -> float:
        block = min(column * self.surveyed.stride, self.surveyed.blocks)
        return min(start_of(self.trace, block) * self.trace.header.film.fps, self.pictures)


# ---------------------------------------------------------------- lanes


def lanes(trace: Trace, surveyed: Survey) -> Iterator[tuple[Role, int, str]]:
    """A drawing for every role that memory ever held, and the most tokens it had."""
    axis = Axis(trace, surveyed)
    runs = [(column, len(list(same))) for column, same in groupby(surveyed.columns)]
    present = {cell.role for column in set(surveyed.columns) for cell in column}
    for role in ORDER:
        if role in present:
            most = max(sum(cell.tokens for cell in column if cell.role is role) for column in set(surveyed.columns))
            label = f"{role.value}: at most {most} tokens, block by block, coloured by source scene"
            yield (
                role,
                most,
                svg(axis.pictures, most, paths(_lane(axis, runs, role, most)), label, f"lane {role.value}"),
            )


def _lane(axis: Axis, runs: list[tuple[Column, int]], role: Role, most: int) -> Iterator[tuple[Look, Box]]:
    at = 0
    for column, length in runs:
        x, until = axis.edge(at), axis.edge(at + length)
        at, top = at + length, most
        for cell in column:
            if cell.role is role:
                top -= cell.tokens
                yield (_colour(cell.scene), max(1, round(cell.weight / 10))), (x, top, until - x, cell.tokens)


def _colour(scene: int) -> int:
    return scene % len(SCENE_COLOURS)


def hover_columns(trace: Trace, surveyed: Survey) -> str:
    """Invisible columns over all lanes, each with its text for a pointer or a screen reader."""
    axis, inside, sampled = Axis(trace, surveyed), [], _sampled(surveyed)
    for at in sampled:
        x, until = axis.edge(at), axis.edge(at + sampled.step)
        inside.append(f'<rect x="{_short(x)}" width="{_short(until - x)}" height="1"><title>'
                      f"{escape(_words_at(trace, surveyed, at))}</title></rect>")
    return svg(axis.pictures, 1, "".join(inside), "What each block remembered", "hover")


def words_by_scene(trace: Trace, surveyed: Survey) -> dict[int, list[str]]:
    """The same texts, by the scene that their blocks belong to."""
    words: dict[int, list[str]] = {}
    for at in _sampled(surveyed):
        words.setdefault(surveyed.scenes[at], []).append(_words_at(trace, surveyed, at))
    return words


def _sampled(surveyed: Survey) -> range:
    """The columns that have a text: all of them, or some in even strides."""
    return range(0, len(surveyed.columns), max(1, -(-len(surveyed.columns) // HOVERS)))


def _words_at(trace: Trace, surveyed: Survey, at: int) -> str:
    return words(trace, at * surveyed.stride, surveyed.scenes[at], surveyed.columns[at])


def words(trace: Trace, block: int, scene: int, column: Column) -> str:
    """A block's memory in a few lines of text."""
    name_of = trace.header.name_of
    lines = [f"{clock(start_of(trace, block))} · block {block} · {name_of(scene)}"]
    for cell in column:
        faded = f", weight {number(cell.weight / 100)}" if cell.weight != 100 else ""
        said = f"{cell.tokens} tokens of {name_of(cell.scene)}{faded}"
        if cell.role is Role.QUERY and not cell.weight:
            said = f"{cell.tokens} tokens as trained"
        lines.append(f"{cell.role.value}: {said}")
    return "\n".join(lines)


# ---------------------------------------------------------------- where memory looked


def reach(trace: Trace, surveyed: Survey) -> str:
    """Film time to the right, remembered film time upwards: every source frame that a block could still see."""
    film, axis, per = trace.header.film, Axis(trace, surveyed), max(1, -(-len(surveyed.columns) // REACH_COLUMNS))
    least = film.pictures / REACH_ROWS  # a remembered frame of a long film is still a line
    frames_of = {scene: record.frames for scene, record in trace.recall_frames.items()}

    def place(frame: int) -> float:
        return min(film.geometry.pictures(frame), film.pictures)

    def boxes() -> Iterator[tuple[Look, Box]]:
        for at in range(0, len(surveyed.columns), per):
            until = min(at + per, len(surveyed.columns))
            row = trace.row(most_mixed(surveyed, at, until) * surveyed.stride)
            x, width = axis.edge(at), axis.edge(until) - axis.edge(at)
            measured = row.get("measured") or {}
            chosen = [int(frame) for frame, _ in (measured.get("chosen") or {}).get("frames", ())]
            for segment in row["layout"]["segments"]:
                role, scene = Role(segment["role"]), segment["scene"]
                frames = [frame for frame in segment["frames"] if frame is not None]
                if len(frames) < len(segment["frames"]):
                    frames += chosen if role is Role.HISTORY else frames_of.get(scene, ())
                opacity = {Role.CURRENT: 10, Role.HISTORY: 6, Role.RECENT: 4}.get(role, 8)
                for first, last in _runs(frames):
                    low = place(first)
                    high = max(place(last + 1), low + least)
                    yield (_colour(scene), opacity), (x, film.pictures - high, width, high - low)

    marks = "".join(f'<path class="mark" d="M{at} 0V{film.pictures}M0 {film.pictures - at}H{film.pictures}"/>'
                    for at in (scene.pictures[0] for scene in trace.header.timeline[1:MARKS + 1]))
    if len(trace.header.timeline) > MARKS:
        marks = ""  # lines this close would hide what they mark
    return svg(
        film.pictures,
        film.pictures,
        marks + paths(boxes()),
        "Which moments of the film each block remembered: film time to the right, remembered time upwards",
        "reach",
    )


def _runs(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    ordered = sorted(set(frames))
    begin = 0
    for at in range(1, len(ordered) + 1):
        if at == len(ordered) or ordered[at] != ordered[at - 1] + 1:
            yield ordered[begin], ordered[at - 1]
            begin = at


# ---------------------------------------------------------------- curves and cells


def curve(trace: Trace, surveyed: Survey, values: Sequence[float | None], low: float, high: float, label: str) -> str:
    """A line over the film; it breaks where there is no value. Long films are drawn at most every picture column."""
    axis = Axis(trace, surveyed)
    step, parts, drawing = max(1, len(values) // 2000), [], False
    for at in range(0, len(values), step):
        value = values[at]
        if value is None:
            drawing = False
            continue
        y = 100 * (1 - (value - low) / ((high - low) or 1))
        x, until = axis.edge(at), axis.edge(min(at + step, len(values)))
        parts.append(f"{'L' if drawing else 'M'}{_short(x)} {_short(y)}H{_short(until)}")
        drawing = True
    return svg(axis.pictures, 100, f'<path class="curve" d="{"".join(parts)}"/>', label, "lane")


def decay_cells(decay: DecayMap) -> str:
    """The remembered frame's cells under a veil: the thicker it is, the faster the cell is forgotten. One path for each
    thickness, so that a grid of thousands is a few elements."""
    known = [rate for rate in decay.rates if rate is not None] or [1.0]
    low, high = min(known), max(known)
    cells: dict[int, list[str]] = {}
    for index, rate in enumerate(decay.rates):
        row, col = divmod(index, decay.cols)
        thickness = 0 if rate is None or high == low else round(VEILS * (high - rate) / (high - low))
        cells.setdefault(thickness, []).append(f"M{col} {row}h1v1h-1z")
    inside = "".join(f'<path opacity="{0.88 * thickness / VEILS:.2f}" d="{"".join(parts)}"/>'
                     for thickness, parts in sorted(cells.items()))
    return svg(
        decay.cols,
        decay.rows,
        inside,
        f"How fast each cell of the remembered frame fades: from {number(low)} to {number(high)} a block",
        "veil",
    )
