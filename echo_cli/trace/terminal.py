"""A trace for a terminal: the stacked timeline, the answers at a glance, a scene, a block, two runs.

Makes rich renderables from the answers of `inspect`; decides nothing and prints nothing. Glyphs distinguish roles and
colours distinguish scenes, so that it can be read without colour too.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from echo_cli.layout import Role, Segment
from echo_cli.text import clock, number, plural, ranges, size, ticks
from echo_cli.trace.inspect import (
    Column,
    Diff,
    SceneAnswer,
    Summary,
    Survey,
    answer,
    most_mixed,
    ranked,
    start_of,
)
from echo_cli.trace.look import colour_of
from echo_cli.trace.reader import Trace
from echo_cli.trace.records import BlockRecord, DecayMap, SceneRecord

GLYPHS = {Role.TRANSITION: "╳", Role.ANCHOR: "█", Role.HISTORY: "▒", Role.QUERY: "◆", Role.RECENT: "▓",
          Role.CURRENT: "░"}
HEIGHT = 12  # rows of the stack
GUTTER = 6  # columns for the scale on the left
SHADES = " ░▒▓█"
SCENES_SHOWN = 24


# ---------------------------------------------------------------- the whole film


def overview(trace: Trace, surveyed: Survey, summary: Summary, width: int, coloured: bool = True) -> Group:
    return Group(_title(trace, summary), "", *timeline(trace, surveyed, width, coloured), "",
                 *_answers(trace, summary), "", _scenes(summary))


def _title(trace: Trace, summary: Summary) -> Text:
    header = trace.header
    text = Text(header.storyboard.title, style="bold")
    text.append(f"  {clock(summary.seconds)} · {plural(len(trace.header.timeline), 'scene')} · "
                f"{plural(summary.blocks, 'block')} · {header.policy.name} on {header.model.name} · seed {header.seed}"
                f" · {header.device.name} {header.device.dtype}", style="not bold dim")
    return text


def timeline(trace: Trace, surveyed: Survey, width: int, coloured: bool = True) -> Iterator[RenderableType]:
    """Scene marks, the stack of what each moment remembered, the clock below."""
    if not surveyed.columns:
        yield Text("no block was finished", style="dim")
        return
    across = max(10, width - GUTTER - 1)
    columns = list(_columns(surveyed, across))
    peak = surveyed.peak_tokens
    stacks = [_stack(column, peak) for column in columns]
    yield _scene_marks(trace, across)
    for level in reversed(range(HEIGHT)):
        scale = (
            f"{peak:>{GUTTER - 1},} " if level == HEIGHT - 1 else f"{0:>{GUTTER - 1}} " if level == 0 else " " * GUTTER
        )
        line = Text(scale, style="dim", no_wrap=True)
        for stack in stacks:
            line.append(*stack[level]) if level < len(stack) else line.append(" ")
        yield line
    yield _clock_marks(trace, across)
    yield legend(surveyed, coloured)


def _columns(surveyed: Survey, across: int) -> Iterator[Column]:
    """The column that each character shows."""
    for index in range(across):
        begin = index * len(surveyed.columns) // across
        end = max(begin + 1, (index + 1) * len(surveyed.columns) // across)
        yield surveyed.columns[most_mixed(surveyed, begin, end)]


def _stack(column: Column, peak: int) -> list[tuple[str, str]]:
    """Glyph and style of each row from below; everything gets at least one row."""
    rows = max(len(column), round(HEIGHT * sum(cell.tokens for cell in column) / peak))
    heights = [max(1, int(HEIGHT * cell.tokens / peak)) for cell in column]
    while sum(heights) != rows:
        step = 1 if sum(heights) < rows else -1
        misfit = [step * (HEIGHT * cell.tokens / peak - height) for cell, height in zip(column, heights, strict=True)]
        fits = [slot for slot, height in enumerate(heights) if height + step > 0] or [0]
        heights[max(fits, key=misfit.__getitem__)] += step
    return [(GLYPHS[cell.role], colour_of(cell.scene) + (" dim" if cell.weight < 50 else ""))
            for cell, height in zip(column, heights, strict=True) for _ in range(height)][:HEIGHT]


def _scene_marks(trace: Trace, across: int) -> Text:
    marks = [" "] * across
    line = Text(" " * GUTTER, no_wrap=True)
    starts = _places(trace, across)
    for scene, (at, until) in starts.items():
        label = f"▏{trace.header.timeline[scene].id}"
        marks[at:until] = label[:until - at].ljust(until - at)
        line.append("".join(marks[at:until]), style=f"bold {colour_of(scene)}")
    return line


def _places(trace: Trace, across: int) -> dict[int, tuple[int, int]]:
    """The characters that each scene takes; a character that scenes share goes to the last."""
    total = max(1, len(trace))
    shown = [(scene.blocks[0] * across // total, index) for index, scene in enumerate(trace.header.timeline)
             if scene.blocks[0] < len(trace)]
    by_place = dict(shown)
    edges = [*sorted(by_place), across]
    return {by_place[at]: (at, until) for at, until in pairwise(edges)}


def _clock_marks(trace: Trace, across: int) -> Text:
    marks = [" "] * (across + GUTTER)
    end = start_of(trace, len(trace))
    for seconds in ticks(end, across // 10):
        at, label = GUTTER + int(seconds / end * across), f"╵{clock(seconds)}"
        if at + len(label) <= len(marks):
            marks[at:at + len(label)] = label
    return Text("".join(marks), style="dim", no_wrap=True)


def legend(surveyed: Survey, coloured: bool) -> Text:
    present = {cell.role for column in set(surveyed.columns) for cell in column}
    text = Text(" " * GUTTER, style="dim")
    for role in GLYPHS:
        if role in present:
            text.append(f"{GLYPHS[role]} {role.value}   ")
    return text.append("colour: the scene it came from") if coloured else text


def _answers(trace: Trace, summary: Summary) -> Iterator[RenderableType]:
    budget = summary.budget
    share = f"{budget.tokens:,} tokens and {size(budget.bytes)} at most"
    yield _line("memory", f"bounded: {share}, full from {clock(budget.reached_at)}" if budget.bounded
                else f"still growing when the film ended: {share}")
    recalls = [f"{each.id} recalled {each.recalled}{_score(each)}" for each in summary.recalls[:6]]
    yield _line("recalled", "; ".join(recalls) or summary.no_recall(trace.header.policy.name))
    longest = summary.longest
    yield _line("lingering", f"{longest[1].source} in {longest[0].id}, longest: {longest[1].words}" if longest
                else "no scene kept anything from another")
    if summary.block_times:
        speed = (
            "" if not summary.wall_seconds else f"; {trace.header.film.pictures / summary.wall_seconds:.0f} pictures/s"
        )
        parts = " + ".join(f"{name} {value:.0f}" for name, value in summary.block_times._asdict().items())
        yield _line("a block", f"{sum(summary.block_times):.0f} ms ({parts}){speed}")


def _line(name: str, words: str) -> RenderableType:
    """A name and its text, which keeps to its own column when it is long."""
    line = Table.grid(padding=(0, 1, 0, 0))
    line.add_column(width=12, style="bold", no_wrap=True)
    line.add_column(overflow="fold")
    line.add_row(name, Text(words))
    return line


def _score(scene: SceneAnswer) -> str:
    scores = dict(scene.candidates)
    return f" ({number(scores[scene.recalled])})" if scene.recalled in scores else ""


def _scenes(summary: Summary) -> RenderableType:
    table = _table("scene", "begins", "at", "blocks", "memory brought in", "stayed")
    for scene in summary.scenes[:SCENES_SHOWN]:
        table.add_row(Text(scene.id, style=colour_of(scene.scene)), scene.begins, clock(scene.start), str(scene.blocks),
                      f"{scene.recalled}{_score(scene)}" if scene.recalled else "–",
                      "; ".join(left.words for left in scene.lingering) or "–")
    more = len(summary.scenes) - SCENES_SHOWN
    return Group(table, Text(f"… and {more} more: --scene ID, or --json for all", style="dim")) if more > 0 else table


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


# ---------------------------------------------------------------- one scene, one block


def scene_detail(trace: Trace, record: SceneRecord, first: BlockRecord | None) -> Group:
    """`first` is the scene's first block, if the run reached it."""
    facts, entry = trace.header.timeline[record.scene], answer(trace, record)
    parts: list[RenderableType] = [
        Text.assemble((facts.id, f"bold {colour_of(record.scene)}"),
                      (f"  {clock(entry.start)} · blocks {facts.blocks[0]}–{facts.blocks[1] - 1}", "dim")),
        Text(facts.prompt, style="italic"), "", _line("begins", entry.begins)]
    if entry.recalled:
        parts.append(_line("from", f"{entry.recalled}{_score(entry)}: {entry.chosen_by or 'chosen by the policy'}"))
    if entry.refusal:
        parts.append(_line("no recall", entry.refusal))
    if record.jump is not None:
        parts.append(_line("jump", plural(record.jump, "position")))
    for left in entry.lingering:
        parts.append(_line("lingering", f"{left.source}: {left.words}"))
    if entry.remembered_by:
        parts.append(_line(*entry.remembered_by))
    if record.settings:
        parts.append(_line("settings", ", ".join(f"{name} {value}" for name, value in record.settings.items())))
    if record.candidates:
        parts += ["", Text("candidates", style="dim")]
        parts += [_bar(trace.header.name_of(each.scene), each.score, each.scene == record.recalled)
                  for each in ranked(record.candidates)]
    if first and first.measured and first.measured.decay:
        parts += ["", *decay_map(first.measured.decay)]
    return Group(*parts)


