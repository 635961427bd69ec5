"""Everything about a card's speed that can be measured in three minutes, in one run: the table that documents quote.

Random weights at the real sizes, made on the card: no download and no disk. Parts are independent: if one fails, the
others still run and the report says why; if the run is stopped, what was measured has been reported. On a CPU the same
runs at a small size, which shows that it works but says nothing about speed.
"""

import multiprocessing
import statistics
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from echo_cli import __version__, machine
from echo_cli.bench import stages
from echo_cli.bench.filling import Filling, block_times, filling_blocks, full_window, over_window, run_passes
from echo_cli.bench.kernels import by_kind, kernels_of
from echo_cli.eight import attend_to_codes
from echo_cli.errors import Interrupted
from echo_cli.memory.table import POLICIES
from echo_cli.models.backend import Backend, Codec
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.fp8 import use_part
from echo_cli.models.running import FastPart
from echo_cli.models.transformer import Transformer
from echo_cli.models.tuning import choose_attention, eight_bit_attention, quicken
from echo_cli.runtime import Runtime
from echo_cli.spec import TINY, WAN_1_3B, ModelSpec

CARD, FORMAT = "bench card", 1
SMALL = ModelSpec(name="small", depth=2, width=96, heads=2, ffn=128, channels=16, text_dim=32, text_len=8, freq_dim=16,
                  positions=96, size=(64, 48))
CHILD_S = 120.0  # after which a process that makes pictures again is killed
IN_WORDS = {FastPart.LINEAR: "linear layers, as --fast", FastPart.ATTENTION: "attention of all layers",
            FastPart.BOTH: "linear, attention of all layers"}
EXACT = 1e-4  # how close a small model in float32 must come to the CPU's latents


Rows = dict[str, Any]  # of a table, by name; a part adds them as it measures them


@dataclass(slots=True)
class CardReport:
    """`parts` holds tables by name, `failed` what went wrong in each part that failed, `seconds` how long each took."""

    device: str
    dtype: str
    torch: str
    version: str
    attention: str
    spec: str
    parts: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {"kind": CARD, "format": FORMAT, **asdict(self)}


class RandomText:
    """A text encoder that gives every prompt different random rows."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec

    def prepare(self, prompts: Sequence[str]) -> None:
        pass

    def encode(self, prompts: Sequence[str]) -> Tensor:
        return torch.stack([torch.randn(self._spec.text_len, self._spec.text_dim,
                                        generator=torch.Generator().manual_seed(sum(prompt.encode())))
                            for prompt in prompts])

    def unknown_words(self, prompt: str) -> Sequence[str]:
        return ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure: policies, blocks for each, the film's length, and the time after which no new part begins."""

    policies: tuple[str, ...] = tuple(name for name in POLICIES if name != "none")
    blocks: int = 6
    film_seconds: float = 10.0
    limit_s: float = 170.0


def measure(runtime: Runtime, plan: Plan = Plan(), say: Callable[[str], None] = lambda part: None,
            keep: Callable[[CardReport], None] = lambda report: None) -> CardReport:
    """The whole report; `keep` gets it as it stands after each part."""
    spec = WAN_1_3B if runtime.device.type == "cuda" else replace(TINY, depth=2)
    transformer = _transformer(spec, runtime)
    report = CardReport(machine.device_name(runtime), str(runtime.dtype).removeprefix("torch."), torch.__version__,
                        __version__, choose_attention(transformer), spec.name)
    bench = _Bench(runtime, plan, spec, transformer)
    began = time.perf_counter()
    for name, part in bench.parts().items():
        try:
            if time.perf_counter() - began > plan.limit_s:
                report.failed[name] = "not started: out of time"
            else:
                say(name)
                _add(report, name, part)
        except Interrupted:
            raise
        except Exception:  # a card that cannot do one thing still reports the rest
            say(traceback.format_exc())
        finally:
            keep(report)
    return report


