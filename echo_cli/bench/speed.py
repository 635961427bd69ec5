"""Where a block's time goes, at any model's size and with random weights, under each policy, and what share that is of
what the machine can do.

Runs the real rollout and charges its time to linear layers, attention, memory and the rest, with passes launched; then,
undisturbed, how long a pass takes launched and as a graph. With a codec, pictures are also decoded, on the host, as
`generate` does; encoding and whole films are measured in `stages`.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from types import ModuleType

import torch
from torch import nn

from echo_cli import __version__, machine
from echo_cli.bench import stages
from echo_cli.bench.filling import BlockTimes, Filling, block_times, filling_blocks, full_window, run_passes
from echo_cli.bench.kernels import Kernel, kernels_of
from echo_cli.bench.stages import WholeFilm
from echo_cli.context import BlockContext
from echo_cli.errors import MissingError, UsageError
from echo_cli.models import layers
from echo_cli.models.backend import Backend, Codec
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.loaders import load_backend
from echo_cli.models.transformer import Transformer
from echo_cli.models.tuning import choose_attention, quicken
from echo_cli.render.decoder import Decoder, Pictures
from echo_cli.rollout.rollout import BlockResult
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import Runtime
from echo_cli.spec import Grid, ModelSpec

PARTS = ("linear", "attention", "memory", "other")
SPEED, FORMAT = "bench speed", 1


@dataclass(frozen=True)
class PolicySpeed:
    """Medians over measured blocks with a full window, in milliseconds; `slope` is how much slower a block gets in the
    course of the run, as a share of the median block, with the spread that noise alone would give it: of processor time
    on a CPU, so that other processes do not count, and of the device's time on a GPU."""

    policy: str
    blocks: int
    block_ms: float
    spread_ms: float  # half the distance between the quartiles
    processor_ms: float
    parts_ms: dict[str, float]  # compiled passes count as linear, except attention to memory
    stages_ms: dict[str, float]
    memory_share: float
    operations: int
    share_of_peak: float
    pictures_per_second: float
    whole_pictures_per_second: float | None  # decoded, and on the host
    slope: float
    slope_error: float
    bytes_first: int
    bytes_last: int
    passes: dict[str, BlockTimes]  # on a GPU, undisturbed: with passes "launched" and, if they are compiled, "graphs"
    kernels: tuple[Kernel, ...] = ()  # of one more block, where they were wished for


@dataclass(frozen=True)
class SpeedReport:
    """`encode_ms` is processor time of the encoder for a block; `films` are whole ones, where the model's weights are
    here."""

    spec: str
    layers: int
    tokens_a_frame: int
    window: int
    dtype: str
    threads: int
    machine: str
    device: str
    compiled: bool
    attention: str
    torch: str
    version: str
    peak_flops: float
    decode_ms: float | None
    decoders_ms: dict[str, float]  # the same by each value of --decoder: full, the codec, and fast
    encode_ms: float
    load_s: float | None
    policies: tuple[PolicySpeed, ...]
    films: tuple[WholeFilm, ...]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict:
        return {"kind": SPEED, "format": FORMAT, **asdict(self)}


@dataclass(frozen=True)
class Wish:
    """What to measure. `model` names the weights for whole films of `film_seconds`; `decode` includes the codec,
    `profile` the kernels of a block."""

    policies: tuple[str, ...]
    model: str
    depth: int | None = None
    size: tuple[int, int] | None = None
    window: int | None = None
    blocks: int = 20
    warmup: int = 2
    compiled: bool = False
    decode: bool = False
    film_seconds: float = 0.0
    profile: bool = False


@contextmanager
def charged(transformer: Transformer, compiled: bool, watch: list[Stopwatch]) -> Iterator[None]:
    """Charge linear layers, attention, and memory's share of every pass to the stopwatch that is last in `watch`.
    Compiled code cannot be divided: its two pieces are charged whole."""
    with ExitStack() as stack:

        def charge(owner: object, method: str, part: str) -> None:
            stack.enter_context(stages.charged(owner, method, part, lambda: watch[-1]))

        charge(BlockContext, "extend", "memory")
        charge(BlockContext, "extend_projected", "memory")
        if fused := _fused(transformer):
            charge(fused, "product", "linear")
            charge(fused, "product_gelu", "linear")
        if not compiled:
            charge(nn.Linear, "forward", "linear")
            charge(layers, "attend", "attention")
        for block in transformer.layers:
            charge(block.self_attn, "attend", "attention")
            if compiled:
                charge(block, "ask", "linear")
                charge(block, "answer", "linear")
        yield