def _bar(name: str, score: float | None, chosen: bool) -> Text:
    length = max(0, min(30, round(30 * (score or 0))))
    return Text.assemble("→ " if chosen else "  ", f"{name[:20]:<20} ", ("━" * length, "bold" if chosen else "dim"),
                         f" {number(score)}")


def decay_map(decay: DecayMap) -> tuple[Text, ...]:
    known = [rate for rate in decay.rates if rate is not None] or [1.0]
    low, high = min(known), max(known)
    wide, lines = 2 if decay.cols <= 30 else 1, []
    for row in range(decay.rows):
        rates = decay.rates[row * decay.cols:(row + 1) * decay.cols]
        lines.append("".join(wide * SHADES[0 if rate is None else 1 + round(3 * (rate - low) / ((high - low) or 1))]
                             for rate in rates))
    title, least, most = ("how fast the remembered frame fades, cell by cell",
                          f"keeps {low:.2f} of its weight a block", f"keeps {high:.2f}")
    if decay.replaces:
        title, least, most = "what was replaced in the remembered frames, cell by cell", "replaced", "as it was"
    return (Text(title, style="dim"), *(Text(f"  {line}") for line in lines),
            Text(f"  {SHADES[1] * 2} {least}   {SHADES[4] * 2} {most}", style="dim"))


