"""Questions to a trace, answered by plain data: what was in memory when, what lingered, what was recalled, is memory
bounded, and where two runs part.

Everything here is a function of a `Trace`; how answers look is the business of `terminal` and `html`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat, zip_longest
from typing import Any, NamedTuple

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.layout import Role
from echo_cli.storyboard.nouns import Kind
from echo_cli.text import clock, listed, number, plural, ranges
from echo_cli.trace.reader import Trace
from echo_cli.trace.records import KEYFRAMES, Candidate, RecallFrameRecord, SceneFacts, SceneRecord, Times
from echo_cli.trace.rows import to_row

QUERY_STEPS = 24  # in which the share of a scene in the queries is drawn
GLANCE = 4000  # blocks that a glance looks at; a longer film is sampled in even strides


class Cell(NamedTuple):
    """Tokens of one role from one scene, with their mean weight in hundredths."""

    role: Role
    scene: int
    tokens: int
    weight: int


Column = tuple[Cell, ...]


@dataclass(frozen=True)
class Survey:
    """The film's memory in columns, one for every `stride` blocks. Equal columns are the same object."""

    stride: int
    blocks: int
    scenes: list[int]
    columns: list[Column]
    bytes: list[int]
    times: list[Times | None]
    drift: list[float | None]
    gates: list[float | None]  # mean over the frames of queries

    @property
    def peak_tokens(self) -> int:
        return max((sum(cell.tokens for cell in column) for column in self.columns), default=0)


