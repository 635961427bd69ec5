"""Where a block's time goes, at any model's size and with random weights, under each policy.

Runs the real rollout and charges its time to linear layers, attention, memory and the rest. The window is filled by a
stand-in that writes random tokens without computing them, since memory cannot tell and the wait would be long.
"""

import platform
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from echo_cli import __version__
from echo_cli.context import BlockContext, Context
from echo_cli.errors import UsageError
from echo_cli.memory.policies import make_policy
from echo_cli.memory.settings import read_settings
from echo_cli.models import layers
from echo_cli.models.loading import random_transformer
from echo_cli.models.spec import Grid, ModelSpec
from echo_cli.models.transformer import Text, Transformer
from echo_cli.rollout.rollout import rollout
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.storyboard.nouns import Scene, timeline_of

PARTS = ("linear", "attention", "memory", "other")


@dataclass(frozen=True)
class PolicySpeed:
    """Medians over measured blocks with a full window, in milliseconds; `slope` is how much slower a block gets in the
    course of the run, as a share of the median block, with the spread that noise alone would give it."""

    policy: str
    blocks: int
    block_ms: float
    spread_ms: float  # half the distance between the quartiles
    parts_ms: dict[str, float]
    stages_ms: dict[str, float]
    memory_share: float
    slope: float
    slope_error: float
    bytes_first: int
    bytes_last: int


@dataclass(frozen=True)
class SpeedReport:
    spec: str
    layers: int
    tokens_a_frame: int
    window: int
    dtype: str
    threads: int
    machine: str
    torch: str
    version: str
    policies: tuple[PolicySpeed, ...]

    def as_dict(self) -> dict:
        return asdict(self)


class Filling(nn.Module):
    """A transformer that can pretend: while `filling`, its layers hand memory random tokens and compute nothing."""

    def __init__(self, transformer: Transformer, grid: Grid) -> None:
        super().__init__()
        self.transformer, self.grid, self.filling = transformer, grid, True
        self.spec, self.dtype, self.device = transformer.spec, transformer.dtype, transformer.device

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


@contextmanager
def charged(watch: list[Stopwatch]) -> Iterator[None]:
    """Charge linear layers, attention, and memory's share of every pass to the stopwatch that is last in `watch`."""
    linear, attend, extend = nn.Linear.forward, layers.attend, BlockContext.extend

    def timed(name: str, call):
        def run(*args):
            with watch[-1](name):
                return call(*args)
        return run

    nn.Linear.forward, layers.attend, BlockContext.extend = (
        timed("linear", linear), timed("attention", attend), timed("memory", extend))
    try:
        yield
    finally:
        nn.Linear.forward, layers.attend, BlockContext.extend = linear, attend, extend


def measure(spec: ModelSpec, names: Sequence[str], runtime: Runtime, *, depth: int | None, size: tuple[int, int] | None,
            blocks: int, warmup: int) -> SpeedReport:
    """Time `blocks` blocks of each policy after its window is full and `warmup` more have passed."""
    if depth is not None and depth > spec.depth:
        raise UsageError(f"'{spec.name}' has {spec.depth} layers, not {depth}", hint=f"Use --layers {spec.depth} or fewer.")
    spec = replace(spec, depth=depth or spec.depth)
    grid = spec.grid(size)
    model = Filling(random_transformer(spec, 0, runtime.device, runtime.dtype), grid)
    device = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else platform.processor() or platform.machine()
    return SpeedReport(spec.name, spec.depth, grid.tokens, spec.window, str(runtime.dtype).removeprefix("torch."),
                       torch.get_num_threads(), f"{device}, {platform.system()}", torch.__version__, __version__,
                       tuple(_policy(model, name, grid, runtime, blocks, warmup) for name in names))


@torch.inference_mode()
def _policy(model: Filling, name: str, grid: Grid, runtime: Runtime, blocks: int, warmup: int) -> PolicySpeed:
    spec, parts, stages, held = model.spec, [], [], []
    full = spec.window // spec.block_frames  # the block after these finds the window full, and has seen it roll
    total = full + 1 + warmup + blocks
    timeline = timeline_of([Scene("scene", "", 1.0)], [total], spec.geometry)
    policy = make_policy(name, read_settings(name), spec, timeline)
    rows = [torch.randn(1, spec.text_len, spec.text_dim, generator=torch.Generator().manual_seed(0))]
    model.filling, watches = True, [Stopwatch(runtime.device)]
    loop = rollout(model, rows, policy, KeyedNoise(0, timeline.scenes), grid)
    with charged(watches):
        for index in range(total):
            model.filling = index < full + 1
            watches.append(Stopwatch(runtime.device))
            with watches[-1]("block"):
                result = next(loop)
            held.append(result.bytes)
            if index >= full + 1 + warmup:
                laps, stage = watches[-1].read(), result.times.read()
                laps["memory"] += stage["memory"]
                laps["other"] = laps["block"] - sum(laps[part] for part in PARTS[:-1])
                parts.append(laps)
                stages.append(stage)
            watches[:-1] = []
    times = [lap["block"] for lap in parts]
    median = statistics.median(times)
    slope, error = trend(times)
    medians = {part: statistics.median(lap[part] for lap in parts) for part in PARTS}
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [median] * 3
    return PolicySpeed(name, blocks, median, (quartiles[2] - quartiles[0]) / 2, medians,
                       {key: statistics.median(stage[key] for stage in stages) for key in stages[0]},
                       medians["memory"] / median, slope * len(times) / median, error * len(times) / median,
                       held[full + 1], held[-1])


def trend(times: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of times over their index, and its standard error."""
    count = len(times)
    if count < 3:
        return 0.0, 0.0
    middle, mean = (count - 1) / 2, statistics.fmean(times)
    spread = sum((index - middle) ** 2 for index in range(count))
    slope = sum((index - middle) * (time - mean) for index, time in enumerate(times)) / spread
    residual = sum((time - mean - slope * (index - middle)) ** 2 for index, time in enumerate(times))
    return slope, (residual / (count - 2) / spread) ** 0.5
