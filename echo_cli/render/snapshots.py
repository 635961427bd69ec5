"""States of a film, kept as it is rendered and reused by an edit of it.

They grow in the film's folder for work in progress, with everything else that a run keeps there; when the film is
whole, that folder becomes NAME.states (`states`). An edit begins as a resumed run does: with a checkpoint of the film
as it will be, made out of a state of the film as it was. In what two films agree is decided by `states`.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from echo_cli.errors import Damaged, EchoError
from echo_cli.files import output_errors, partial, sha256
from echo_cli.render import states
from echo_cli.render.job import Job
from echo_cli.render.manifest import differences
from echo_cli.render.request import bytes_of
from echo_cli.render.resume import Checkpoint, Work
from echo_cli.render.states import Origin, Plan, Snapshot
from echo_cli.state import Nest, size_of
from echo_cli.state_files import write_state
from echo_cli.storyboard.nouns import Block
from echo_cli.text import plural, size
from echo_cli.trace.reader import read_trace
from echo_cli.trace.records import Candidate, Header
from echo_cli.trace.writer import TraceWriter, Written
from echo_cli.video import segments
from echo_cli.video.segments import Mark

_ADVICE = "--keep-states all keeps one for each scene"


class Snapshots:
    """The states that one run keeps, in the folder of its work. A disk that has no room for them costs no film."""

    def __init__(self, job: Job, work: Work, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = work.folder, tell
        self.moments = states.moments(job.timeline, job.keep_states)
        self._room, self._size = bytes_of(job.request.keep_room), job.decoded
        self._segments = states.segments_of(job, work.folder)
        self._trace = job.outputs.trace

    @property
    def kept(self) -> list[Snapshot]:
        """Those that are to be kept and whose files are all there."""
        return [snapshot for snapshot in states.snapshots(self._folder)
                if snapshot.blocks in self.moments and all(map(Path.exists, snapshot.files(self._folder)))]

    def due(self, blocks: int) -> bool:
        """Whether a state is to be kept after so many blocks, and is not there yet."""
        return blocks in self.moments and all(snapshot.blocks != blocks for snapshot in self.kept)

    def keep(self, block: Block, needs: frozenset[str], state: Nest, mark: Mark, wall_seconds: float) -> None:
        """The state after a block, and the pictures at its mark."""
        blocks = block.index + 1
        if (needed := size_of(state)) > self._room:
            self._tell(f"no state is kept after block {blocks}: it takes {size(needed)}, more than --keep-room allows")
            return
        snapshot = Snapshot(blocks, block.closes, sorted(needs), {}, mark.written(), wall_seconds)
        try:
            self._make_room(needed)
            stored = write_state(snapshot.tensors(self._folder), state)
            mark.compress(snapshot.rest(self._folder), self._size)
            replace(snapshot, state=asdict(stored)).write(self._folder)
            self._make_room(0)
        except EchoError as error:
            self._drop(snapshot)
            self._tell(f"no state is kept after block {blocks}: {error.message}")

    def note(self, film: Origin, trace: str) -> None:
        """The film is whole but for its name: what its states are of, with the hash of its trace."""
        try:
            kept = self.kept
            for snapshot in states.snapshots(self._folder):
                if snapshot not in kept:
                    self._drop(snapshot)
            self._make_room(self._beside())
            if self.kept and self._trace:
                states.write(self._folder, film, partial(self._trace), trace)
        except EchoError as error:
            self._tell(f"no states are kept for an edit: {error.message}")

    def _beside(self) -> int:
        """Bytes that lie beside the states: complete segments and the trace."""
        kept = self.kept
        beside = self._segments.files(kept[-1].pictures) if kept else []
        with output_errors(self._folder):
            return _size((*beside, partial(self._trace)) if self._trace else beside)

    def _make_room(self, needed: int) -> None:
        kept = self.kept
        with output_errors(self._folder):
            while kept and _size(states.files(self._folder, kept)) + needed > self._room:
                given_up = states.superfluous(kept)
                kept.remove(given_up)
                self._drop(given_up)

    def _drop(self, snapshot: Snapshot) -> None:
        """Remove a snapshot, but for what others share with it."""
        with output_errors(self._folder):
            snapshot.note(self._folder).unlink(missing_ok=True)
            for path in {*snapshot.files(self._folder)} - states.files(self._folder, self.kept):
                path.unlink(missing_ok=True)


def _size(paths: Iterable[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


class Edit:
    """A film that may begin as the one whose states are here."""

    def __init__(self, job: Job, work: Work, film: Origin, plan: Plan, tell: Callable[[str], None]) -> None:
        self._job, self._work, self._film, self._plan, self._tell = job, work, film, plan, tell
        self._folder = work.states
        self._segments = states.segments_of(job, self._folder)

    def find(self, verified: bool = True) -> tuple[Snapshot, int] | None:
        """The state to continue from, verified, and how many blocks are the same; None where there is none. The reason
        is reported if the films begin alike."""
        there = states.read(self._folder)
        if there is None or there[0].base != self._film.base:
            return None
        (film, trace), name = there, self._job.outputs.film.path
        if not (same := min(film.common(self._film), len(self._job.timeline.blocks) - 1)):
            return None
        if other := differences(dict(film.machine), dict(self._film.machine)):
            self._tell(f"{name}: its states were kept on another machine ({', '.join(other)}), so it is rendered from "
                       "its beginning")
            return None
        for snapshot in reversed(states.snapshots(self._folder)):
            if snapshot.blocks <= same and self._fits(snapshot):
                try:
                    if verified:
                        self._verify(snapshot, trace)
                    return snapshot, same
                except Damaged as error:
                    self._tell(f"{error.message}: that state is not used")
        advice = f" ({_ADVICE})" if self._job.keep_states != "all" else ""
        self._tell(f"{name}: the first {plural(same, 'block')} could be reused, but no state was kept there that fits"
                   f"{advice}: it is rendered from its beginning")
        return None

    def _fits(self, snapshot: Snapshot) -> bool:
        last = self._job.timeline.blocks[snapshot.blocks - 1]
        needs = self._plan.needs_after(self._job.as_counted(last))
        return snapshot.closed == last.closes and needs <= frozenset(snapshot.needs)

    def _verify(self, snapshot: Snapshot, trace: str) -> None:
        try:
            if sha256(self._folder / states.TRACE) != trace:
                raise Damaged(f"{self._folder / states.TRACE} is not what was written")
            if sha256(snapshot.tensors(self._folder)) != snapshot.state["sha256"]:
                raise Damaged(f"{snapshot.tensors(self._folder)} is not what was written")
            self._segments.verify(snapshot.pictures, snapshot.rest(self._folder), self._job.decoded)
        except OSError as error:
            raise Damaged(f"{error.filename}: {error.strerror}") from error

    def begin(self, snapshot: Snapshot, identity: Mapping[str, Any], header: Header,
              candidates: Callable[[int], tuple[Candidate, ...]]) -> Checkpoint:
        """The checkpoint of this film that the state amounts to, noted as if a run had been interrupted there."""
        folder, kept = self._work.folder, self._folder
        with output_errors(folder):
            folder.mkdir(parents=True)
            for path in self._segments.files(snapshot.pictures):
                states.link(path, folder / path.name)
            for older in states.snapshots(kept):
                if older.blocks <= snapshot.blocks:
                    for path in reversed(older.files(kept)):
                        states.link(path, folder / path.name)
            state = {**snapshot.state, "file": f"state-{snapshot.blocks:06d}-0.safetensors"}
            states.link(snapshot.tensors(kept), folder / state["file"])
            segments.restore(snapshot.rest(kept), folder, snapshot.pictures, self._job.decoded)
        trace = self._retrace(snapshot.blocks, header, candidates)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        checkpoint = Checkpoint(identity, self._film.machine, self._work.film.name, snapshot.blocks,
                                len(self._job.timeline.blocks), state, snapshot.pictures, trace,
                                trace.times, snapshot.wall_seconds, now, 0, snapshot.needs, snapshot.blocks)
        self._work.write(checkpoint)
        return checkpoint

    def _retrace(self, blocks: int, header: Header, candidates: Callable[[int], tuple[Candidate, ...]]) -> Written:
        """The trace of the blocks that are reused, under the new film's header. How similar the prompts of candidates
        are depends on all prompts, and is written again."""
        assert self._job.outputs.trace is not None, "what can be resumed has a trace"
        before = read_trace(self._folder / states.TRACE)
        opening = {record.block: record for record in before.scenes}
        closing = {record.block: record for record in before.recall_frames.values()}
        with TraceWriter(self._job.outputs.trace, header) as trace:
            for index in range(blocks):
                if scene := opening.get(index):
                    trace.scene(replace(scene, candidates=candidates(scene.scene)) if scene.candidates else scene)
                trace.block(before.block(index))
                if frame := closing.get(index):
                    trace.recall_frame(frame)
            written = trace.written()
            trace.flush()
        return written

    def report(self, snapshot: Snapshot, same: int) -> str:
        """What is reused, and from where the film is rendered."""
        timeline = self._job.timeline
        begins = timeline.blocks[snapshot.blocks]
        scene = timeline.scenes[begins.scene].id
        where = f"the beginning of scene '{scene}'" if begins.opens else f"within scene '{scene}'"
        seconds = snapshot.pictures.pictures / timeline.geometry.fps
        more = same - snapshot.blocks
        advice = f"; {_ADVICE}" if self._job.keep_states != "all" else ""
        unused = (f" ({plural(more, 'more block')} are the same, but no state was kept there that fits{advice})"
                  if more > 1 else "")
        return (f"{self._job.outputs.film.path}: reusing {snapshot.blocks} of {len(timeline.blocks)} blocks "
                f"({seconds:g} s); rendering from {where}{unused}")
