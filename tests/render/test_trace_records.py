"""The translation from blocks to records, where a whole film would not show a slip."""

import numpy as np
import torch

from echo_cli.layout import Layout, Role, Segment
from echo_cli.memory.policies.base import Facts
from echo_cli.render.trace_records import measured, pictures_of
from echo_cli.rollout.rollout import BlockResult
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import Later
from echo_cli.spec import Grid
from echo_cli.storyboard.nouns import Block, Geometry

GRID = Grid(4, 4, 2, 2)
CURRENT = Segment(Role.CURRENT, 1, (30, 31, 32), 12, 9, None, (4, 5, 6), (None,) * 3)


def result(facts: Facts, *segments: Segment) -> BlockResult:
    return BlockResult(
        Block(10, 1, 0, range(30, 33), True, False),
        torch.zeros(1),
        Layout((*segments, CURRENT), 9),
        None,
        facts,
        0,
        Stopwatch(torch.device("cpu")),
        Later(torch.tensor(True)),
        dict,
    )


def test_a_segment_has_the_weights_of_its_own_frames() -> None:
    """Rows of weights are counted from the first that fades; a frame beside them weighs 1."""
    carried = Segment(Role.TRANSITION, 0, (None, 28), 8, 0, 12, (0, 1), (None, 1))
    alone = Segment(Role.TRANSITION, 0, (29,), 4, 2, 12, (2,), (2,))
    facts = Facts(weights=Later(torch.tensor([[0.2, 0.5, 0.8], [0.1, 0.25, 0.375]])))
    spreads = measured(result(facts, carried, alone), GRID).weights
    assert [tuple(np.float32(spread)) for spread in spreads] == [
        tuple(np.float32((0.2, 0.75, 1.0))), tuple(np.float32((0.1, 0.25, 0.375))), (1.0, 1.0, 1.0)]


def test_chosen_tokens_are_counted_by_the_frame_they_came_from() -> None:
    facts = Facts(
        history_frames=(12, 15, 18),
        similarity=Later(torch.tensor([0.5, 1.0])),
        gate=Later(torch.tensor([0.0, 0.5])),
        chosen=Later(torch.tensor([[0, 3, 4, 11], [-1, 5, 6, 7]])),
        scores=Later(torch.tensor([[1.0, 2.0, 3.0], [0.5, 1.0, 5.0]])),
    )
    actual = measured(result(facts), GRID)
    assert [layer.chosen for layer in actual.layers] == [((12, 2), (15, 1), (18, 1)), ((15, 3),)]
    assert actual.chosen.frames == ((12, 1.0), (15, 2.0), (18, 0.5)) and tuple(actual.chosen.scores) == (0.5, 1.5, 5.0)
    assert tuple(actual.drift) == (0.75, 0.25)


def test_pictures_of_a_block_end_with_the_film() -> None:
    geometry = Geometry()
    assert [pictures_of(frames, geometry, 20) for frames in ((0, 3), (3, 6), (6, 9))] == [(0, 9), (9, 20), (20, 20)]
