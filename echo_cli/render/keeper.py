"""Keeps a film that is being made from being lost: one writer, checkpoints when they are due, and the way back to them.

Between two blocks it gathers what the future depends on (the rollout's state, the decoder's, the place in film and
trace) and notes it; what the state means, those know whose it is. It says what it does to whoever listens.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import torch

from echo_cli.errors import Damaged, EchoError
from echo_cli.files import flush, own, partial, told_as_output
from echo_cli.render.decide import Keeping, begun
from echo_cli.render.job import Job
from echo_cli.render.lock import OneWriter
from echo_cli.render.progress import size
from echo_cli.render.resume import Cadence, Checkpoint, Work
from echo_cli.rollout.rollout import Begun, BlockResult
from echo_cli.runtime import Runtime
from echo_cli.state import Nest, copied, moved, size_of
from echo_cli.state_files import Stored, read_state, write_state
from echo_cli.trace.records import Times
from echo_cli.trace.writer import TraceWriter
from echo_cli.video import segments
from echo_cli.video.segments import SegmentedFilm

TWICE = 2 << 30  # bytes of state that may be held twice, so that they are written while the film goes on


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept in one sitting: how often, how much at most, how much it could have become, and how many seconds
    the film waited for it."""

    checkpoints: int = 0
    bytes: int = 0
    bound: int = 0
    seconds: float = 0.0


