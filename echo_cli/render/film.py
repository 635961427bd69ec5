"""A film as it is made: blocks from `rollout` in, pictures, trace and manifest out.

One block behind the generator: while a block is being generated, the pictures and the device values of the one before
arrive and are written. So nothing waits, and nothing is held longer than that: a day of film takes the memory of ten
seconds. Between two blocks a run may be kept (`keeper`) or stopped (`signals`).
"""

import datetime
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from echo_cli import __version__
from echo_cli.errors import OutOfMemory
from echo_cli.files import partial, publish, sha256, told_as_output, write_partial
from echo_cli.memory.policies.base import Policy
from echo_cli.models.backend import Backend, Codec
from echo_cli.render import manifest
from echo_cli.render.decide import Keeping, needed
from echo_cli.render.job import Job
from echo_cli.render.keeper import Keeper, Kept
from echo_cli.render.outputs import told_name
from echo_cli.render.progress import Progress, Step
from echo_cli.render.signals import Interruption
from echo_cli.render.trace_records import block_record, measured, recall_frame_record, scene_record
from echo_cli.rollout.plan import film as blocks_of_film
from echo_cli.rollout.plan import plan_policy
from echo_cli.rollout.rollout import BlockResult
from echo_cli.runtime import Later, Runtime
from echo_cli.state import Nest, pack
from echo_cli.storyboard.canonical import storyboard_hash
from echo_cli.trace.records import (
    DeviceFacts,
    FilmFacts,
    Header,
    ModelFacts,
    PolicyFacts,
    StoryboardFacts,
    Times,
    scene_facts,
)
from echo_cli.trace.writer import TraceWriter
from echo_cli.video.segments import SegmentedFilm
from echo_cli.video.subtitles import Subtitles, srt
from echo_cli.video.target import Output
from echo_cli.video.writer import FilmWriter

_SMALL = 512  # width of a transformer

__all__ = ["Decoder", "Made", "header", "make", "needed"]


@dataclass(frozen=True, slots=True)
class Made:
    """What a run made, for whoever asked for it. `times` are milliseconds by part of a block, and `wall_seconds` the
    seconds, of all `sittings` that it took; `kept` is of the last one."""

    outputs: Mapping[str, Output]
    pictures: int
    seconds: float
    wall_seconds: float
    times: Times
    sittings: int = 1
    kept: Kept = Kept()


class Decoder:
    """Latents to pictures as they come; on CUDA beside the generator, on a stream of its own. `state` is what the next
    block's pictures depend on."""

    def __init__(self, codec: Codec, device: torch.device, state: Nest = None) -> None:
        self._codec = codec
        self.state = state
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:
            for tensor in pack(state)[0].values():  # made on the generator's stream, read and let go on this one
                tensor.record_stream(self._stream)

    def __call__(self, result: BlockResult) -> Later:
        """Pictures [picture, height, width, 3] uint8, on their way to the host."""
        with self._beside(result.latents), result.times("decode"):
            pictures, self.state = self._codec.decode(result.latents, self.state)
            return Later(pictures[0].mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous())

    @contextmanager
    def _beside(self, latents: Tensor) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(latents.device))
        latents.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield


@torch.inference_mode()
def make(job: Job, backend: Backend, runtime: Runtime, progress: Progress, interruption: Interruption,
         keeping: Keeping = Keeping()) -> Made:
    """Generate the job's film, or what is missing of it, and write all its files, the manifest last."""
    began, started = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    outputs, timeline = job.outputs, job.timeline
    with ExitStack() as stack:
        stack.enter_context(_threads(backend, runtime))
        policy = plan_policy(job.policy, job.settings, backend, timeline)
        keeper = (
            stack.enter_context(Keeper(job, backend.weights_hash, runtime, started, keeping)) if outputs.base else None
        )
        stack.enter_context(_told_as_memory(job))
        if outputs.manifest and outputs.film.encoder:
            _remove(outputs.manifest)  # pictures of a sequence are replaced one by one: from here on it would lie
        film = stack.enter_context(_film(job, keeper))
        trace = None
        if outputs.trace:
            trace = stack.enter_context(TraceWriter(outputs.trace, header(job, backend, runtime),
                                                    keeper.left.trace if keeper and keeper.left else None))
        times = _write_blocks(job, backend, runtime, policy, film, trace, progress, interruption, keeper)
        # All bytes are on the disk before anything gets its name: a disk that fills up now leaves no film half told of.
        written = {"film": film.finish()}
        wall = keeper.wall_seconds if keeper else time.monotonic() - began
        if trace:
            trace.finish(wall)
            written["trace"] = _output(trace.path)
        tidy = stack.enter_context(ExitStack())  # until names are given: from then on whoever comes next gives the rest
        if job.subtitles is Subtitles.SRT and outputs.subtitles:
            tidy.callback(partial(outputs.subtitles).unlink, missing_ok=True)
            write_partial(outputs.subtitles, srt(job.captions))
            written["subtitles"] = _output(outputs.subtitles)
        made = Made({what: output for what, output in written.items() if output}, timeline.pictures,
                    timeline.pictures / timeline.geometry.fps, wall, times,
                    *((keeper.sittings, keeper.kept) if keeper else ()))
        if keeper:
            keeper.check()
        if outputs.manifest:
            tidy.callback(partial(outputs.manifest).unlink, missing_ok=True)
            manifest.prepare(outputs.manifest, job.identity(backend.weights_hash), made.outputs,
                             _facts(job, runtime, made, keeper.started if keeper else started))
            _remove(outputs.manifest)  # of a film that this one replaces
        tidy.pop_all()
        film.publish()
        if trace:
            trace.publish()
        if "subtitles" in written:
            publish(outputs.subtitles)
        elif outputs.subtitles:
            _remove(outputs.subtitles)  # an older film's, left beside this one, would be shown with it
        if keeper:
            keeper.forget()
        if outputs.manifest:
            publish(outputs.manifest)
    return made


@contextmanager
def _threads(backend: Backend, runtime: Runtime) -> Iterator[None]:
    """One thread for a small model on a CPU: more cost it more than they bring, and the order of its sums, on which the
    last bit depends, is then the same however many cores there are."""
    before = torch.get_num_threads()
    if runtime.device.type == "cpu" and backend.spec.width <= _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _film(job: Job, keeper: Keeper | None) -> FilmWriter | SegmentedFilm:
    fps, burn = job.timeline.geometry.fps, job.captions if job.subtitles is Subtitles.BURN else ()
    if keeper is None:
        return FilmWriter(
            job.outputs.film, *job.size, fps, job.encoding, scale=job.scale, burn=burn, title=job.storyboard.title
        )
    return SegmentedFilm(job.outputs.film, keeper.work.folder, *job.size, fps, job.encoding, scale=job.scale, burn=burn,
                         title=job.storyboard.title, written=keeper.left.pictures if keeper.left else None)


def _write_blocks(
    job: Job,
    backend: Backend,
    runtime: Runtime,
    policy: Policy,
    film: FilmWriter | SegmentedFilm,
    trace: TraceWriter | None,
    progress: Progress,
    interruption: Interruption,
    keeper: Keeper | None,
) -> Times:
    """The film, block by block; the milliseconds that each part took in all."""
    timeline, grid = job.timeline, backend.spec.grid(job.size)
    decode = Decoder(backend.codec, runtime.device, keeper.decoder if keeper else None)
    totals = keeper.left.times if keeper and keeper.left else Times(0.0, 0.0, 0.0, 0.0)

    def write(result: BlockResult, pictures: Later) -> Times:
        result.check()
        if keeper:
            keeper.check()
        before = film.pictures
        film.write(pictures.array()[:timeline.pictures - before])
        facts = measured(result, grid)
        if trace:
            trace.measure(result.block.index, facts)
            if kept := recall_frame_record(result, policy):
                trace.recall_frame(kept)
        progress.step(_step(job, result, film.pictures, film.pictures - before, facts.times))
        return Times(*map(sum, zip(totals, facts.times, strict=True)))

    behind: tuple[BlockResult, Later] | None = None
    for result in blocks_of_film(
        backend, timeline, policy, job.seed, job.size, begun=keeper.begun if keeper else None
    ):
        pictures = decode(result)
        if trace:
            if result.block.opens:
                trace.scene(scene_record(result, timeline))
            trace.block(block_record(result, timeline))
        if behind:
            totals = write(*behind)
        behind, asked = (result, pictures), interruption.by is not None
        if asked or (keeper and keeper.due()):
            totals, behind = write(*behind), None
            if keeper:
                keeper.keep(result, decode.state, film, trace, totals, wait=asked)
            if asked:
                done = f"after block {result.block.index + 1} of {len(timeline.blocks)}"
                if keeper is None:
                    interruption.check(
                        done, "a film on standard output cannot go on: run it again, or write to a file with -o"
                    )
                else:
                    interruption.check(f"{done}; {keeper.told()}")
    if behind:
        totals = write(*behind)
    if keeper:
        keeper.settle()
    assert film.pictures == timeline.pictures, f"{film.pictures} pictures were made, not {timeline.pictures}"
    return totals