def survey(trace: Trace, limit: int = GLANCE) -> Survey:
    stride = max(1, -(-len(trace) // limit))
    seen: dict[Column, Column] = {}
    surveyed = Survey(stride, len(trace), [], [], [], [], [], [])
    for index in range(0, len(trace), stride):
        row = trace.row(index)
        measured = row.get("measured") or {}
        column = column_of(row)
        surveyed.scenes.append(row["scene"])
        surveyed.columns.append(seen.setdefault(column, column))
        surveyed.bytes.append(sum(row["bytes"].values()))
        surveyed.times.append(Times(*measured["times"]) if measured else None)
        surveyed.drift.append(measured["drift"][0] if measured.get("drift") else None)
        surveyed.gates.append(gate_of(measured))
    return surveyed


def column_of(row: Mapping[str, Any]) -> Column:
    """What a block attended to, cells in window order; neighbours of one role, scene and weight are one cell. Queries
    are divided among the scenes that are in them; what they had learned in training weighs nothing."""
    measured = row.get("measured") or {}
    cells: list[Cell] = []
    for segment, weight in zip(
        row["layout"]["segments"], chain(measured.get("weights", ()), repeat(None)), strict=False
    ):
        if segment["role"] == Role.QUERY and measured.get("queries"):
            cells += _divided(segment, measured["queries"])
            continue
        mean = 100 if weight is None or weight[1] is None else round(100 * weight[1])
        cell = Cell(Role(segment["role"]), segment["scene"], segment["tokens"], mean)
        if cells and (cells[-1].role, cells[-1].scene, cells[-1].weight) == (cell.role, cell.scene, mean):
            cell = cell._replace(tokens=cell.tokens + cells.pop().tokens)
        cells.append(cell)
    return tuple(cells)


def _divided(segment: Mapping[str, Any], queries: list[Mapping[str, Any]]) -> Iterator[Cell]:
    """A cell a scene, in steps so coarse that neighbouring blocks look alike. Scenes too old to be distinguished count
    as the first."""
    shares: dict[int, float] = {}
    for frame in queries:
        for scene, share in frame.get("left", ()):
            shares[scene or 0] = shares.get(scene or 0, 0.0) + share / len(queries)
    rest = segment["tokens"]
    for scene, share in sorted(shares.items()):
        tokens = min(rest, round(share * QUERY_STEPS) * segment["tokens"] // QUERY_STEPS)
        if tokens:
            rest -= tokens
            yield Cell(Role.QUERY, scene, tokens, 100)
    if rest:
        yield Cell(Role.QUERY, segment["scene"], rest, 0)


def gate_of(measured: Mapping[str, Any]) -> float | None:
    """How far the gates of the queries opened, on average."""
    gates = [frame["gate"] for frame in measured.get("queries", ()) if frame.get("gate") is not None]
    return sum(gates) / len(gates) if gates else None


def most_mixed(surveyed: Survey, begin: int, end: int) -> int:
    """Which of some columns represents them all: the one with most of other scenes, else the middle one. A transition
    is short, and it is what people look for."""
    def foreign(at: int) -> int:
        return sum(cell.tokens for cell in surveyed.columns[at] if cell.scene != surveyed.scenes[at])

    return max(range(begin, end), key=lambda at: (foreign(at), -abs(2 * at - begin - end)))


# ---------------------------------------------------------------- places in the film


def block_at(trace: Trace, seconds: float) -> int:
    """The block whose pictures are on screen at that time."""
    film = trace.header.film
    picture = int(seconds * film.fps)
    if not seconds >= 0 or picture >= film.pictures:
        raise UsageError(f"{clock(seconds)} is not in the film, which ends at {clock(film.seconds)}",
                         "Give a time before the end, from 0 on.")
    frame = max(0, picture - film.geometry.offset) // film.frame_pictures
    return check_block(trace, frame // film.block_frames)


def check_block(trace: Trace, block: int) -> int:
    if not 0 <= block < len(trace):
        raise UsageError(f"there is no block {block}: {trace.path} holds blocks 0 to {len(trace) - 1}",
                         "Choose one of these, or give a time with --at.")
    return block


def check_layer(trace: Trace, block: int, layer: int) -> None:
    """A UsageError unless this layer chose from history in this block."""
    model = trace.header.model
    if not 0 <= layer < model.layers:
        raise UsageError(f"there is no layer {layer}: {model.name} has {plural(model.layers, 'layer')}, 0 to "
                         f"{model.layers - 1}", "Choose one of these.")
    if layer < _choosing(trace.row(block)):
        return
    later = next((index for index in range(block + 1, len(trace)) if layer < _choosing(trace.row(index))), None)
    raise UsageError(f"in block {block} no layer chose anything from history, so that one layer has nothing to show",
                     "Leave --layer out; no later block has a choice either." if later is None else
                     f"Layers begin to choose when the window is full: try --block {later}, or leave --layer out.")


def _choosing(row: Mapping[str, Any]) -> int:
    """How many layers chose from history, each for itself."""
    return len((row.get("measured") or {}).get("layers", ()))


def find_scene(trace: Trace, name: str) -> int:
    """A scene by its id, or by its number from 1 as films count them."""
    ids = [scene.id for scene in trace.header.timeline]
    if name in ids:
        return ids.index(name)
    if name.isdecimal() and 1 <= int(name) <= len(ids):
        return int(name) - 1
    raise UsageError(f"{trace.path} has no scene '{name}'{did_you_mean(name, ids)}",
                     f"Its scenes are {', '.join(ids[:12])}{', …' if len(ids) > 12 else ''}.")


def start_of(trace: Trace, block: int) -> float:
    """Seconds at which a block's pictures begin."""
    film = trace.header.film
    return film.geometry.pictures(block * film.block_frames) / film.fps


# ---------------------------------------------------------------- the answers


@dataclass(frozen=True)
class Lingering:
    """What an earlier scene left in a later one: for how many blocks, and at what mean weight first and last."""

    source: str
    blocks: int
    seconds: float
    tokens: int
    first_weight: float
    last_weight: float
    to_the_end: bool

    @property
    def words(self) -> str:
        fade = f" → {self.last_weight:.2f}" if self.last_weight < self.first_weight else ""
        return (f"{plural(self.blocks, 'block')} ({self.seconds:.1f} s), {plural(self.tokens, 'token')}, weight "
                f"{self.first_weight:.2f}{fade}, {'to the end of the scene' if self.to_the_end else 'then gone'}")


@dataclass(frozen=True)
class SceneAnswer:
    """A scene, and what memory did for it."""

    scene: int
    id: str
    begins: str
    start: float
    blocks: int
    recalled: str | None = None
    chosen_by: str | None = None
    candidates: tuple[tuple[str, float | None], ...] = ()
    jump: int | None = None
    lingering: tuple[Lingering, ...] = ()
    recall_frame: RecallFrameRecord | None = None
    refusal: str | None = None  # why a recall brought nothing back

    @property
    def remembered_by(self) -> tuple[str, str] | None:
        """What the scene is remembered by, and which frames that is or was made of."""
        kept = self.recall_frame
        if kept is None:
            return None
        if kept.method == KEYFRAMES:
            return "keyframes", f"frames {ranges(kept.frames)}, as they were"
        made = ", ".join(str(frame) if share is None else f"{frame} ({number(share)})"
                         for frame, share in zip_longest(kept.frames, kept.shares))
        return "recall frame", f"{kept.method.replace('_', ' ')} of frames {made}"


@dataclass(frozen=True)
class Budget:
    """Most that memory ever held, and whether that was a ceiling or the film ended while it still grew."""

    tokens: int
    bytes: int
    reached_at: float
    bounded: bool


@dataclass(frozen=True)
class Summary:
    whole: bool
    blocks: int
    of_blocks: int
    seconds: float
    budget: Budget
    wall_seconds: float | None
    block_times: Times | None
    scenes: tuple[SceneAnswer, ...]

    @property
    def recalls(self) -> list[SceneAnswer]:
        return [scene for scene in self.scenes if scene.begins == "recall" and scene.recalled]

    def no_recall(self, policy: str) -> str:
        """Why there is no recall to show."""
        asked = [scene.id for scene in self.scenes if scene.begins == "recall"]
        return f"nothing for {listed(asked)}: {_keeps_none(policy)}" if asked else "no scene recalled another"

    @property
    def longest(self) -> tuple[SceneAnswer, Lingering] | None:
        """The scene in which another one lingered for most blocks."""
        pairs = ((scene, left) for scene in self.scenes for left in scene.lingering)
        return max(pairs, key=lambda pair: pair[1].blocks, default=None)


def summarise(trace: Trace, surveyed: Survey) -> Summary:
    totals = trace.totals
    known = [times for times in surveyed.times if times]
    mean = Times(*(sum(part) / len(known) for part in zip(*known, strict=True))) if known else None
    return Summary(totals is not None, len(trace), trace.header.timeline[-1].blocks[1], trace.header.film.seconds,
                   budget(trace, surveyed), totals.wall_seconds if totals else None, mean,
                   tuple(answer(trace, record) for record in trace.scenes))


def budget(trace: Trace, surveyed: Survey) -> Budget:
    tokens = [sum(cell.tokens for cell in column) for column in surveyed.columns]
    peak_tokens, peak_bytes = max(tokens, default=0), max(surveyed.bytes, default=0)
    # what grows without end reaches its peak once, in the last block; a ceiling is reached again
    bounded = tokens.count(peak_tokens) > 1 and surveyed.bytes.count(peak_bytes) > 1
    reached = start_of(trace, tokens.index(peak_tokens) * surveyed.stride) if tokens else 0.0
    if trace.totals:
        peak_tokens, peak_bytes = trace.totals.peak_tokens, trace.totals.peak_bytes
    return Budget(peak_tokens, peak_bytes, reached, bounded)


def begins(scene: SceneFacts | SceneRecord) -> str:
    return scene.transition.value if scene.transition else "start"


def answer(trace: Trace, record: SceneRecord) -> SceneAnswer:
    facts, named = trace.header.timeline[record.scene], trace.header.name_of

    return SceneAnswer(record.scene, facts.id, begins(record), start_of(trace, record.block),
                       facts.blocks[1] - facts.blocks[0],
                       None if record.recalled is None else named(record.recalled), record.chosen_by,
                       tuple((named(each.scene), each.score) for each in ranked(record.candidates)), record.jump,
                       tuple(lingering(trace, record)), trace.recall_frames.get(record.scene), _refusal(trace, record))


def _refusal(trace: Trace, record: SceneRecord) -> str | None:
    if record.recalled is not None:
        return None
    forgetful = record.transition is Kind.RECALL and not record.chosen_by
    return f"{_keeps_none(trace.header.policy.name)}, so nothing was recalled" if forgetful else record.chosen_by


def _keeps_none(policy: str) -> str:
    return f"memory {policy} keeps no scenes"


def ranked(candidates: tuple[Candidate, ...]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: -math.inf if each.score is None else each.score, reverse=True)


def lingering(trace: Trace, record: SceneRecord) -> Iterator[Lingering]:
    """Earlier scenes in a scene's memory. They enter when it opens and then only leave, so bisection finds the end."""
    begin, end = record.block, min(trace.header.timeline[record.scene].blocks[1], len(trace))
    if begin >= end:
        return
    first = _foreign(trace, begin, record.scene)
    for source, (tokens, weight) in first.items():
        low, high = begin, end  # at `low` it is there, at `high` it is gone
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if source in _foreign(trace, middle, record.scene) else (low, middle)
        last_weight = _foreign(trace, low, record.scene)[source][1]
        yield Lingering(trace.header.name_of(source), low + 1 - begin,
                        start_of(trace, low + 1) - start_of(trace, begin), tokens, weight, last_weight, low + 1 == end)


def _foreign(trace: Trace, block: int, scene: int) -> dict[int, tuple[int, float]]:
    """Tokens and mean weight of every other scene that a block remembered."""
    remembered: dict[int, tuple[int, float]] = {}
    for cell in column_of(trace.row(block)):
        if cell.scene != scene:
            tokens, weight = remembered.get(cell.scene, (0, 0.0))
            both = tokens + cell.tokens
            remembered[cell.scene] = both, (weight * tokens + cell.weight / 100 * cell.tokens) / both
    return remembered


# ---------------------------------------------------------------- two runs


@dataclass(frozen=True)
class Change:
    """A difference between two runs."""

    what: str
    this: Any
    other: Any


@dataclass(frozen=True)
class Diff:
    settings: tuple[Change, ...]
    decisions: tuple[Change, ...]
    blocks: int  # compared
    differing: int  # of these, how many remembered something else, or the same at another weight
    first: int | None
    outcome: tuple[Change, ...]


def diff(this: Trace, other: Trace) -> Diff:
    """Settings, decisions, memory and cost of two runs. Weights that differ by less than a hundredth are equal."""
    differing = [index for index, (a, b) in enumerate(zip(this.rows(), other.rows(), strict=False))
                 if a["layout"] != b["layout"] or column_of(a) != column_of(b)]
    outcome = [(name, _outcome(this)[name], _outcome(other)[name]) for name in _outcome(this)]
    return Diff(tuple(_changes(flat(to_row(this.header)), flat(to_row(other.header)))),
                tuple(_changes(dict(_decisions(this)), dict(_decisions(other)))), min(len(this), len(other)),
                len(differing), differing[0] if differing else None,
                tuple(Change(*each) for each in outcome if each[1] != each[2]))


def _decisions(trace: Trace) -> Iterator[tuple[str, Any]]:
    for record in trace.scenes:
        name = trace.header.timeline[record.scene].id
        recalled = trace.header.name_of(record.recalled) if record.recalled is not None else None
        yield from {f"{name}: begins": begins(record), f"{name}: recalled": recalled,
                    f"{name}: jump": record.jump}.items()


def _outcome(trace: Trace) -> dict[str, Any]:
    surveyed = survey(trace)
    mean = summarise(trace, surveyed).block_times
    held = budget(trace, surveyed)
    return {"blocks": len(trace), "peak tokens": held.tokens, "peak bytes": held.bytes,
            "ms a block": round(sum(mean), 1) if mean else None}


def _changes(this: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys((*this, *other)):
        if this.get(name) != other.get(name):
            yield Change(name, this.get(name), other.get(name))


def flat(row: Any, name: str = "") -> dict[str, Any]:
    """Nested settings as dotted names."""
    if isinstance(row, dict):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in row.items()]
    elif isinstance(row, list) and row and isinstance(row[0], dict):
        parts = [(f"{name}[{key}]", part) for key, part in enumerate(row)]
    else:
        return {name: row}
    return {path: item for key, part in parts for path, item in flat(part, key).items()}


# ---------------------------------------------------------------- one block a line


CSV_COLUMNS = (
    "block",
    "scene",
    "id",
    "begins",
    "start",
    "end",
    "tokens",
    *(role.value for role in Role),
    "from_other_scenes",
    "lightest_weight",
    "query_position",
    "jump",
    "calibration",
    "history_score",
    "drift",
    "gate",
    "query_gate",
    "rolled_in",
    "reverse",
    "evicted",
    "bytes",
    "denoise_ms",
    "clean_ms",
    "memory_ms",
    "decode_ms",
)


def csv_rows(trace: Trace) -> Iterator[dict[str, Any]]:
    """One flat row a block, for spreadsheets; a cell is empty where a block has no such thing."""
    for row in trace.rows():
        facts = trace.header.timeline[row["scene"]]
        measured, segments, rolling = row.get("measured") or {}, row["layout"]["segments"], row.get("rolling") or {}
        by_role = {role.value: sum(each["tokens"] for each in segments if each["role"] == role) for role in Role}
        drift = measured.get("drift") or (None, None)
        weights = [weight[0] for weight in measured.get("weights", ()) if weight[0] is not None]
        values = (
            row["block"],
            row["scene"],
            facts.id,
            begins(facts) if row["block"] == facts.blocks[0] else None,
            row["pictures"][0] / trace.header.film.fps,
            row["pictures"][1] / trace.header.film.fps,
            sum(by_role.values()),
            *by_role.values(),
            sum(each["tokens"] for each in segments if each["scene"] != row["scene"]),
            min(weights, default=None),
            row["layout"]["query_position"],
            row["layout"].get("jump"),
            row["calibration"],
            (measured.get("chosen") or {"scores": (None,) * 3})["scores"][1],
            *drift,
            gate_of(measured),
            " ".join(map(str, rolling.get("frames", ()))),
            rolling.get("reverse", False) if rolling else None,
            " ".join(map(str, row.get("evicted", ()))),
            sum(row["bytes"].values()),
            *measured.get("times", (None,) * 4),
        )
        yield dict(zip(CSV_COLUMNS, values, strict=True))