class Keeper:
    """While open, the only writer of the job's film. `left` is what an interrupted run of it had noted, if there was
    one."""

    def __init__(self, job: Job, weights: str, runtime: Runtime, started: str, keeping: Keeping) -> None:
        self.work, self.kept = Work(job.outputs), Kept()
        self._job, self._identity, self._runtime, self._keeping = job, job.identity(weights), runtime, keeping
        self._cadence, self._began = Cadence(keeping.every), time.monotonic()
        self._lock, self._stack = OneWriter(self.work.lock, self.work.film), ExitStack()
        self.left: Checkpoint | None = None
        self._started, self._state = started, None
        self._writer = ThreadPoolExecutor(1, "echo-keeper")
        self._pending: Future[int] | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            self.left = begun(self.work, self._identity, self._keeping)
            if self.left is None:
                self.work.discard()  # what a killed run left before it noted anything, or what is not wanted any more
            else:
                self._go_on(self.left, stack)
            if self._job.outputs.trace:
                own(partial(self._job.outputs.trace))  # whoever wrote it may not know yet that he is counted as dead
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            with suppress(EchoError, OSError):  # whatever ended the run has been told
                self.settle()
            self._writer.shutdown()
            if self._lock.lost:  # what lies there is another process's by now
                return
            with suppress(Damaged):  # what is noted counts, also if nobody has heard yet that it is
                last = None if error is None else self.work.read()
                if last is None:
                    self.work.discard()
                elif isinstance(error, EchoError):
                    kept = (
                        f"what was made up to {last.told} is kept in {self.work.folder.name}, "
                        "and the same command goes on from there"
                    )
                    error.hint = f"{error.hint}; {kept}" if error.hint else kept

    @property
    def begun(self) -> Begun | None:
        """For the rollout."""
        return Begun(self.left.block, self._state["rollout"]) if self.left and self._state else None

    @property
    def decoder(self) -> Nest:
        return moved(self._state["decoder"], self._runtime.device) if self._state else None

    @property
    def wall_seconds(self) -> float:
        """Of all sittings so far."""
        return (self.left.wall_seconds if self.left else 0.0) + time.monotonic() - self._began

    @property
    def started(self) -> str:
        """When the first sitting began."""
        return self.left.started if self.left else self._started

    @property
    def sittings(self) -> int:
        return (self.left.sittings if self.left else 0) + 1

    def check(self) -> None:
        """Before anything is written: an OutputError if the film is no longer ours."""
        self._lock.check()

    def due(self) -> bool:
        """Between two blocks: whether it is time to keep what there is. An OutputError if the film is no longer ours,
        or if what was to be kept could not be."""
        self.check()
        if self._pending and self._pending.done():
            self.settle()
        return self._cadence.due and self._pending is None

    def keep(self, result: BlockResult, decoder: Nest, film: SegmentedFilm, trace: TraceWriter | None, times: Times,
             wait: bool = False) -> None:
        """Note that everything up to this block is made and written. The note is written while the film goes on, unless
        it shall wait, or the state is too large to be held twice."""
        self.settle()
        began, block = time.monotonic(), result.block.index + 1
        state = {"rollout": result.state(), "decoder": decoder}
        size_ = size_of(state)
        mark, traced = film.mark(), trace.written() if trace else None
        checkpoint = Checkpoint(
            self._identity.plain(),
            _machine(self._job, self._runtime),
            self.work.film.name,
            block,
            len(self._job.timeline.blocks),
            {"file": f"state-{block:06d}-{self.sittings}.safetensors"},
            None,
            traced,
            times,
            self.wall_seconds,
            self.started,
            self.sittings,
        )
        if wait or size_ > TWICE:
            written: Future[int] = Future()
            written.set_result(self._write(checkpoint, state, mark, trace))
            self._pending = written  # only now: nobody ever waits for one that failed here
        else:
            self._pending = self._writer.submit(self._write, checkpoint, copied(state), mark, trace)
        self._film, self._bound = film, result.bytes + size_of(decoder)
        spent = time.monotonic() - began
        self._cadence.saved(spent)
        self.kept = replace(self.kept, seconds=self.kept.seconds + spent)
        if self._pending.done():
            self.settle()

    def settle(self) -> None:
        """What was being kept is kept, or it is said why not."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        began = time.monotonic()
        written = pending.result()
        self._film.rely()
        picture = 3 * self._job.size[0] * self._job.size[1]
        noted = self.work.note.stat().st_size
        # all that memory and the decoder hold, a segment's pictures, and the note with as much again for its numbers
        bound = self._bound + segments.LENGTH * picture + 2 * noted
        self.kept = Kept(self.kept.checkpoints + 1, max(self.kept.bytes, written), max(self.kept.bound, bound),
                         self.kept.seconds + time.monotonic() - began)

    def _write(self, checkpoint: Checkpoint, state: Nest, mark: segments.Mark, trace: TraceWriter | None) -> int:
        """Everything on the disk, the note last; its bytes."""
        self.check()
        stored = write_state(self.work.folder / checkpoint.state["file"], state)
        pictures = mark.written()
        if trace:
            with told_as_output(trace.path):
                flush(partial(trace.path))
        checkpoint = replace(checkpoint, pictures=pictures, state={
            **checkpoint.state, "bytes": stored.bytes, "sha256": stored.sha256, "nest": stored.nest})
        self.check()
        noted = self.work.write(checkpoint)
        return stored.bytes + noted + pictures.rest * 3 * self._job.size[0] * self._job.size[1]

    def forget(self) -> None:
        """The film is whole: from here on nobody goes on with it."""
        with told_as_output(self.work.film):
            self.work.note.unlink(missing_ok=True)

    def told(self) -> str:
        """What an interruption leaves."""
        return f"kept {size(self.kept.bytes)} in {self.work.folder} (never more than {size(self.kept.bound)})"

    def _go_on(self, left: Checkpoint, stack: ExitStack) -> None:
        here = _machine(self._job, self._runtime)
        self.work.check(left, self._identity, {name: here[name] for name in ("device", "dtype", "torch", "compiled")})
        stored = Stored(left.state["bytes"], left.state["sha256"], left.state["nest"])
        self._state = read_state(self.work.folder / left.state["file"], stored)
        # sums are taken apart by threads: their bits depend on it
        if (threads := left.machine["threads"]) != here["threads"]:
            stack.callback(torch.set_num_threads, here["threads"])
            torch.set_num_threads(threads)
        told = f"{self.work.film}: going on after {left.told}"
        if left.machine["processor"] != here["processor"]:
            told += (
                f"; begun on {left.machine['processor']}, and this is {here['processor']}: from here on, pictures may "
                "differ in their last bits"
            )
        self._keeping.tell(told)


def _machine(job: Job, runtime: Runtime) -> dict[str, Any]:
    """What affects a film's bits beside its identity: the first four must match; the others can be adapted to."""
    cuda = runtime.device.type == "cuda"
    return {
        "device": runtime.device.type,
        "dtype": str(runtime.dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "compiled": cuda if job.running.compiled is None else job.running.compiled,
        "threads": torch.get_num_threads(),
        "processor": torch.cuda.get_device_name(runtime.device) if cuda else torch.backends.cpu.get_cpu_capability(),
    }
