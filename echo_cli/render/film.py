"""Rendering a film: blocks from `rollout` in, pictures, trace and manifest out.

Writing is one block behind generation: while a block is generated, the pictures and the device values of the one
before arrive and are written. So nothing waits, and nothing is held longer: a day of film takes the memory of ten
seconds. Between two blocks a run may write a checkpoint (`keeper`) or be stopped (`signals`).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch

from echo_cli.errors import OutOfMemory
from echo_cli.files import fitted, output_errors, partial, publish, sha256, write_partial
from echo_cli.memory.policies.base import Policy
from echo_cli.models.backend import Backend
from echo_cli.render import manifest
from echo_cli.render.decoder import Decoder, Pictures
from echo_cli.render.ends import beginning, write_end
from echo_cli.render.facts import header, manifest_facts
from echo_cli.render.inputs import check_same
from echo_cli.render.job import Job
from echo_cli.render.keeper import Sitting, sitting
from echo_cli.render.keepsakes import KeptScenes, past_entries
from echo_cli.render.made import Made
from echo_cli.render.numbering import Numbering
from echo_cli.render.openings import Openings
from echo_cli.render.outputs import Outputs
from echo_cli.render.progress import Progress, Step
from echo_cli.render.resume import Work
from echo_cli.render.signals import Interruption
from echo_cli.render.states import open_ends
from echo_cli.render.trace_records import block_record, measured, recall_frame_record, scene_record
from echo_cli.rollout.plan import film as blocks_of_film
from echo_cli.rollout.plan import plan_policy
from echo_cli.rollout.rollout import BlockResult
from echo_cli.runtime import Runtime
from echo_cli.spec import Grid, ModelSpec
from echo_cli.storyboard.nouns import SOUNDTRACK, Timeline
from echo_cli.trace.records import Times
from echo_cli.trace.writer import Trace
from echo_cli.video import mixing
from echo_cli.video.sound import WAV
from echo_cli.video.subtitles import Subtitles, srt
from echo_cli.video.target import Output
from echo_cli.video.writer import PictureSink

_SMALL = 512  # width of a transformer


@torch.inference_mode()
def make(job: Job, backend: Backend, runtime: Runtime, progress: Progress, interruption: Interruption,
         loading: float = 0.0) -> Made:
    """Generate the job's film, or what is missing of it, and write all its files, the manifest last. `loading` is
    how many seconds the run has taken so far."""
    outputs = job.outputs
    with ExitStack() as stack:
        stack.enter_context(threads_for(backend.spec, runtime))
        policy = plan_policy(job.policy, job.settings, backend, job.whole, open_ends(job), job.lasting)
        run = stack.enter_context(sitting(job, backend, runtime, policy, progress.say, loading))
        stack.enter_context(memory_errors(job))
        if outputs.film.encoder:
            _begin_replacing(outputs)
        film = stack.enter_context(run.film())
        trace = stack.enter_context(run.trace(header(job, backend, runtime)))
        kept = KeptScenes(job, backend, Work(outputs).folder) if outputs.scenes else None
        writer = _Writer(job.timeline, backend.spec.grid(job.size), policy, run, film, trace, progress, kept)
        _write_blocks(job, backend, runtime, policy, writer, progress, interruption)
        with ExitStack() as tidy:
            made = _finish(job, writer, tidy)
            if outputs.manifest:
                tidy.callback(partial(outputs.manifest).unlink, missing_ok=True)
                identity = job.identity(backend.weights_hash, backend.decoder_hash)
                manifest.prepare(outputs.manifest, identity, made.outputs,
                                 manifest_facts(job, identity, runtime, made, run.started))
                _remove(outputs.manifest)  # of a film that this one replaces
            tidy.pop_all()  # from here on, the next run would rename the files
        _publish(job, writer, made)
    return made


def _write_blocks(job: Job, backend: Backend, runtime: Runtime, policy: Policy, writer: "_Writer",
                  progress: Progress, interruption: Interruption) -> None:
    """The film, block by block."""
    run, timeline = writer.run, job.timeline
    begun, state = run.begun, run.decoder
    if begun is None and job.whole.first:
        begun, state, before = beginning(job, backend, runtime, policy, progress.say)
        writer.film.write(before)
    resumed = run.begun is not None and not run.reused  # its own state has all that came in
    past = {} if resumed else past_entries(job, backend, policy, begun.blocks if begun else 0)
    shelf = writer.kept.shelf if writer.kept else None
    openings = Openings(job, backend, runtime, policy.window - policy.block)
    numbers = Numbering.of(job.whole)
    with Decoder(backend.codec, runtime.decoding, state) as decode:
        for counted in blocks_of_film(backend, job.whole, policy, job.seed, job.size, begun=begun,
                                      openings=openings, past=past, shelf=shelf):
            result = numbers.result(counted)
            writer.add(result, decode(result))
            if run.keeps(result.block.index + 1):
                writer.catch_up()
                run.keep_state(result, decode.state)
            if job.outputs.end and result.block.index + 1 == len(timeline.blocks):
                writer.catch_up()
                run.settle()
                write_end(job, backend, runtime, policy, result, decode.state, writer.surplus)
            stopping = interruption.by is not None
            if stopping or run.due():
                writer.catch_up()
                run.keep(result, decode.state, writer.trace, writer.times, wait=stopping)
            if stopping:
                run.stopped(interruption, f"after block {result.block.index + 1} of {len(timeline.blocks)}")
        writer.catch_up()
    run.settle()
    made = writer.film.pictures
    assert made == timeline.pictures, f"{made} pictures were made, not {timeline.pictures}"


class _Writer:
    """Writes blocks to film and trace: what the host knows of a block at once, its pictures when the next block has
    been generated. `times` are the milliseconds that each part took in total."""

    def __init__(self, timeline: Timeline, grid: Grid, policy: Policy, run: Sitting, film: PictureSink, trace: Trace,
                 progress: Progress, kept: KeptScenes | None) -> None:
        self.run, self.film, self.trace, self.times, self.kept = run, film, trace, run.times, kept
        self._timeline, self._grid, self._policy, self._progress = timeline, grid, policy, progress
        self._behind: tuple[BlockResult, Pictures] | None = None
        self.surplus = np.empty(0, np.uint8)  # pictures of the last block that the film does not show

    def add(self, result: BlockResult, pictures: Pictures) -> None:
        if result.block.opens:
            self.trace.scene(scene_record(result, self._timeline))
        self.trace.block(block_record(result, self._timeline))
        self.catch_up()
        self._behind = result, pictures

    def catch_up(self) -> None:
        """Write the block that is waiting, if there is one."""
        if self._behind is None:
            return
        (result, pictures), self._behind = self._behind, None
        result.check()
        self.run.check()
        before = self.film.pictures
        made = pictures.array()
        made = made[len(made) - self._timeline.pictures_of(result.block):]
        new, self.surplus = np.split(made, [self._timeline.pictures - before])
        self.film.write(new)
        if self.kept:
            self.kept.look(result.block, new)
        facts = measured(result, self._grid)
        self.trace.measure(result.block.index, facts)
        if frame := recall_frame_record(result, self._policy):
            self.trace.recall_frame(frame)
        self._progress.step(self._step(result, self.film.pictures - before, facts.times))
        self.times = Times(*map(sum, zip(self.times, facts.times, strict=True)))

    def _step(self, result: BlockResult, new: int, times: Times) -> Step:
        block, timeline = result.block, self._timeline
        return Step(block.index + 1, len(timeline.blocks), block.scene + 1, len(timeline.spans),
                    timeline.spans[block.scene].scene.id, self.film.pictures, timeline.pictures, result.bytes, new,
                    sum(times) / 1000)


def _finish(job: Job, writer: _Writer, tidy: ExitStack) -> Made:
    """Write all bytes to the disk before any file gets its name: if the disk fills up now, no film is half published.
    `tidy` removes what was written if something fails later."""
    run, outputs, pictures = writer.run, job.outputs, job.timeline.pictures
    for each in job.inputs:
        if each.what == SOUNDTRACK:
            check_same(each)
    written = {"film": writer.film.finish()}
    wall_seconds = run.wall_seconds
    writer.trace.finish(wall_seconds)
    if outputs.trace:
        written["trace"] = trace = _output(outputs.trace)
        run.note_states(trace.sha256)
    if outputs.subtitles and job.subtitles is Subtitles.SRT:
        tidy.callback(partial(outputs.subtitles).unlink, missing_ok=True)
        write_partial(outputs.subtitles, srt(job.captions))
        written["subtitles"] = _output(outputs.subtitles)
    if outputs.sound and job.sound:
        tidy.callback(partial(outputs.sound).unlink, missing_ok=True)
        mixing.write(job.sound, partial(outputs.sound))
        written["sound"] = _output(outputs.sound)
    if outputs.scenes and writer.kept:
        tidy.callback(partial(outputs.scenes).unlink, missing_ok=True)
        written["scenes"] = writer.kept.write(outputs.scenes)
    if outputs.end:
        written["end"] = _output(outputs.end)
    run.check()
    return Made({what: output for what, output in written.items() if output}, pictures,
                pictures / job.timeline.geometry.fps, wall_seconds, run.sitting_seconds, run.loading, writer.times,
                run.sittings, run.kept, run.reused)


def _publish(job: Job, writer: _Writer, made: Made) -> None:
    """Give every file its name, the manifest last."""
    outputs = job.outputs
    writer.film.publish()
    writer.trace.publish()
    if outputs.subtitles and "subtitles" in made.outputs:
        publish(outputs.subtitles)
    elif outputs.subtitles:
        _remove(outputs.subtitles)  # players would show those of an older film
    for path in (outputs.sound, outputs.scenes, outputs.end):
        if path:
            publish(path)
    writer.run.forget()
    if outputs.manifest:
        publish(outputs.manifest)


@contextmanager
def threads_for(spec: ModelSpec, runtime: Runtime) -> Iterator[None]:
    """One thread for a small model on a CPU: more cost it more than they bring, and the order of its sums, on which the
    last bit depends, is then the same however many cores there are."""
    before = torch.get_num_threads()
    if runtime.device.type == "cpu" and spec.width <= _SMALL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin_replacing(outputs: Outputs) -> None:
    """A sequence is replaced picture by picture: the manifest of the one before would be wrong, and its sound would
    be taken for the sound of this one. Sound whose pictures are gone is not replaced, but kept."""
    if outputs.manifest is None:
        return
    before = manifest.read(outputs.manifest) if outputs.film.existing() else None
    if before and outputs.base and (written := before["outputs"].get("sound")):
        sound = fitted(outputs.base, WAV)
        with output_errors(sound):
            if sound.is_file() and sha256(sound) == written.get("sha256"):
                sound.unlink()
    _remove(outputs.manifest)


def _remove(path: Path) -> None:
    with output_errors(path):
        path.unlink(missing_ok=True)


def _output(path: Path) -> Output:
    """The file that will be `path`, while it is a `.partial`."""
    with output_errors(path):
        return Output(path, sha256(partial(path)), partial(path).stat().st_size)


@contextmanager
def memory_errors(job: Job) -> Iterator[None]:
    """Turns running out of memory, on host or device, into an error that says what to lower."""
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
            "Use a smaller --size, --dtype bfloat16, or a smaller memory (--set memory.window=…).",
        ) from error