def _add(report: CardReport, name: str, part: Callable[[Rows], None]) -> None:
    """Measure a part; what it measured before it failed or was stopped is in the report, too."""
    start, rows = time.perf_counter(), Rows()
    try:
        with torch.inference_mode():
            part(rows)
    except BaseException as error:
        report.failed[name] = f"{type(error).__name__}: {error}"[:300]
        raise
    finally:
        if rows or name not in report.failed:
            report.parts[name] = rows
        report.seconds[name] = round(time.perf_counter() - start, 1)


def _transformer(spec: ModelSpec, runtime: Runtime) -> Transformer:
    return random_transformer(spec, 0, runtime.device, runtime.dtype, runtime.device)


class _Bench:
    def __init__(self, runtime: Runtime, plan: Plan, spec: ModelSpec, transformer: Transformer) -> None:
        self.runtime, self.plan, self.spec, self.transformer = runtime, plan, spec, transformer
        self.cuda = runtime.device.type == "cuda"
        self.grid = spec.grid()
        self.quick: dict[str, Transformer] = {}  # in eight bits, once `fast` has made them

    def parts(self) -> dict[str, Callable[[Rows], None]]:
        return {"right": self.right, "film": self.film, "policies": self.policies, "fast": self.fast,
                "decoders": self.decoders, "resume": self.resume, "kernels": self.kernels}

    # Is it right?

    def right(self, rows: Rows) -> None:
        """A small model in float32: how far the device's latents are from the CPU's under every policy; and whether
        recorded passes give the same bits as passes that are launched one kernel at a time."""
        cpu, here = Runtime(torch.device("cpu"), torch.float32), Runtime(self.runtime.device, torch.float32)
        far = {}
        for name in self.plan.policies:
            plain = self._small_film(name, cpu, graphs=None)
            far[name] = max(_distance(a, b) for a, b in zip(plain, self._small_film(name, here, False), strict=True))
        rows |= {"distance_from_cpu": far, "all_near": all(each < EXACT for each in far.values())}
        if self.cuda:
            half = Runtime(self.runtime.device, torch.bfloat16)
            films = [[*self._small_film("window", half, graphs), *self._small_film("echo-forcing", half, graphs)]
                     for graphs in (False, True)]
            rows["graphs_equal_launched"] = all(torch.equal(a, b) for a, b in zip(*films, strict=True))

    def _small_film(self, name: str, runtime: Runtime, graphs: bool | None) -> list[Tensor]:
        transformer = random_transformer(SMALL, 0, runtime.device, runtime.dtype)
        choose_attention(transformer)
        if graphs is not None and runtime.device.type == "cuda":
            quicken(transformer, graphs)
        blocks = filling_blocks(Filling(transformer, SMALL.grid(), False), name, SMALL.grid(), 0, 4)[0]
        return [result.latents.float().cpu() for result in blocks]

    # How long does a block take?

    def policies(self, rows: Rows) -> None:
        for name in self.plan.policies:
            rows[name] = self._blocks(name, graphs=True)
        rows["window, launched"] = self._blocks("window", graphs=False)
        rows["echo-forcing, launched"] = self._blocks("echo-forcing", graphs=False)
        if self.cuda:
            rows["window, plain"] = self._blocks("window", graphs=None)
        for name in ("echo", "echo-forcing"):
            rows[f"{name} over window"] = {"share": over_window(Filling(self.transformer, self.grid), name, self.grid,
                                                                self.plan.blocks)}

    def _blocks(self, name: str, graphs: bool | None, transformer: Transformer | None = None) -> dict[str, float]:
        """Medians over blocks with a full window: of the device's time, of the host's, and of each stage."""
        times = block_times(Filling(transformer or self.transformer, self.grid), name, self.grid, self.plan.blocks,
                            graphs)
        return {"block_ms": times.block_ms,
                "pictures_per_second": 1000 * self.spec.geometry.block_pictures / times.block_ms,
                "pass_ms": times.pass_ms, "host_ms": times.host_ms,
                **{f"{stage}_ms": ms for stage, ms in times.stages_ms.items()}, "peak_gb": self._peak()}

    def _settle(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.runtime.device)
            torch.cuda.reset_peak_memory_stats(self.runtime.device)

    # Where does it go?

    def kernels(self, rows: Rows) -> None:
        """Milliseconds by kernel of a launched block under window, echo-infinity and, also in eight bits, echo-forcing;
        and of decoding three."""
        if not self.cuda:
            return
        for name in ("window", "echo-forcing", "echo-infinity"):
            rows[name] = self._kernels(name, self.transformer)
        for name, quick in self.quick.items():
            rows[f"echo-forcing, {name}"] = self._kernels("echo-forcing", quick)
        codec = stages.random_codec(self.spec, self.runtime)
        stages.decode_times(codec, self.spec, None, self.runtime, 2)
        rows["full decoder, three blocks"] = self._profile(
            lambda: stages.decode_times(codec, self.spec, None, self.runtime, 3))

    def _kernels(self, name: str, transformer: Transformer) -> dict[str, Any]:
        run_passes(transformer, False)
        loop = full_window(Filling(transformer, self.grid), name, self.grid, 1, 1)
        next(loop)
        torch.cuda.synchronize()
        return self._profile(lambda: next(loop))

    def _profile(self, run: Callable[[], Any]) -> dict[str, Any]:
        kernels = kernels_of(run, self.runtime.device)
        return {"kinds": by_kind(kernels), "kernels": [asdict(kernel) for kernel in kernels[:40]]}

    # And the pictures?

    def decoders(self, rows: Rows) -> None:
        for name, codec in stages.decoders(self.spec, self.runtime):
            for way, benchmark in (("", False), (", cudnn.benchmark", True)):
                self._settle()
                with torch.backends.cudnn.flags(enabled=True, benchmark=benchmark, allow_tf32=True):
                    times = stages.decode_times(codec, self.spec, None, self.runtime, 6)
                rows[name + way] = {"block_ms": statistics.median(times[2:]), "first_ms": times[0],
                                    "second_ms": times[1], "peak_gb": self._peak()}

    def _peak(self) -> float:
        return torch.cuda.max_memory_allocated(self.runtime.device) / 1e9 if self.cuda else 0.0

    def film(self, rows: Rows) -> None:
        """A film from storyboard to MP4, including everything a process sets up the first time; then the same film
        again."""
        run_passes(self.transformer, True)
        for name, codec in stages.decoders(self.spec, self.runtime):
            backend = _backend(self.transformer, codec)
            for time_of in ("first", "second"):
                self._settle()
                made = stages.whole_film(backend, "echo-forcing", self.runtime, self.plan.film_seconds)
                rows[f"{name} decoder, {time_of} film"] = {
                    "pictures": made.pictures, "wall_s": made.wall_s, "pictures_per_second": made.pictures_a_second,
                    "first_picture_s": made.first_picture_s,
                    "peak_gb": self._peak()}

    # In eight bits

    def fast(self, rows: Rows) -> None:
        """What eight bits gain, in blocks and in a film with the fast decoder, and how far they move latents, relative
        to their length: in linear layers, which is what --fast computes for weights whose attention has not been
        measured; and beyond it, in the attention of all layers."""
        kernel, words = eight_bit_attention(self.runtime.device, self.runtime.dtype)
        rows["attention in eight bits"] = words
        run_passes(self.transformer, True)
        exact = self._latents(self.transformer)
        for part in IN_WORDS if kernel or not self.cuda else (FastPart.LINEAR,):
            quick, name = _transformer(self.spec, self.runtime), IN_WORDS[part]
            choose_attention(quick)
            use_part(quick, part, self.runtime.device, kernel or attend_to_codes)
            for policy in ("window",) if part is FastPart.ATTENTION else ("window", "echo-forcing"):
                rows[f"{policy}, {name}"] = self._blocks(policy, True, quick)
            rows[f"moved, {name}"] = [_distance(a, b) for a, b in zip(exact, self._latents(quick), strict=True)]
            if part is not FastPart.ATTENTION:
                self.quick[name] = quick
            if part is FastPart.LINEAR:
                *_, (decoder, codec) = stages.decoders(self.spec, self.runtime)
                made = stages.whole_film(_backend(quick, codec), "echo-forcing", self.runtime, self.plan.film_seconds)
                rows[f"{decoder} decoder, {name}"] = {"pictures_per_second": made.pictures_a_second,
                                                      "wall_s": made.wall_s}

    def _latents(self, transformer: Transformer) -> list[Tensor]:
        """Of blocks until the window is full."""
        blocks = filling_blocks(Filling(transformer, self.grid, False), "window", self.grid, 0, 1)[0]
        return [result.latents.float().cpu() for result in blocks]

    # And after an interruption?

    def resume(self, rows: Rows) -> None:
        """A film that was stopped with a full window: the seconds until a new process has made its next picture, with
        imports, kernels and graphs. Its weights are drawn on the device instead of read from a disk."""
        stop = self.spec.window // self.spec.block_frames + 2
        seconds = (stop + 4) * self.spec.geometry.block_pictures / self.spec.fps
        if self.cuda:
            torch.cuda.empty_cache()
        with tempfile.TemporaryDirectory(prefix="echo-resume-") as folder:
            codec = next(stages.decoders(self.spec, self.runtime))[1]
            stages.stopped_film(_backend(self.transformer, codec), "echo-forcing", self.runtime, seconds, stop, folder)
            began = time.time()
            loaded, first = _in_new_process(_resumed, self.spec, self.runtime, seconds, folder)
        rows["until the next picture"] = {"seconds": first - began, "of them loading": loaded - began}


