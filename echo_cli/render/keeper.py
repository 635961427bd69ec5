"""One run of a film and its checkpoints: a single writer, checkpoints when they are due, and resuming from them.

Between two blocks it collects everything that later blocks depend on (the states of the rollout and of the decoder, the
positions in film and trace) and writes it down; what a state means is known only to its owner. It reports what it does.
"""

import datetime
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from echo_cli.errors import Damaged, EchoError, Interrupted, UsageError
from echo_cli.files import output_errors, own, partial
from echo_cli.memory.policies.base import Policy
from echo_cli.models.backend import Backend
from echo_cli.render.decide import begun
from echo_cli.render.facts import DECISIVE, header, machine
from echo_cli.render.job import Job
from echo_cli.render.lock import OneWriter
from echo_cli.render.made import Kept
from echo_cli.render.numbering import Numbering
from echo_cli.render.provenance import sign
from echo_cli.render.resume import Cadence, Checkpoint, Work
from echo_cli.render.signals import Interruption
from echo_cli.render.snapshots import Edit, Snapshots
from echo_cli.render.states import origin, settle
from echo_cli.render.trace_records import candidates
from echo_cli.rollout.rollout import Begun, BlockResult
from echo_cli.runtime import Runtime
from echo_cli.state import Nest, copied, moved, size_of
from echo_cli.state_files import Stored, read_state, write_state
from echo_cli.text import size
from echo_cli.trace.records import Header, Times
from echo_cli.trace.writer import Trace, TraceWriter
from echo_cli.video import segments
from echo_cli.video.segments import SegmentedFilm
from echo_cli.video.subtitles import Subtitles
from echo_cli.video.target import Images, Movie
from echo_cli.video.writer import FilmWriter, PictureSink

TWICE = 2 << 30  # bytes; a smaller state is copied, so that it is written while rendering continues


class Sitting:
    """One run of a film, from beginning to end; `loading` seconds of it are over. This one keeps nothing: a film on
    standard output cannot be resumed."""

    def __init__(self, job: Job, loading: float) -> None:
        self.kept, self.sittings = Kept(), 1
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.loading = loading
        self._job, self._began = job, time.monotonic() - loading

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was kept."""

    @property
    def begun(self) -> Begun | None:
        """Where an earlier sitting stopped, for the rollout, which counts as memory does."""
        return None

    @property
    def decoder(self) -> Nest:
        """The decoder's state there."""
        return None

    @property
    def times(self) -> Times:
        """Milliseconds that each part of the blocks took in earlier sittings."""
        return Times(0.0, 0.0, 0.0, 0.0)

    @property
    def reused(self) -> int:
        """Blocks that came from an earlier version of the film."""
        return 0

    @property
    def sitting_seconds(self) -> float:
        """The seconds of this sitting so far."""
        return time.monotonic() - self._began

    @property
    def wall_seconds(self) -> float:
        """The seconds of all sittings so far."""
        return self.sitting_seconds

    def film(self) -> PictureSink:
        """Where the film's pictures go."""
        return FilmWriter(self._job.outputs.film, *self._job.decoded, **film_options(self._job), sound=self._job.sound)

    def trace(self, header: Header) -> Trace:
        return TraceWriter(self._job.outputs.trace, header) if self._job.outputs.trace else Trace()

    def check(self) -> None:
        """Before anything is written: an OutputError if the film is no longer ours."""

    def due(self) -> bool:
        """Between two blocks: whether it is time to write a checkpoint. An OutputError if the film is no longer ours,
        or if the last checkpoint could not be written."""
        return False

    def keep(self, result: BlockResult, decoder: Nest, trace: Trace, times: Times, wait: bool = False) -> None:
        """Write a checkpoint of everything up to this block. Rendering continues meanwhile, unless `wait` is set or the
        state is too large to be copied."""

    def keeps(self, blocks: int) -> bool:
        """Whether the state after so many blocks is kept for edits."""
        return False

    def keep_state(self, result: BlockResult, decoder: Nest) -> None:
        """Keep the state after this block, whose pictures are all written, for edits. Rendering continues meanwhile,
        unless the state is too large to be held twice."""

    def settle(self) -> None:
        """What is being written is on the disk, or an error says why not."""

    def note_states(self, trace: str) -> None:
        """The film is whole but for its name, and its trace has this hash: so states that were kept are its own."""

    def forget(self) -> None:
        """The film is complete: nothing is left to resume."""

    def stopped(self, interruption: Interruption, done: str) -> None:
        """End the run here if it was asked to stop; `done` says how far it has come."""
        interruption.check(done, "A film on standard output cannot be resumed. Run it again, or write to a file "
                                 "with -o.")


