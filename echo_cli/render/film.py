"""A film as it is made: blocks from `rollout` in, pictures, trace and manifest out.

One block behind the generator: while a block is being generated, the pictures and the device values of the one before
arrive and are written. So nothing waits, and nothing is held longer than that: a day of film takes the memory of ten
seconds.
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
from echo_cli.render.job import Job
from echo_cli.render.manifest import Standing
from echo_cli.render.outputs import told_name
from echo_cli.render.progress import Progress, Step
from echo_cli.render.records import block_record, measured, recall_frame_record, scene_record
from echo_cli.render.signals import Interruption
from echo_cli.rollout.film import film as blocks_of_film
from echo_cli.rollout.film import plan_policy
from echo_cli.rollout.rollout import BlockResult
from echo_cli.runtime import Later, Runtime
from echo_cli.storyboard.canonical import storyboard_hash
from echo_cli.trace.records import DeviceFacts, FilmFacts, Header, ModelFacts, PolicyFacts, StoryboardFacts, Times, scene_facts
from echo_cli.trace.writer import TraceWriter
from echo_cli.video.subtitles import Subtitles, srt
from echo_cli.video.target import Output
from echo_cli.video.writer import FilmWriter


@dataclass(frozen=True, slots=True)
class Made:
    """What a run made, for whoever asked for it. `times` are milliseconds by part of a block."""

    outputs: Mapping[str, Output]
    pictures: int
    seconds: float
    wall_seconds: float
    times: Times


class Decoder:
    """Latents to pictures as they come; on CUDA beside the generator, on a stream of its own."""

    def __init__(self, codec: Codec, device: torch.device) -> None:
        self._codec = codec
        self._state: Any = None
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, result: BlockResult) -> Later:
        """Pictures [picture, height, width, 3] uint8, on their way to the host."""
        with self._beside(result.latents), result.times("decode"):
            pictures, self._state = self._codec.decode(result.latents, self._state)
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


def needed(job: Job, backend: Backend, force: bool = False) -> bool:
    """False when the very film is there and whole. An OutputError when another is, or when none could be written."""
    identity = job.identity(backend.weights_hash)
    found = Standing.FREE if force else manifest.standing(job.outputs, identity)
    if found is Standing.DONE:
        return False
    if found is Standing.TAKEN:
        raise manifest.refuse(job.outputs, identity)
    job.outputs.check_writable()
    job.check_tools()
    return True


@torch.inference_mode()
def make(job: Job, backend: Backend, runtime: Runtime, progress: Progress, interruption: Interruption) -> Made:
    """Generate the job's film and write all its files, the manifest last."""
    began, started = time.monotonic(), datetime.datetime.now(datetime.UTC)
    outputs, timeline = job.outputs, job.timeline
    with ExitStack() as stack:
        stack.enter_context(_told_as_memory(job))
        policy = plan_policy(job.policy, job.settings, backend, timeline)
        if outputs.manifest:
            _remove(outputs.manifest)  # from here on an older one would lie
        film = stack.enter_context(FilmWriter(
            outputs.film, *job.size, timeline.geometry.fps, job.encoding, scale=job.scale,
            burn=job.captions if job.subtitles is Subtitles.BURN else (), title=job.storyboard.title))
        trace = stack.enter_context(TraceWriter(outputs.trace, header(job, backend, runtime))) if outputs.trace else None
        times = _write_blocks(job, backend, policy, Decoder(backend.codec, runtime.device), film, trace, progress, interruption)
        written = {"film": film.finish()}
        wall = time.monotonic() - began
        if trace:
            trace.finish(wall)
            written["trace"] = _output(trace.path, trace.path)
        # All bytes are on the disk before the film gets its name: a disk that fills up now leaves no film half told of.
        prepared = []
        if job.subtitles is Subtitles.SRT and outputs.subtitles:
            prepared.append(outputs.subtitles)
            stack.callback(partial(outputs.subtitles).unlink, missing_ok=True)
            write_partial(outputs.subtitles, srt(job.captions))
            written["subtitles"] = _output(outputs.subtitles, partial(outputs.subtitles))
        made = Made({what: output for what, output in written.items() if output}, timeline.pictures,
                    timeline.pictures / timeline.geometry.fps, wall, times)
        if outputs.manifest:
            prepared.append(outputs.manifest)
            stack.callback(partial(outputs.manifest).unlink, missing_ok=True)
            manifest.prepare(outputs.manifest, job.identity(backend.weights_hash), made.outputs,
                             _facts(job, runtime, made, started))
        film.publish()
        if outputs.subtitles and outputs.subtitles not in prepared:
            _remove(outputs.subtitles)  # an older film's, left beside this one, would be shown with it
        for path in prepared:
            publish(path)
    return made