def _in_new_process(work: Callable[..., Any], *given: Any) -> Any:
    """What a function returns in a process of its own, which is killed if that takes too long."""
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        future = pool.submit(work, *given)
        try:
            return future.result(CHILD_S)
        except TimeoutError:
            raise RuntimeError(f"a new process was not done within {CHILD_S:g} seconds") from None
        finally:
            if not future.done():  # the pool would wait for it
                for child in set(multiprocessing.active_children()).difference(others):
                    child.kill()


def _resumed(spec: ModelSpec, runtime: Runtime, seconds: float, folder: str) -> tuple[float, float]:
    """In a process of its own: the times of day when the model was loaded, and when the first picture was there."""
    transformer = _transformer(spec, runtime)
    choose_attention(transformer)
    run_passes(transformer, True)
    backend, loaded = _backend(transformer, stages.random_codec(spec, runtime)), time.time()
    return loaded, stages.stopped_film(backend, "echo-forcing", runtime, seconds, 1, folder)


def _backend(transformer: Transformer, codec: Codec) -> Backend:
    return Backend(transformer.spec, transformer, RandomText(transformer.spec), codec, "random")


def _distance(true: Tensor, other: Tensor) -> float:
    return float((other - true).norm() / true.norm())


def table(report: Mapping[str, Any]) -> list[str]:
    """The report as lines."""
    lines = [f"{report['device']}, {report['spec']}, {report['dtype']}, attention by {report['attention']}, "
             f"torch {report['torch']}, echo-cli {report['version']}"]
    for part, figures in report["parts"].items():
        lines.append(f"\n{part} ({report['seconds'][part]} s)")
        for name, row in figures.items():
            if part == "kernels":
                lines += [f"  {name}", *(f"    {ms:>9.2f} ms         {kind}" for kind, ms in row["kinds"].items()), "",
                          *(f"    {each['ms']:>9.2f} ms {each['count']:>6}  {each['name'][:100]}"
                            for each in row["kernels"])]
            elif isinstance(row, dict):
                lines.append(f"  {name:<46}" + "  ".join(f"{key} {value:,.4g}" for key, value in row.items()))
            else:
                words = " ".join(f"{share:.2%}" for share in row) if isinstance(row, list) else row
                lines.append(f"  {name:<46}{words}")
    return [*lines, *(f"\nfailed: {name}: {why}" for name, why in report["failed"].items())]