def block_detail(trace: Trace, record: BlockRecord, layer: int | None = None) -> Group:
    facts, measured = trace.header.timeline[record.scene], record.measured
    table = _table("role", "from", "frames", "tokens", "position", "weight min / mean / max", "leaves")
    weights = measured.weights if measured else ()
    for slot, segment in enumerate(record.layout.segments):
        shown = " / ".join(number(value) for value in weights[slot]) if slot < len(weights) else "–"
        table.add_row(f"{GLYPHS[segment.role]} {segment.role.value}",
                      Text(trace.header.name_of(segment.scene), style=colour_of(segment.scene)),
                      _frames_of(segment), str(segment.tokens), str(segment.position), shown,
                      f"block {segment.expires}" if segment.expires is not None else "")
    jump = "" if record.layout.jump is None else f", jumped by {record.layout.jump}"
    parts: list[RenderableType] = [
        Text.assemble((f"block {record.block}", "bold"), f"  {_time_of(trace, record)} of ",
                      (facts.id, colour_of(record.scene)),
                      (f" · frames {record.frames[0]}–{record.frames[1] - 1} · {_pictures_of(record)}", "dim")),
        "", table, "",
        _line("queries", f"from position {record.layout.query_position}{jump}"),
        _line("calibration", record.calibration.value)]
    parts += _block_facts(record, layer, trace.header.name_of)
    if measured and measured.decay:
        parts += ["", *decay_map(measured.decay)]
    return Group(*parts)