def _fused(transformer: Transformer) -> ModuleType | None:
    """The module of fused passes, if the transformer's passes are fused."""
    if "forward" not in vars(transformer):
        return None
    from echo_cli.models import fused

    return fused


def operations(spec: ModelSpec, grid: Grid, keys: int) -> int:
    """Floating-point operations of a block that attends to `keys` tokens: linear layers and attention of all its
    passes. A multiplication and an addition are two."""
    tokens = spec.block_frames * grid.tokens
    products = 2 * tokens * spec.width * (6 * spec.width + 2 * spec.ffn)  # q k v o, q o of the prompt's, and the FFN
    attention = 4 * tokens * spec.width * (keys + spec.text_len)
    return (len(spec.steps) + 1) * spec.depth * (products + attention)


def measure(spec: ModelSpec, runtime: Runtime, wish: Wish) -> SpeedReport:
    """Time some blocks of each policy after its window is full and has warmed up; then decoding and encoding, and a
    film under each policy."""
    if wish.depth is not None and wish.depth > spec.depth:
        raise UsageError(
            f"'{spec.name}' has {spec.depth} layers, not {wish.depth}", hint=f"Use --layers {spec.depth} or fewer."
        )
    whole = spec
    spec = replace(spec, depth=wish.depth or spec.depth, window=wish.window or spec.window)
    grid = spec.grid(wish.size)
    left_out: list[str] = []
    transformer = random_transformer(spec, 0, runtime.device, runtime.dtype)
    attention = choose_attention(transformer)
    if wish.compiled:
        quicken(transformer, graphs=False)  # what is recorded cannot be looked into
    filling, codec = Filling(transformer, grid), _codec(spec, runtime, left_out) if wish.decode else None
    peak = machine.peak(runtime)
    policies = tuple(_policy(filling, name, grid, runtime, wish, peak, codec) for name in wish.policies)
    decoders_ms = {way: stages.decode(each, spec, wish.size, runtime)
                   for way, each in (stages.decoders(spec, runtime) if codec else ())}
    encode_ms = stages.encode(spec, wish.size or spec.size, max(2, min(wish.blocks, 8)))
    films: tuple[WholeFilm, ...] = ()
    load_s = None
    if wish.film_seconds > 0 and spec == whole and wish.size is None:
        backend, load_s = _loaded(wish.model, runtime, left_out)
        films = (
            tuple(stages.whole_film(backend, name, runtime, wish.film_seconds) for name in wish.policies)
            if backend
            else ()
        )
    return SpeedReport(
        spec.name, spec.depth, grid.tokens, spec.window, str(runtime.dtype).removeprefix("torch."),
        torch.get_num_threads(), machine.name(), machine.device_name(runtime), wish.compiled, attention,
        torch.__version__, __version__, peak, decoders_ms.get("full"), decoders_ms, encode_ms, load_s, policies, films,
        tuple(left_out),
    )


def _codec(spec: ModelSpec, runtime: Runtime, left_out: list[str]) -> Codec | None:
    try:
        return stages.random_codec(spec, runtime)
    except MissingError as error:
        left_out.append(f"decoding: {error.message}")
        return None


def _loaded(model: str, runtime: Runtime, left_out: list[str]) -> tuple[Backend | None, float | None]:
    began = time.perf_counter()
    try:
        return load_backend(model, runtime), time.perf_counter() - began
    except MissingError as error:
        left_out.append(f"whole films: {error.message}")
        return None, None