def sitting(job: Job, backend: Backend, runtime: Runtime, policy: Policy, tell: Callable[[str], None],
            loading: float) -> Sitting:
    return Sitting(job, loading) if job.outputs.base is None else Keeper(job, backend, runtime, policy, tell, loading)


def film_options(job: Job) -> dict[str, Any]:
    """The arguments that both writers of films take."""
    return {"fps": job.timeline.geometry.fps, "encoding": job.encoding, "scale": job.enlarged,
            "burn": job.captions if job.subtitles is Subtitles.BURN else (), "font": job.font_file, "tags": job.tags}


class Keeper(Sitting):
    """While it is open, the only writer of the job's film. It resumes from the checkpoint of an interrupted run."""

    def __init__(self, job: Job, backend: Backend, runtime: Runtime, policy: Policy, tell: Callable[[str], None],
                 loading: float) -> None:
        super().__init__(job, loading)
        self.work = Work(job.outputs)
        self._identity = job.identity(backend.weights_hash, backend.decoder_hash)
        self._runtime, self._tell = runtime, tell
        self._backend, self._policy = backend, policy
        self._origin = origin(job, self._identity, machine(job, runtime), policy)
        self._snapshots = Snapshots(job, self.work, tell)
        self._cadence = Cadence(job.request.checkpoint_every)
        self._lock, self._stack = OneWriter(self.work.lock, self.work.film), ExitStack()
        self._left: Checkpoint | None = None
        self._state: dict[str, Nest] | None = None
        self._film: SegmentedFilm | None = None
        self._bound, self._trace = 0, ""
        self._writer = ThreadPoolExecutor(1, "echo-keeper")
        self._pending: Future[int] | None = None  # a checkpoint
        self._copying: Future[None] | None = None  # a state for edits; never both at once

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            self._left = begun(self.work, self._job, self._identity)
            if self._left:
                self._resume(self._left, stack, f"{self.work.film}: resuming after {self._left.progress}")
            else:
                self.work.discard()  # files of a run without a checkpoint, or unwanted ones
                self._reuse(stack)
            if self._job.outputs.trace:
                own(partial(self._job.outputs.trace))  # its former writer may not know yet that it has lost the lock
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            with suppress(EchoError, OSError):  # whatever ended the run has been reported
                self.settle()
            self._writer.shutdown()
            if self._lock.lost:  # the files are another process's now
                return
            with suppress(Damaged):  # a checkpoint on the disk counts even if the run has not confirmed it
                last = None if error is None else self.work.read()
                if error is None:
                    self._settle_states()
                if last is None:
                    self.work.discard()
                    if isinstance(error, Interrupted):
                        error.hint = "Nothing is kept, since no checkpoint had been written."
                elif isinstance(error, EchoError) and not isinstance(error, Damaged):
                    kept = (
                        f"Everything up to {last.progress} is kept in {self.work.folder}. "
                        "Run the same command again to resume."
                    )
                    error.hint = f"{error.hint} {kept}" if error.hint else kept

    @property
    def begun(self) -> Begun | None:
        if not (self._left and self._state):
            return None
        earlier = len(self._job.whole.blocks) - len(self._job.timeline.blocks)
        return Begun(earlier + self._left.block, self._state["rollout"])

    @property
    def decoder(self) -> Nest:
        return moved(self._state["decoder"], self._runtime.decoding) if self._state else None

    @property
    def times(self) -> Times:
        return self._left.times if self._left else super().times

    @property
    def reused(self) -> int:
        return self._left.reused if self._left else 0

    @property
    def wall_seconds(self) -> float:
        return (self._left.wall_seconds if self._left else 0.0) + self.sitting_seconds

    def film(self) -> PictureSink:
        target = self._job.outputs.film
        assert isinstance(target, Movie | Images), "what cannot be resumed has no keeper"
        self._film = SegmentedFilm(target, self.work.folder, *self._job.decoded,
                                   **film_options(self._job),
                                   sound=None if target.encoder else self._job.sound,
                                   seal=self._sign if self._job.credentials else None,
                                   written=self._left.pictures if self._left else None)
        return self._film

    def _sign(self, film: Path) -> None:
        sign(self._job, self._identity, film)

    def trace(self, header: Header) -> Trace:
        path, written = self._job.outputs.trace, self._left.trace if self._left else None
        return TraceWriter(path, header, written) if path else Trace()

    def check(self) -> None:
        self._lock.check()

    def due(self) -> bool:
        self.check()
        if any(writing and writing.done() for writing in (self._pending, self._copying)):
            self.settle()
        return self._cadence.due and self._pending is None and self._copying is None

    def keep(self, result: BlockResult, decoder: Nest, trace: Trace, times: Times, wait: bool = False) -> None:
        assert self._film is not None
        self.settle()
        began, block = time.monotonic(), result.block.index + 1
        state = {"rollout": result.state(), "decoder": decoder}
        size_ = size_of(state)
        mark = self._film.mark()
        checkpoint = Checkpoint(
            self._identity.plain(),
            machine(self._job, self._runtime),
            self.work.film.name,
            block,
            len(self._job.timeline.blocks),
            {"file": f"state-{block:06d}-{self.sittings}.safetensors"},
            None,
            trace.written(),
            times,
            self.wall_seconds,
            self.started,
            self.sittings,
            sorted(self._policy.needs_after(self._job.as_counted(result.block))),
            self.reused,
        )
        if wait or size_ > TWICE:
            written: Future[int] = Future()
            written.set_result(self._write(checkpoint, state, mark, trace))
            self._pending = written  # set only now, so that nothing waits for a write that failed
        else:
            self._pending = self._writer.submit(self._write, checkpoint, copied(state), mark, trace)
        self._bound = result.bytes + size_of(decoder)
        spent = time.monotonic() - began
        self._cadence.saved(spent)
        self.kept = replace(self.kept, seconds=self.kept.seconds + spent)
        if self._pending.done():
            self.settle()

    def keeps(self, blocks: int) -> bool:
        if blocks not in self._snapshots.moments:
            return False
        self.settle()
        return self._snapshots.due(blocks)

    def keep_state(self, result: BlockResult, decoder: Nest) -> None:
        assert self._film is not None
        self.settle()
        state = {"rollout": result.state(), "decoder": decoder}
        block, keep = result.block, self._snapshots.keep
        needs = self._policy.needs_after(self._job.as_counted(block))
        if size_of(state) > TWICE:
            keep(block, needs, state, self._film.mark(), self.wall_seconds)
            self._film.unmark()
        else:
            self._copying = self._writer.submit(keep, block, needs, copied(state), self._film.mark(),
                                                self.wall_seconds)

    def settle(self) -> None:
        if self._copying is not None:
            assert self._film is not None
            copying, self._copying = self._copying, None
            copying.result()
            self._film.unmark()
        if self._pending is None:
            return
        assert self._film is not None
        pending, self._pending = self._pending, None
        began = time.monotonic()
        written = pending.result()
        self._film.rely()
        picture = 3 * math.prod(self._job.decoded)
        with output_errors(self.work.film):
            noted = self.work.note.stat().st_size
        # what memory and the decoder hold, the pictures of a segment, and the note twice, because its numbers grow
        bound = self._bound + segments.LENGTH * picture + 2 * noted
        self.kept = Kept(self.kept.checkpoints + 1, max(self.kept.bytes, written), max(self.kept.bound, bound),
                         self.kept.seconds + time.monotonic() - began)

    def _write(self, checkpoint: Checkpoint, state: Nest, mark: segments.Mark, trace: Trace) -> int:
        """Write everything to the disk, the note last; returns the bytes."""
        self.check()
        stored = write_state(self.work.folder / checkpoint.state["file"], state)
        pictures = mark.written()
        trace.flush()
        checkpoint = replace(checkpoint, pictures=pictures, state={
            **checkpoint.state, "bytes": stored.bytes, "sha256": stored.sha256, "nest": stored.nest})
        self.check()
        noted = self.work.write(checkpoint)
        return stored.bytes + noted + pictures.rest * 3 * math.prod(self._job.decoded)

    def note_states(self, trace: str) -> None:
        self._trace = trace
        self._snapshots.note(self._origin, trace)

    def forget(self) -> None:
        with output_errors(self.work.film):
            self.work.note.unlink(missing_ok=True)

    def stopped(self, interruption: Interruption, done: str) -> None:
        kept = f"kept {size(self.kept.bytes)} in {self.work.folder} (never more than {size(self.kept.bound)})"
        interruption.check(f"{done}; {kept}")

    def _settle_states(self) -> None:
        try:
            settle(self._job, self._trace)
        except EchoError as error:
            self._tell(f"no states are kept for an edit: {error.message}")

    def _reuse(self, stack: ExitStack) -> None:
        """Begin with what an earlier version of the film has in common with this one, if its states are here."""
        if self._job.request.force or self._job.outputs.scenes:  # scenes for other films are collected from the first
            return
        recalls, numbers = self._policy.recalls, Numbering.of(self._job.whole)
        edit = Edit(self._job, self.work, self._origin, self._policy, self._tell)
        if state := edit.find():
            self._left = edit.begin(state[0], self._identity.plain(), header(self._job, self._backend, self._runtime),
                                    lambda scene: candidates(numbers.recall(recalls.get(numbers.scenes + scene))))
            self._resume(self._left, stack, edit.report(*state))

    def _check_kept(self, left: Checkpoint) -> None:
        """A UsageError if the run that was interrupted did not keep what this one is asked to keep for other films."""
        job, end = self._job, self._job.outputs.end
        lacks = sorted(self._policy.needs_after(job.as_counted(job.timeline.blocks[left.block - 1])) - set(left.needs))
        if end and left.block == left.blocks and not partial(end).exists():
            lacks.append("its end")
        if lacks:
            raise UsageError(
                f"{self.work.film} was begun with another --keep-states or without --keep-end, and interrupted after "
                f"{left.progress}: its checkpoint lacks {', '.join(lacks)}",
                "Resume with the same options (a batch begins films with --keep-states none), or use --restart to "
                "discard the checkpoint and start again.")

    def _resume(self, left: Checkpoint, stack: ExitStack, message: str) -> None:
        self.started, self.sittings = left.started, left.sittings + 1
        here = machine(self._job, self._runtime)
        self.work.check(left, self._identity, {name: here[name] for name in DECISIVE})
        self._check_kept(left)
        stored = Stored(left.state["bytes"], left.state["sha256"], left.state["nest"])
        self._state = read_state(self.work.folder / left.state["file"], stored)
        # threads split sums, so their bits depend on the number of threads
        if (threads := left.machine["threads"]) != here["threads"]:
            stack.callback(torch.set_num_threads, here["threads"])
            torch.set_num_threads(threads)
        if left.machine["processor"] != here["processor"]:
            message += (
                f"; it was begun on {left.machine['processor']}, and this is {here['processor']}: from here on, "
                "pictures may differ in their last bits"
            )
        self._tell(message)