def _time_of(trace: Trace, record: BlockRecord) -> str:
    begin, end = (clock(edge / trace.header.film.fps) for edge in record.pictures)
    if record.pictures[0] < record.pictures[1]:
        return f"{begin}–{end}"
    return "before the beginning" if record.pictures[1] == 0 else "after the end"


def _pictures_of(record: BlockRecord) -> str:
    """Which pictures a block has; the first blocks of a film may show those of the film that it continues."""
    begin, end = record.pictures
    if begin < end:
        return f"pictures {begin}–{end - 1}"
    return "pictures of the film before, none of this one" if end == 0 else "no pictures"


def _frames_of(segment: Segment) -> str:
    """Which frames a segment has; those of another film have no numbers in this one."""
    if segment.scene < 0 and segment.role is not Role.QUERY and len(segment.frames) > 1:
        return f"its first {len(segment.frames)} frames"
    return ranges(segment.frames)


def _block_facts(record: BlockRecord, layer: int | None, name_of: Callable[[int], str]) -> Iterator[RenderableType]:
    measured = record.measured
    if record.rolling:
        yield _line("rolled in", f"frames {', '.join(map(str, record.rolling.frames))}"
                                 f"{', backwards' if record.rolling.reverse else ''}")
    of_layer = measured.layers[layer] if measured and layer is not None else None
    chosen: tuple[tuple[int, float], ...] = of_layer.chosen if of_layer else ()
    scores = ""
    if not of_layer and measured and measured.chosen:
        chosen, scores = measured.chosen.frames, " · scores {} / {} / {}".format(*map(number, measured.chosen.scores))
    if chosen:
        yield _line("history", ", ".join(f"frame {frame}: {tokens:g}" for frame, tokens in chosen) + scores)
    drift = of_layer.drift if of_layer else measured.drift if measured else None
    if drift:
        yield _line("drift", f"similarity to the calibration {number(drift.similarity)}, gate {number(drift.gate)}")
    for index, frame in enumerate(measured.queries if measured else ()):
        held = ", ".join(
            f"{'earlier scenes' if scene is None else name_of(scene)} {number(share)}" for scene, share in frame.left
        )
        learned = 1 - sum(share for _, share in frame.left)
        yield _line(f"query {index + 1}", f"{held or 'nothing yet'}, as trained {number(max(0.0, learned))}"
                                          + ("" if frame.gate is None else f"; gate {number(frame.gate)}"))
    if record.evicted:
        yield _line("evicted", f"frames {ranges(record.evicted)}")
    yield _line("held", f"{size(sum(record.bytes.values()))}: "
                        + ", ".join(f"{name} {size(count)}" for name, count in record.bytes.items()))
    if measured:
        yield _line("times", ", ".join(f"{name} {value:.1f} ms" for name, value in measured.times._asdict().items()))
    else:
        yield _line("measures", "the run ended before they were measured")


# ---------------------------------------------------------------- two runs


def differences(diff: Diff) -> Group:
    parts: list[RenderableType] = []
    for title, changes in (("settings", diff.settings), ("decisions", diff.decisions), ("outcome", diff.outcome)):
        if changes:
            table = _table(title, "this", "other")
            for change in changes[:60]:
                table.add_row(change.what, str(change.this), str(change.other))
            parts += [table, ""]
    same = f"the same memory in all {plural(diff.blocks, 'block')}"
    parts.append(
        Text(
            same
            if not diff.differing
            else f"memory differs in {diff.differing:,} of {plural(diff.blocks, 'block')}, first in block {diff.first}"
        )
    )
    return Group(*parts)
