"""What `rollout` yields, as trace records: host facts immediately, device facts when they are read.

The only place that knows both sides. It reads and translates; it decides nothing and keeps nothing.
"""

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from echo_cli.layout import Layout
from echo_cli.memory.policies.base import Facts, Policy
from echo_cli.rollout.rollout import BlockResult
from echo_cli.spec import Grid
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import AUTO, Geometry, Scene, Timeline
from echo_cli.trace.records import (
    KEYFRAMES,
    BlockRecord,
    Calibration,
    Candidate,
    Chosen,
    DecayMap,
    Drift,
    LayerMeasured,
    Measured,
    QueryFrame,
    RecallFrameRecord,
    RollingAnchor,
    SceneRecord,
    Spread,
    Times,
)

_LEAST = 0.005  # smallest share of a scene that is recorded
CARRIED = {"recall": "its recall frame", "keyframes": "its first frames", "select": "its first frame",
           "resink": "the window's first frame", "queries": "its queries",
           "both": "its queries and its recall frame"}


def scene_record(result: BlockResult, timeline: Timeline) -> SceneRecord:
    """How the scene that this block opens began."""
    block, transition = result.block, result.transition
    assert transition is not None
    scene, recall = timeline.scenes[block.scene], transition.recall
    return SceneRecord(
        block.scene,
        block.index,
        transition.kind,
        transition.source_scene,
        _why(scene, transition.source, recall),
        candidates(recall),
        transition.position_jump,
        dict(transition.settings),
    )


def candidates(recall: Recall | None) -> tuple[Candidate, ...]:
    """The scenes that could have been recalled."""
    return tuple(Candidate(*score) for score in recall.scores) if recall else ()


def _why(scene: Scene, source: str | None, recall: Recall | None) -> str | None:
    """Who decided which scene comes back, and what stands for it."""
    if recall is not None and recall.refused:
        return f"no earlier scene is similar enough to be recalled: the best scores {recall.similarity:.3f}"
    if source is None:
        return None
    if scene.recalls:
        who = "the prompt is nearest" if scene.recall in (None, AUTO) else "the storyboard names it"
    else:
        who = f"a {scene.transition} carries it over" if scene.transition else "it came before"
    return f"{who}; {CARRIED[source]}"


def block_record(result: BlockResult, timeline: Timeline) -> BlockRecord:
    """All that the host knew when the block was launched."""
    block, facts = result.block, result.facts
    frames = (block.frames.start, block.frames.stop)
    anchors = facts.anchors_from
    return BlockRecord(block.index, block.scene, frames, pictures_of(frames, timeline.geometry, timeline.pictures),
                       result.layout, _calibration(facts), {"memory": result.bytes},
                       RollingAnchor(anchors, reverse=anchors[0] > anchors[-1]) if anchors else None, facts.evicted,
                       given=result.given)


def recall_frame_record(result: BlockResult, policy: Policy) -> RecallFrameRecord | None:
    """How the scene that this block closes will be remembered, if it will be; call it a block later."""
    facts, recalling = result.facts, policy.settings.recalling
    if facts.kept:
        return RecallFrameRecord(result.block.scene, result.block.index, KEYFRAMES, facts.kept)
    if not facts.shares or recalling is None:
        return None
    return RecallFrameRecord(result.block.scene, result.block.index, recalling.fold, facts.folded,
                             tuple(facts.shares.read()))


def pictures_of(frames: tuple[int, int], geometry: Geometry, length: int) -> tuple[int, int]:
    """The pictures that latent frames become, as far as the film goes."""
    start, stop = (min(length, geometry.pictures(frame)) for frame in frames)
    return start, stop


def _calibration(facts: Facts) -> Calibration:
    if facts.calibrated:
        return Calibration.READY
    return Calibration.COLLECTING if facts.calibration_tokens else Calibration.OFF


def measured(result: BlockResult, grid: Grid) -> Measured:
    """What the device found; call it a block later, when it waits for nothing."""
    facts, times = result.facts, result.times.read()
    layers = _layers(facts, grid.tokens)
    return Measured(
        Times(*(times.get(part, 0.0) for part in Times._fields)),
        _weights(result.layout, facts.weights.read() if facts.weights else []),
        DecayMap(grid.rows, grid.cols, tuple(facts.decay_map.read())) if facts.decay_map else None,
        _chosen(facts, layers),
        Drift(*(float(np.mean(later.read())) for later in (facts.similarity, facts.gate)))
        if facts.similarity and facts.gate else None,
        layers,
        _queries(facts),
    )


def _weights(layout: Layout, fading: Sequence[Sequence[float]]) -> tuple[Spread, ...]:
    """A spread a segment, from one a fading frame; a frame that does not fade weighs 1."""
    rows = sorted({row for segment in layout.segments for row in segment.fades if row is not None})
    of: dict[int | None, Sequence[float]] = {row: fading[row - rows[0]] for row in rows} if fading else {}
    spreads = []
    for segment in layout.segments:
        least, mean, most = zip(*(of.get(row, (1.0, 1.0, 1.0)) for row in segment.fades), strict=True)
        spreads.append(Spread(min(least), sum(mean) / len(mean), max(most)))
    return tuple(spreads)


def _queries(facts: Facts) -> tuple[QueryFrame, ...]:
    """What each frame of queries held, but for traces too small to be seen, and how far it opened."""
    left = facts.left.read() if facts.left else []
    gates = facts.gates.read() if facts.gates else []
    return tuple(QueryFrame(tuple((scene, share) for scene, share in zip(facts.left_scenes, shares or (), strict=False)
                                  if share >= _LEAST), gate)
                 for shares, gate in zip_longest(left, gates))


def _layers(facts: Facts, tokens: int) -> tuple[LayerMeasured, ...]:
    """Each layer's own choice from history: every layer asks by itself."""
    if not (facts.chosen and facts.similarity and facts.gate):
        return ()
    layers = []
    for similarity, gate, chosen in zip(facts.similarity.read(), facts.gate.read(), facts.chosen.read(), strict=True):
        index = np.asarray(chosen)
        counts = np.bincount(index[index >= 0] // tokens, minlength=len(facts.history_frames))
        layers.append(LayerMeasured(Drift(similarity, gate), tuple(
            (frame, int(count)) for frame, count in zip(facts.history_frames, counts, strict=True)
            if count and frame is not None)))
    return tuple(layers)


def _chosen(facts: Facts, layers: Sequence[LayerMeasured]) -> Chosen | None:
    if not layers or facts.scores is None:
        return None
    totals: dict[int, int] = {}
    for layer in layers:
        for frame, tokens in layer.chosen:
            totals[frame] = totals.get(frame, 0) + tokens
    scores = np.asarray(facts.scores.read())  # [layer, least mean greatest]
    spread = Spread(float(scores[:, 0].min()), float(scores[:, 1].mean()), float(scores[:, 2].max()))
    return Chosen(tuple((frame, total / len(layers)) for frame, total in sorted(totals.items())), spread)