def _write_blocks(job: Job, backend: Backend, policy: Policy, decode: Decoder, film: FilmWriter,
                  trace: TraceWriter | None, progress: Progress, interruption: Interruption) -> Times:
    """The film, block by block; the milliseconds that each part took in all."""
    timeline, grid = job.timeline, backend.spec.grid(job.size)
    totals = Times(0.0, 0.0, 0.0, 0.0)

    def write(result: BlockResult, pictures: Later) -> Times:
        film.write(pictures.array()[:timeline.pictures - film.pictures])
        facts = measured(result, grid)
        if trace:
            trace.measure(result.block.index, facts)
            if kept := recall_frame_record(result, policy):
                trace.recall_frame(kept)
        progress.step(_step(job, result, film.pictures))
        return Times(*map(sum, zip(totals, facts.times, strict=True)))

    behind: tuple[BlockResult, Later] | None = None
    for result in blocks_of_film(backend, policy, job.storyboard.seed, job.size):
        pictures = decode(result)
        if trace:
            if result.block.opens:
                trace.scene(scene_record(result, policy))
            trace.block(block_record(result, timeline))
        if behind:
            totals = write(*behind)
            interruption.check(f"after block {result.block.index} of {len(timeline.blocks)}")
        behind = result, pictures
    if behind:
        totals = write(*behind)
    assert film.pictures == timeline.pictures, f"{film.pictures} pictures were made, not {timeline.pictures}"
    return totals


def header(job: Job, backend: Backend, runtime: Runtime) -> Header:
    """All that a trace says before the first block."""
    board, geometry, grid = job.storyboard, job.timeline.geometry, backend.spec.grid(job.size)
    width, height = (side * job.scale for side in job.size)
    return Header("echo-cli", __version__, board.seed,
                  StoryboardFacts(board.title or "", told_name(board.source), storyboard_hash(board)),
                  ModelFacts(backend.spec.name, backend.spec.depth, grid.rows, grid.cols), _device(runtime),
                  PolicyFacts(job.policy, asdict(job.settings)),
                  FilmFacts(width, height, geometry.fps, job.timeline.pictures, geometry.block_frames,
                            geometry.frame_pictures, None if job.outputs.film.encoder else job.outputs.film.path.name),
                  scene_facts(job.timeline))


def _facts(job: Job, runtime: Runtime, made: Made, started: datetime.datetime) -> dict[str, Any]:
    """What a manifest tells beside the identity: compared with nothing, worth keeping."""
    geometry, blocks = job.timeline.geometry, len(job.timeline.blocks)
    width, height = (side * job.scale for side in job.size)
    return {
        "title": job.storyboard.title,
        "source": told_name(job.storyboard.source),
        "film": {"pictures": made.pictures, "seconds": made.seconds, "fps": geometry.fps, "width": width, "height": height,
                 "blocks": blocks, "frames": blocks * geometry.block_frames},
        "device": asdict(_device(runtime)),
        "versions": {"echo": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "timings": {"started": started.isoformat(timespec="seconds"), "wall_seconds": round(made.wall_seconds, 3),
                    **{f"{part}_seconds": round(spent / 1000, 3) for part, spent in made.times._asdict().items()}},
    }


def _device(runtime: Runtime) -> DeviceFacts:
    name = torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else f"cpu ({platform.machine()})"
    return DeviceFacts(name, str(runtime.dtype).removeprefix("torch."))


def _step(job: Job, result: BlockResult, pictures: int) -> Step:
    block, timeline = result.block, job.timeline
    return Step(block.index + 1, len(timeline.blocks), block.scene + 1, len(timeline.spans),
                timeline.spans[block.scene].scene.id, pictures, timeline.pictures, result.bytes)


def _remove(path: Path) -> None:
    with told_as_output(path):
        path.unlink(missing_ok=True)


def _output(path: Path, now: Path) -> Output:
    """The file that will be `path` and lies at `now`."""
    with told_as_output(path):
        return Output(path, sha256(now), now.stat().st_size)


@contextmanager
def _told_as_memory(job: Job) -> Iterator[None]:
    """Out of memory, on host or device, in words that say what to lower."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own error of a device is a RuntimeError
        if isinstance(error, RuntimeError) and "can't allocate memory" not in str(error) \
                and not isinstance(error, torch.OutOfMemoryError):
            raise
        where = "the device" if isinstance(error, torch.OutOfMemoryError) else "this machine"
        width, height = job.size
        raise OutOfMemory(f"out of memory on {where}, with pictures of {width}x{height} and memory policy '{job.policy}'",
                          "take a smaller --size or --dtype bfloat16, or remember less (--set memory.window=…)") from error
