"""A made-up run with the shape of a real one: what the echo-forcing memory would hold, block by block, for any story.

The window is 21 frames: 12 anchors that roll in a triangle wave once it is full, 3 of history, 3 recent, 3 current.
A scene opens with one remembered frame (and two recent ones when the transition is smooth) that fade and then leave.
"""

import math
import random
from collections.abc import Iterator
from pathlib import Path

from echo_cli.layout import Layout, Role, Segment
from echo_cli.storyboard.nouns import Block, Geometry, Kind, Scene, Timeline, timeline_of
from echo_cli.trace.records import (
    BlockRecord,
    Calibration,
    Candidate,
    Chosen,
    DecayMap,
    DeviceFacts,
    Drift,
    FilmFacts,
    Header,
    LayerMeasured,
    Measured,
    ModelFacts,
    PolicyFacts,
    RecallFrameRecord,
    RollingAnchor,
    SceneRecord,
    Spread,
    StoryboardFacts,
    Times,
    scene_facts,
)
from echo_cli.trace.writer import TraceWriter

ROWS, COLS, LAYERS = 4, 6, 4
CELLS = ROWS * COLS
WINDOW, ANCHORS, SIZE = 21, 12, 3
LEAVES = {Kind.SMOOTH: 5, Kind.HARD_CUT: 1, Kind.RECALL: 5}
RATES = {Kind.SMOOTH: (0.80, 0.95), Kind.HARD_CUT: (1.0, 1.0), Kind.RECALL: (0.55, 0.90)}

STORY = (
    Scene("rooftop", "A red ball rolls to the left across a rooftop garden at sunset", 9.0),
    Scene("edge", "The red ball stops at the edge of the roof", 9.0, Kind.SMOOTH),
    Scene("subway", "A blue box slides along a dim subway platform at night", 9.0, Kind.HARD_CUT),
    Scene("back", "Back on the rooftop garden the ball bounces", 12.0, Kind.RECALL, "rooftop"),
)


def timeline(scenes: tuple[Scene, ...] = STORY) -> Timeline:
    return timeline_of(list(scenes), [max(1, round(scene.seconds / 0.75)) for scene in scenes], Geometry())


def header(film: Timeline, **policy: object) -> Header:
    settings = {"window_frames": WINDOW, "anchor_frames": ANCHORS, "history_frames": 3, "recent_frames": 3,
                "rolling_cycle": 4, "drift_gate": True, "smooth": {"clear_after_blocks": 5}, **policy}
    return Header("echo-cli", "0.1.0", 7, StoryboardFacts("Rooftop, subway, rooftop", "rooftop.yaml", "ab" * 32),
                  ModelFacts("tiny", LAYERS, ROWS, COLS), DeviceFacts("cpu", "float32"),
                  PolicyFacts("echo-forcing", settings),
                  FilmFacts(384, 256, film.geometry.fps, film.pictures, film.geometry.block_frames,
                            film.geometry.frame_pictures, "film.mp4"), scene_facts(film))


def remembered(film: Timeline, scene: int, number: int) -> tuple[list[Segment], RollingAnchor | None]:
    """What stands before the block itself: block `number` of `scene`."""
    kind, first = film.spans[scene].scene.transition, film.frames_of(scene).start
    segments: list[Segment] = []
    fill = number * SIZE
    if kind and number < LEAVES[kind]:
        source = source_of(film, scene)
        expires = film.spans[scene].blocks.start + LEAVES[kind]
        segments.append(Segment(Role.TRANSITION, source, (None,), CELLS, 0, expires))
        if kind is Kind.SMOOTH:
            segments.append(Segment(Role.RECENT, scene - 1, (first - 2, first - 1), 2 * CELLS, 1, expires))
    at = sum(len(segment.frames) for segment in segments)
    rolling = None
    if fill + SIZE <= WINDOW:
        anchors = range(first, first + min(fill, ANCHORS))
        recent = range(first + len(anchors), first + fill)
    else:
        rolled = fill - (WINDOW - SIZE)  # frames that have rolled in
        anchors = [first + wave(rolled + slot) for slot in range(ANCHORS)]
        rolling = RollingAnchor(tuple(anchors[-SIZE:]), reverse=anchors[-1] < anchors[-2])
        segments.append(Segment(Role.ANCHOR, scene, tuple(anchors), ANCHORS * CELLS, at))
        segments.append(Segment(Role.HISTORY, scene, (None,) * SIZE, SIZE * CELLS, at + ANCHORS))
        at, anchors, recent = at + ANCHORS + SIZE, [], range(first + fill - SIZE, first + fill)
    for role, frames in ((Role.ANCHOR, anchors), (Role.RECENT, recent)):
        if len(frames):
            segments.append(Segment(role, scene, tuple(frames), len(frames) * CELLS, at))
            at += len(frames)
    return segments, rolling


def wave(step: int) -> int:
    """0 … 11, 11 … 0, 0 … 11 and so on."""
    step %= 2 * ANCHORS
    return min(step, 2 * ANCHORS - 1 - step)


def source_of(film: Timeline, scene: int) -> int:
    """The scene whose recall frame opens this one."""
    if film.spans[scene].scene.transition is Kind.RECALL:
        return [span.scene.id for span in film.spans].index(film.spans[scene].scene.recall)
    return scene - 1


