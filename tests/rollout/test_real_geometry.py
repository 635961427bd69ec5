"""The geometry of Wan 2.1: 1,560 tokens a frame, heads of 128, a window of 21 frames, the released positions.

A narrow transformer of two layers with random weights, against one that keeps no rotated window: every block's raw
tokens are rotated again, in every layer and pass, from the formula and not from the table.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from echo_cli.memory.policies import make_policy
from echo_cli.memory.table import read_settings
from echo_cli.models.files.loading import random_transformer
from echo_cli.rollout.rollout import rollout
from echo_cli.rollout.sampling import schedule
from echo_cli.runtime import KeyedNoise
from echo_cli.spec import WAN_1_3B
from echo_cli.storyboard.nouns import Scene, timeline_of

SPEC = replace(WAN_1_3B, depth=2, width=128, heads=1, ffn=128, text_dim=32, steps=(1000,))
ROWS, COLS = 30, 52


def turned(x: Tensor, first: int) -> Tensor:
    """Rotate [batch, frame * token, head, 128] from temporal position `first` on: 22 pairs by time, 21 by row, 21 by
    column."""
    frames = x.shape[1] // (ROWS * COLS)
    places = torch.stack(
        torch.meshgrid(torch.arange(first, first + frames), torch.arange(ROWS), torch.arange(COLS), indexing="ij"), -1
    )
    angles = torch.cat([places[..., axis, None] * 10_000.0 ** -(torch.arange(pairs, dtype=torch.float64) / pairs)
                        for axis, pairs in enumerate((22, 21, 21))], -1).flatten(0, 2)[:, None]
    even, odd = x.double().unflatten(-1, (-1, 2)).unbind(-1)
    return (
        torch.stack((even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()), -1)
        .flatten(-2)
        .float()
    )


class Recomputed:
    """A context without a cache."""

    def __init__(self, blocks: list[list[tuple[Tensor, Tensor]]]) -> None:
        self.blocks, self.fresh = blocks[-6:], []

    def extend(self, layer: int, query: Tensor, key: Tensor, value: Tensor):
        self.fresh = [*self.fresh[:layer], (key, value)]
        keys = torch.cat([block[layer][0] for block in self.blocks] + [key], 1)
        values = torch.cat([block[layer][1] for block in self.blocks] + [value], 1)
        return turned(query, 3 * len(self.blocks)), turned(keys, 0), values, None


@pytest.mark.slow
@torch.inference_mode()
def test_a_window_of_the_real_size_fills_and_rolls() -> None:
    grid = SPEC.grid()
    assert (grid.rows, grid.cols, SPEC.head_dim, SPEC.pairs, SPEC.window) == (ROWS, COLS, 128, (22, 21, 21), 21)
    timeline, transformer = timeline_of([Scene("scene", "", 1.0)], [8], SPEC.geometry), random_transformer(SPEC, 0)
    noise, rows = KeyedNoise(1, timeline.scenes), [torch.randn(1, 512, 32, generator=torch.Generator().manual_seed(0))]
    text, blocks = transformer.read(rows[0]), []
    (sigma,), (time,) = schedule(SPEC.steps, SPEC.shift).sigmas, schedule(SPEC.steps, SPEC.shift).times
    policy = make_policy("window", read_settings("window"), SPEC, timeline)
    for result in rollout(timeline, transformer, rows, policy, noise, grid):
        context, shape = Recomputed(blocks), result.latents.shape
        noisy = noise(result.block, 0, shape)
        clean = noisy - sigma * transformer(noisy, torch.full(shape[:2], time), text, context)
        transformer(clean, torch.zeros(shape[:2]), text, context)
        blocks.append(context.fresh)
        torch.testing.assert_close(result.latents, clean, atol=2e-5, rtol=1e-4)
