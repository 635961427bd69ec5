"""Blocks with a full window, and what they take when nobody looks into them: with passes launched kernel by kernel, and
with passes recorded as graphs.

The window is filled by a stand-in that writes random tokens without computing them, since memory cannot tell the
difference and it saves time.
"""

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from echo_cli.context import Context
from echo_cli.memory.policies import make_policy
from echo_cli.memory.table import read_settings
from echo_cli.models.transformer import Text, Transformer
from echo_cli.models.tuning import quicken
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import KeyedNoise
from echo_cli.spec import Grid
from echo_cli.storyboard.nouns import Scene, timeline_of


class Filling(nn.Module):
    """A transformer with a shortcut: while `filling`, its layers give memory random tokens and compute nothing."""

    def __init__(self, transformer: Transformer, grid: Grid, filling: bool = True) -> None:
        super().__init__()
        self.transformer, self.grid, self.filling = transformer, grid, filling
        self.spec, self.dtype, self.device = transformer.spec, transformer.dtype, transformer.device
        self.turn, self.eight = transformer.turn, transformer.eight

    def read(self, rows: Tensor) -> Text:
        return self.transformer.read(rows)

    def forward(self, latents: Tensor, times: Tensor, text: Text, context: Context) -> Tensor:
        if not self.filling:
            return self.transformer(latents, times, text, context)
        shape = (len(latents), latents.shape[1] * self.grid.tokens, self.spec.heads, self.spec.head_dim)
        tokens = torch.randn(shape, dtype=self.dtype, device=self.device)
        for layer in range(self.spec.depth):
            context.extend(layer, tokens, tokens, tokens)
        return torch.zeros_like(latents)


def filling_blocks(model: Filling, name: str, grid: Grid, warmup: int,
                   blocks: int) -> tuple[Iterator[BlockResult], int]:
    """A long scene, and the number of blocks that fill the window."""
    spec = model.spec
    full = spec.window // spec.block_frames + 1  # the last of these has a full window that has moved once
    timeline = timeline_of([Scene("scene", "", 1.0)], [full + warmup + blocks], spec.geometry)
    policy = make_policy(name, read_settings(name), spec, timeline)
    rows = [torch.randn(1, spec.text_len, spec.text_dim, generator=torch.Generator().manual_seed(0))]
    return rollout(timeline, model, rows, policy, KeyedNoise(0, timeline.scenes), grid), full


def full_window(model: Filling, name: str, grid: Grid, warmup: int, blocks: int) -> Iterator[BlockResult]:
    """The blocks after those that fill the window."""
    model.filling = True
    loop, full = filling_blocks(model, name, grid, warmup, blocks)
    for _ in range(full):
        next(loop)
    model.filling = False
    return loop


@dataclass(frozen=True, slots=True)
class BlockTimes:
    """Medians in milliseconds: of a block, of one of its denoising passes, and of the host; `stages_ms` by stage."""

    block_ms: float
    pass_ms: float
    host_ms: float
    stages_ms: dict[str, float]


def run_passes(transformer: Transformer, graphs: bool | None) -> None:
    """How passes run from now on: recorded as graphs, launched with fused kernels, or (None) as the layers are."""
    transformer.__dict__.pop("forward", None)
    if graphs is not None and transformer.device.type == "cuda":
        quicken(transformer, graphs)


def block_times(model: Filling, name: str, grid: Grid, blocks: int, graphs: bool | None) -> BlockTimes:
    """Medians over `blocks` with a full window, after two that warm up and are recorded. On a GPU, times between events
    are the device's."""
    run_passes(model.transformer, graphs)
    device, loop = model.device, full_window(model, name, grid, 2, blocks)
    next(loop)
    next(loop)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    watches, host, results = [], [time.perf_counter()], []
    for _ in range(blocks):
        watches.append(Stopwatch(device))
        with watches[-1]("block"):
            results.append(next(loop).times)
        host.append(time.perf_counter())
    block = statistics.median(watch.read()["block"] for watch in watches)
    stages = [times.read() for times in results]
    medians = {stage: statistics.median(each[stage] for each in stages) for stage in stages[0]}
    return BlockTimes(block, medians["denoise"] / len(model.spec.steps),
                      statistics.median(1000 * (b - a) for a, b in pairwise(host)), medians)


def over_window(model: Filling, name: str, grid: Grid, blocks: int) -> float:
    """How much longer a block takes under a policy than under `window`, as a share: the median over pairs of blocks
    that are made in turns, so that both are made at the same clock of a card that gets warm. Passes are launched:
    recordings would have to be made anew at every turn."""
    run_passes(model.transformer, False)
    loops = [full_window(model, each, grid, 1, blocks) for each in ("window", name)]
    watches: list[tuple[Stopwatch, ...]] = []
    for _ in range(1 + blocks):
        watches.append(tuple(Stopwatch(model.device) for _ in loops))
        for watch, loop in zip(watches[-1], loops, strict=True):
            with watch("block"):
                next(loop)
    window, other = ([pair[which].read()["block"] for pair in watches[1:]] for which in (0, 1))
    return statistics.median(b / a for a, b in zip(window, other, strict=True)) - 1