@torch.inference_mode()
def _policy(model: Filling, name: str, grid: Grid, runtime: Runtime, wish: Wish, peak: float,
            codec: Codec | None) -> PolicySpeed:
    spec = model.spec
    if wish.compiled:  # the compiler's time is not counted
        next(full_window(model, name, grid, 0, 1))
    model.filling = True
    loop, full = filling_blocks(model, name, grid, wish.warmup, wish.blocks)
    held = [next(loop).bytes for _ in range(full)]
    model.filling = False
    parts, stage_times, processor, result = _laps(model.transformer, loop, runtime, wish)
    times = [lap["block"] for lap in parts]
    median = statistics.median(times)
    slope, error = _slope(processor if runtime.device.type == "cpu" else times)
    medians = {part: statistics.median(lap[part] for lap in parts) for part in PARTS}
    quartiles = statistics.quantiles(times, n=4) if len(times) > 1 else [median] * 3
    kernels = _kernels(model, name, grid, runtime.device) if wish.profile else ()
    passes = _passes(model, name, grid, wish)
    whole = _whole(model, name, grid, runtime, wish, codec) if codec else None
    if passes:
        run_passes(model.transformer, False if wish.compiled else None)
    work, pictures = operations(spec, grid, result.layout.tokens), spec.geometry.block_pictures
    return PolicySpeed(
        name, wish.blocks, median, (quartiles[2] - quartiles[0]) / 2, statistics.median(processor), medians,
        {key: statistics.median(stage[key] for stage in stage_times) for key in stage_times[0]},
        medians["memory"] / median, work, work / (median / 1000) / peak, 1000 * pictures / median,
        whole, slope, error, held[-1], result.bytes, passes, kernels,
    )


def _laps(transformer: Transformer, loop: Iterator[BlockResult], runtime: Runtime,
          wish: Wish) -> tuple[list[dict[str, float]], list[dict[str, float]], list[float], BlockResult]:
    """The measured blocks, charged: milliseconds by part, by stage, and of the processor; and the last block."""
    parts, stages_of, processor, watches = [], [], [], [Stopwatch(runtime.device)]
    with charged(transformer, wish.compiled, watches):
        for index in range(wish.warmup + wish.blocks):
            watches[:] = [Stopwatch(runtime.device)]
            began = time.process_time()
            with watches[-1]("block"):
                result = next(loop)
            spent = 1000 * (time.process_time() - began)
            if index >= wish.warmup:
                laps, stage = watches[-1].read(), result.times.read()
                laps["memory"] = laps.get("memory", 0.0) + stage["memory"]
                laps["other"] = laps["block"] - sum(laps[part] for part in PARTS[:-1])
                parts.append(laps)
                stages_of.append(stage)
                processor.append(spent)
    return parts, stages_of, processor, result


def _passes(model: Filling, name: str, grid: Grid, wish: Wish) -> dict[str, BlockTimes]:
    """What blocks take on a GPU while nobody looks into them, by the way in which passes run; graphs come last, so that
    what follows uses them, as films do."""
    ways = {"launched": False, "graphs": True} if wish.compiled else {"launched": None}
    if model.device.type != "cuda":
        return {}
    return {way: block_times(model, name, grid, wish.blocks, graphs) for way, graphs in ways.items()}


def _slope(times: Sequence[float]) -> tuple[float, float]:
    """How much slower a block gets in the course of the run, as a share of the median, and its error."""
    slope, error = trend(times)
    return slope * len(times) / statistics.median(times), error * len(times) / statistics.median(times)


def _kernels(model: Filling, name: str, grid: Grid, device: torch.device) -> tuple[Kernel, ...]:
    """Those of one block with a full window."""
    loop = full_window(model, name, grid, 1, 1)
    next(loop)
    return kernels_of(lambda: next(loop), device)


def _whole(model: Filling, name: str, grid: Grid, runtime: Runtime, wish: Wish, codec: Codec) -> float:
    """Pictures a second by the wall clock, each block decoded and fetched while the next one is generated."""
    loop = full_window(model, name, grid, 1, wish.blocks)
    behind: Pictures | None = None
    with Decoder(codec, runtime.decoding) as decode:
        decode(next(loop)).array()
        began = time.perf_counter()
        for result in loop:
            pictures = decode(result)
            if behind is not None:
                behind.array()
            behind = pictures
        assert behind is not None
        behind.array()
        return model.spec.geometry.block_pictures * wish.blocks / (time.perf_counter() - began)


def trend(times: Sequence[float]) -> tuple[float, float]:
    """Least-squares slope of times over their index, and its standard error."""
    count = len(times)
    if count < 3:
        return 0.0, 0.0
    middle, mean = (count - 1) / 2, statistics.fmean(times)
    spread = sum((index - middle) ** 2 for index in range(count))
    slope = sum((index - middle) * (lap - mean) for index, lap in enumerate(times)) / spread
    residual = sum((lap - mean - slope * (index - middle)) ** 2 for index, lap in enumerate(times))
    return slope, (residual / (count - 2) / spread) ** 0.5