def scene_record(film: Timeline, index: int) -> SceneRecord:
    scene, block = film.spans[index].scene, film.spans[index].blocks.start
    kind = scene.transition
    if kind is None:
        return SceneRecord(index, block)
    chosen_by = "named by the storyboard" if kind is Kind.RECALL else "the scene before"
    scores = tuple(Candidate(earlier, 0.9 if earlier == source_of(film, index) else round(0.1 + 0.07 * earlier, 3))
                   for earlier in range(max(0, index - 64), index)) if kind is Kind.RECALL else ()
    return SceneRecord(index, block, kind, source_of(film, index), chosen_by, scores,
                       45 if kind is Kind.HARD_CUT else 0,
                       {"clear_after_blocks": LEAVES[kind], "rate_min": RATES[kind][0], "rate_max": RATES[kind][1]})


def decay_map(kind: Kind, dice: random.Random) -> DecayMap:
    low, high = RATES[kind]
    x, y = dice.uniform(1, COLS - 1), dice.uniform(1, ROWS - 1)
    near = (math.exp(-((col + 0.5 - x) ** 2 + (row + 0.5 - y) ** 2) / 3) for row in range(ROWS) for col in range(COLS))
    return DecayMap(ROWS, COLS, tuple(high - (high - low) * each for each in near))


def records(film: Timeline) -> Iterator[SceneRecord | RecallFrameRecord | BlockRecord]:
    """A whole run, in order."""
    dice = random.Random(7)
    for block in film.blocks:
        kind = film.spans[block.scene].scene.transition
        if block.opens:
            yield scene_record(film, block.scene)
            decay = decay_map(kind, dice) if kind else None
        segments, rolling = remembered(film, block.scene, block.number)
        position = sum(len(segment.frames) for segment in segments)
        fading = [segment.expires is not None for segment in segments]
        segments.append(Segment(Role.CURRENT, block.scene, tuple(block.frames), SIZE * CELLS, position))
        full = len(film.frames_of(block.scene)[:block.number * SIZE + SIZE]) >= WINDOW
        yield BlockRecord(
            block.index, block.scene, (block.frames.start, block.frames.stop),
            (film.geometry.pictures(block.frames.start), film.geometry.pictures(block.frames.stop)),
            Layout(tuple(segments), position, scene_record(film, block.scene).jump if block.opens else None),
            Calibration.READY if full else Calibration.COLLECTING,
            {"window": position * 98_304, "history": min(block.number, 7) * SIZE * 98_304,
             "scenes": block.scene * 98_304},
            rolling, gone(film, block.scene, block.number, segments),
            measured(segments, fading, decay if kind else None, block, dice))
        if block.closes:
            first = film.frames_of(block.scene).start
            yield RecallFrameRecord(block.scene, block.index, "score_weighted", (first, first + 4, first + 8),
                                    (0.93, 0.04, 0.03))


def gone(film: Timeline, scene: int, number: int, segments: list[Segment]) -> tuple[int, ...]:
    kind = film.spans[scene].scene.transition
    if kind is None or number + 1 != LEAVES[kind]:
        return ()
    return tuple(frame for each in segments if each.expires for frame in each.frames if frame is not None)


def measured(segments: list[Segment], fading: list[bool], decay: DecayMap | None, block: Block,
             dice: random.Random) -> Measured:
    whole = Spread(1.0, 1.0, 1.0)
    weights = [whole] * len(segments)
    if decay:
        faded = [rate ** block.number for rate in decay.rates]
        spread = Spread(min(faded), sum(faded) / len(faded), max(faded))
        weights = [spread if fades else whole for fades in [*fading, False]]
    chosen = drift = None
    if any(segment.role is Role.HISTORY for segment in segments):
        frames = sorted(dice.sample(range(block.frames.start - 21, block.frames.start - 3), 6))
        counts = [dice.randint(4, 12) for _ in frames[1:]]
        chosen = Chosen(tuple(zip(frames, [*counts, 72 - sum(counts)], strict=True)), Spread(1.2, 2.3, 4.1))
        drift = Drift(1 - 0.4 * (1 - math.exp(-block.number / 12)) * dice.random(), 0.7)
    layers = (LayerMeasured(drift, tuple((frame, round(tokens)) for frame, tokens in chosen.frames)),) if chosen else ()
    return Measured(Times(180 + dice.random() * 20, 40 + dice.random() * 5, 3 + dice.random(), 25 + dice.random() * 4),
                    tuple(weights), decay if block.opens else None, chosen, drift, LAYERS * layers)


def write_story(path: Path, scenes: tuple[Scene, ...] = STORY, blocks: int | None = None, **policy: object) -> Path:
    """The whole trace, or what is left of a run that was stopped after `blocks` blocks."""
    film = timeline(scenes)
    with TraceWriter(path, header(film, **policy)) as writer:
        for record in records(film):
            if isinstance(record, SceneRecord):
                writer.scene(record)
            elif isinstance(record, RecallFrameRecord):
                writer.recall_frame(record)
            else:
                writer.block(record)
                if blocks == record.block + 1:
                    return path.with_name(path.name + ".partial")
        writer.finish(wall_seconds=20.0)
        writer.publish()
    return path
