"""Keeps a film that is being made from being lost: one writer, checkpoints when they are due, and the way back to them.

Between two blocks it gathers what the future depends on (the rollout's state, the decoder's, the place in film and trace)
and notes it; what the state means, those know whose it is. It says what it does to whoever listens.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch

from echo_cli.errors import EchoError
from echo_cli.render.job import Job
from echo_cli.render.lock import OneWriter
from echo_cli.render.needed import Keeping, begun
from echo_cli.render.progress import size
from echo_cli.render.resume import Cadence, Checkpoint, Work
from echo_cli.rollout.checkpoint import Stored, read_state, write_state
from echo_cli.rollout.rollout import Begun, BlockResult
from echo_cli.runtime import Runtime
from echo_cli.state import Nest, moved, pack
from echo_cli.trace.records import Times
from echo_cli.trace.writer import TraceWriter
from echo_cli.video import segments
from echo_cli.video.segments import SegmentedFilm


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept in one sitting: how often, how much at most, how much it could have become, and how long it took."""

    checkpoints: int = 0
    bytes: int = 0
    bound: int = 0
    seconds: float = 0.0


class Keeper:
    """While open, the only writer of the job's film. `left` is what an interrupted run of it had noted, if there was one."""

    def __init__(self, job: Job, weights: str, runtime: Runtime, started: str, keeping: Keeping) -> None:
        self.work, self.kept = Work(job.outputs), Kept()
        self._job, self._identity, self._runtime, self._keeping = job, job.identity(weights), runtime, keeping
        self._cadence, self._began = Cadence(keeping.every), time.monotonic()
        self._lock, self._stack = OneWriter(self.work.lock, self.work.film), ExitStack()
        self.left: Checkpoint | None = None
        self._last: Checkpoint | None = None
        self._started, self._state = started, None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._lock)
            self._last = self.left = begun(self.work, self._identity, self._keeping)
            if self.left is None:
                self.work.discard()  # what a killed run left before it noted anything, or what is not wanted any more
            else:
                self._go_on(self.left, stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack:
            if error is None or self._last is None:
                self.work.discard()
            elif isinstance(error, EchoError):
                kept = f"what was made up to {self._last.told} is kept in {self.work.folder.name}, and the same command goes on from there"
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

    def due(self) -> bool:
        """Between two blocks: whether it is time to keep what there is. An OutputError if the film is no longer ours."""
        self._lock.check()
        return self._cadence.due

    def keep(self, result: BlockResult, decoder: Nest, film: SegmentedFilm, trace: TraceWriter | None, times: Times) -> None:
        """Note that everything up to this block is made and written."""
        began, block, timeline = time.monotonic(), result.block.index + 1, self._job.timeline
        name = f"state-{block:06d}-{self.sittings}.safetensors"
        with ThreadPoolExecutor(2) as pool:  # three files, and a disk's answer to be waited for with each
            filmed, traced = pool.submit(film.written), pool.submit(trace.written) if trace else None
            stored = write_state(self.work.folder / name, {"rollout": result.state(), "decoder": decoder})
            pictures = filmed.result()
        checkpoint = Checkpoint(
            self._identity.plain(), _machine(self._job, self._runtime), self.work.film.name, block, len(timeline.blocks),
            {"file": name, "bytes": stored.bytes, "sha256": stored.sha256, "nest": stored.nest}, pictures, traced.result() if traced else None, times,
            self.wall_seconds, self.started, self.sittings)
        noted = self.work.write(checkpoint)
        film.rely()
        self._last = checkpoint
        picture = 3 * self._job.size[0] * self._job.size[1]
        bytes_ = stored.bytes + noted + pictures.rest * picture
        # all that memory and the decoder hold, a segment's pictures, and the note with as much again for its numbers
        held = sum(tensor.numel() * tensor.element_size() for tensor in pack(decoder)[0].values())
        bound = result.bytes + held + segments.LENGTH * picture + 2 * noted
        spent = time.monotonic() - began
        self._cadence.saved(spent)
        self.kept = Kept(self.kept.checkpoints + 1, max(self.kept.bytes, bytes_), max(self.kept.bound, bound), self.kept.seconds + spent)

    def told(self) -> str:
        """What an interruption leaves."""
        return f"kept {size(self.kept.bytes)} in {self.work.folder} (never more than {size(self.kept.bound)})"

    def _go_on(self, left: Checkpoint, stack: ExitStack) -> None:
        here = _machine(self._job, self._runtime)
        self.work.check(left, self._identity, {name: here[name] for name in ("device", "dtype", "torch", "compiled")})
        stored = Stored(left.state["bytes"], left.state["sha256"], left.state["nest"])
        self._state = read_state(self.work.folder / left.state["file"], stored)
        if (threads := left.machine["threads"]) != here["threads"]:  # sums are taken apart by threads: their bits depend on it
            stack.callback(torch.set_num_threads, here["threads"])
            torch.set_num_threads(threads)
        told = f"{self.work.film}: going on after {left.told}"
        if left.machine["processor"] != here["processor"]:
            told += (f"; begun on {left.machine['processor']}, and this is {here['processor']}: from here on, pictures may "
                     "differ in their last bits")
        self._keeping.tell(told)


def _machine(job: Job, runtime: Runtime) -> dict[str, Any]:
    """What decides a film's bits beside its identity: the first four must be the same, for the others a way is found."""
    cuda = runtime.device.type == "cuda"
    return {"device": runtime.device.type, "dtype": str(runtime.dtype).removeprefix("torch."), "torch": torch.__version__,
            "compiled": cuda if job.running.compiled is None else job.running.compiled, "threads": torch.get_num_threads(),
            "processor": torch.cuda.get_device_name(runtime.device) if cuda else torch.backends.cpu.get_cpu_capability()}