def header(job: Job, backend: Backend, runtime: Runtime) -> Header:
    """All that a trace says before the first block."""
    board, geometry, grid = job.storyboard, job.timeline.geometry, backend.spec.grid(job.size)
    width, height = (side * job.scale for side in job.size)
    return Header("echo-cli", __version__, job.seed,
                  StoryboardFacts(board.title or "", told_name(board.source), storyboard_hash(board)),
                  ModelFacts(backend.spec.name, backend.spec.depth, grid.rows, grid.cols), _device(runtime),
                  PolicyFacts(job.policy, asdict(job.settings)),
                  FilmFacts(width, height, geometry.fps, job.timeline.pictures, geometry.block_frames,
                            geometry.frame_pictures, None if job.outputs.film.encoder else job.outputs.film.path.name),
                  scene_facts(job.timeline))


def _facts(job: Job, runtime: Runtime, made: Made, started: str) -> dict[str, Any]:
    """What a manifest tells beside the identity: compared with nothing, worth keeping."""
    geometry, blocks = job.timeline.geometry, len(job.timeline.blocks)
    width, height = (side * job.scale for side in job.size)
    return {
        "title": job.storyboard.title,
        "source": told_name(job.storyboard.source),
        "film": {
            "pictures": made.pictures,
            "seconds": made.seconds,
            "fps": geometry.fps,
            "width": width,
            "height": height,
            "blocks": blocks,
            "frames": blocks * geometry.block_frames,
        },
        "device": asdict(_device(runtime)),
        "versions": {"echo": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "timings": {
            "started": started,
            "sittings": made.sittings,
            "wall_seconds": round(made.wall_seconds, 3),
            **{f"{part}_seconds": round(spent / 1000, 3) for part, spent in made.times._asdict().items()},
        },
    }


def _device(runtime: Runtime) -> DeviceFacts:
    name = (
        torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else f"cpu ({platform.machine()})"
    )
    return DeviceFacts(name, str(runtime.dtype).removeprefix("torch."))


def _step(job: Job, result: BlockResult, pictures: int, new: int, times: Times) -> Step:
    block, timeline = result.block, job.timeline
    return Step(block.index + 1, len(timeline.blocks), block.scene + 1, len(timeline.spans),
                timeline.spans[block.scene].scene.id, pictures, timeline.pictures, result.bytes, new, sum(times) / 1000)


def _remove(path: Path) -> None:
    with told_as_output(path):
        path.unlink(missing_ok=True)


def _output(path: Path) -> Output:
    """The file that will be `path`, while it is a `.partial`."""
    with told_as_output(path):
        return Output(path, sha256(partial(path)), partial(path).stat().st_size)


@contextmanager
def _told_as_memory(job: Job) -> Iterator[None]:
    """Out of memory, on host or device, in words that say what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own error of a device is a RuntimeError
        if (
            isinstance(error, RuntimeError)
            and "can't allocate memory" not in str(error)
            and not isinstance(error, torch.OutOfMemoryError)
        ):
            raise
        where = "the device" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        width, height = job.size
        raise OutOfMemory(
            f"out of memory on {where}, with pictures of {width}x{height} and memory policy '{job.policy}'",
            "take a smaller --size or --dtype bfloat16, or remember less (--set memory.window=…)",
        ) from error
