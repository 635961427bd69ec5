"""What a finished film leaves for an edit of it: a folder NAME.states, with the state of memory at some of its blocks.

Beside each state lie the film's complete segments, the pictures of the one in progress there, and the trace. A film
that begins alike continues from the last of these states before the first change (`edit`). Whether it begins alike is
decided here, in plain values: a hash for each scene, and what later scenes need of it. No torch.
"""

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from echo_cli.errors import Damaged, OutputError
from echo_cli.files import flush, output_errors, read_small, write_whole
from echo_cli.render.belongings import clear, foreign
from echo_cli.render.job import Job
from echo_cli.render.manifest import BEGINS, Identity
from echo_cli.render.resume import Work, sealed, unsealed
from echo_cli.storyboard.canonical import canonical
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import SOUNDTRACK, Block, Timeline
from echo_cli.video import segments
from echo_cli.video.subtitles import Subtitles
from echo_cli.video.target import Images, Movie

NOTE = "states.json"
TRACE = "trace.json"
FILM, SNAPSHOT = "echo-states", "echo-snapshot"  # formats of the two kinds of notes


class Plan(Protocol):
    """What is asked of a memory policy."""

    @property
    def recalls(self) -> Mapping[int, Recall]: ...

    @property
    def jumps(self) -> Mapping[int, int | None]: ...

    def needs_after(self, block: Block) -> frozenset[str]: ...


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of a film after some of its blocks, in three files: this note, the tensors, and the pictures that are
    in no complete segment. Snapshots within one segment share the last file: a later one has more of it."""

    blocks: int
    closed: bool  # whether they end a scene
    needs: Sequence[str]  # what it keeps for later scenes
    state: Mapping[str, Any]  # as state_files.Stored has it
    pictures: segments.Written
    wall_seconds: float

    @property
    def name(self) -> str:
        return f"snapshot-{self.blocks:06d}"

    def note(self, folder: Path) -> Path:
        return folder / f"{self.name}.json"

    def tensors(self, folder: Path) -> Path:
        return folder / f"{self.name}.safetensors"

    def rest(self, folder: Path) -> Path:
        return folder / f"rest-{self.pictures.segments:06d}.h264"

    def files(self, folder: Path) -> tuple[Path, ...]:
        return self.note(folder), self.tensors(folder), self.rest(folder)

    def write(self, folder: Path) -> None:
        write_whole(self.note(folder), sealed(SNAPSHOT, {**asdict(self), "needs": sorted(self.needs)}))


def snapshots(folder: Path) -> list[Snapshot]:
    """Those in a folder, in the order of the film; one whose note is damaged is left out."""
    kept = []
    for path in sorted(folder.glob("snapshot-*.json")):
        try:
            note = unsealed(SNAPSHOT, read_small(path), path)
            kept.append(Snapshot(**{**note, "pictures": segments.Written(**note["pictures"])}))
        except (Damaged, OSError, TypeError, KeyError):
            continue
    return kept


def files(folder: Path, kept: Iterable[Snapshot]) -> set[Path]:
    """All that belongs to some snapshots in a folder."""
    return {path for snapshot in kept for path in snapshot.files(folder)}


@dataclass(frozen=True, slots=True)
class Origin:
    """The film that states are of: its base and machine, which must be equal throughout, and each scene as a hash with
    its number of blocks."""

    storyboard: str  # its hash
    base: Mapping[str, Any]
    machine: Mapping[str, Any]
    scenes: Sequence[Sequence[Any]]

    def common(self, other: "Origin") -> int:
        """With how many equal blocks two films begin that agree in all else."""
        same = 0
        for (mine, count), (theirs, others) in zip(self.scenes, other.scenes, strict=False):
            if mine != theirs:
                break
            same += min(count, others)
            if count != others:
                break
        return same


def origin(job: Job, identity: Identity, machine: Mapping[str, Any], plan: Plan) -> Origin:
    counts = [len(span.blocks) for span in job.timeline.spans]
    links = (_link(job, index, scene, plan) for index, scene in enumerate(_scenes(job)))
    scenes = [[link, count] for link, count in zip(links, counts, strict=True)]
    return Origin(identity.storyboard, _base(job, identity), machine, scenes)


def begins(job: Job, identity: Identity) -> str:
    """A hash that a film shares with its later versions: of what decides every picture, and of its first scene, or the
    film that it continues."""
    base = {name: value for name, value in _base(job, identity).items() if name != "keeps_scenes"}
    first = None if job.whole.first else _link(job, 0, _scenes(job)[0], None)
    return hashlib.sha256(json.dumps([base, first], sort_keys=True).encode()).hexdigest()


def is_edit(job: Job, identity: Identity, there: Mapping[str, Any] | None) -> bool:
    """Whether the film whose manifest is `there` is an earlier version of this one."""
    return there is not None and there.get(BEGINS) == begins(job, identity)


def read(folder: Path) -> tuple[Origin, str] | None:
    """The film that the states in a folder are of, and its trace's hash; None where there are none to rely on."""
    try:
        note = unsealed(FILM, read_small(folder / NOTE), folder / NOTE)
        trace = note.pop("trace")
        return Origin(**note), trace
    except (Damaged, OSError, TypeError, KeyError):
        return None


def write(folder: Path, film: Origin, trace: Path, digest: str) -> None:
    """The note over all snapshots in a folder, which rely on this trace and its hash."""
    link(trace, folder / TRACE)
    write_whole(folder / NOTE, sealed(FILM, {**asdict(film), "trace": digest}))


def settle(job: Job, trace: str) -> None:
    """The film with a trace of this hash is whole: the states in its work's folder become its own, and those of an
    earlier film are removed. As a run ends, or later if it was killed before this."""
    work = Work(job.outputs)
    if (noted := read(work.folder)) and noted[1] == trace:
        _tidy(job, work.folder)
        remove(work.states)
        with output_errors(work.states):
            for folder in (work.folder, work.states):
                if strange := foreign(folder):
                    raise OutputError(strange, "Move it away.")
            work.folder.rename(work.states)
            flush(work.states.parent)
    elif work.states.exists() and ((there := read(work.states)) is None or there[1] != trace):
        remove(work.states)


def segments_of(job: Job, folder: Path) -> segments.Kept:
    """The segments of a film that are kept in a folder."""
    target = job.outputs.film
    assert isinstance(target, Movie | Images), "what cannot be resumed keeps no states"
    return segments.Kept(target, folder, job.encoding.segments)


def _tidy(job: Job, folder: Path) -> None:
    """Remove everything but the states, what they rely on, and the segments before the last of them."""
    kept = snapshots(folder)
    stay = {folder / NOTE, folder / TRACE, *files(folder, kept),
            *segments_of(job, folder).files(kept[-1].pictures)}
    with output_errors(folder):
        clear(folder, stay)


def remove(folder: Path) -> None:
    """The states of a film that is replaced, or that is not to keep any."""
    with output_errors(folder):
        clear(folder)


def link(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the file system knows no links."""
    with output_errors(target):
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(source)
        except OSError:
            shutil.copyfile(source, target)


def moments(timeline: Timeline, keep: str) -> frozenset[int]:
    """After how many blocks states are kept: where the last scene begins, or every one (`all`), and two blocks before
    the film's end, since one more scene may round away one of them."""
    if keep == "none":
        return frozenset()
    begins = [span.blocks.start for span in timeline.spans]
    end = max(begins[-1], len(timeline.blocks) - 2)
    return frozenset((*(begins if keep == "all" else begins[-1:]), end)) - {0}


def open_ends(job: Job) -> frozenset[int]:
    """The scenes, as memory counts them, that an edit may replace without losing what is kept, and one more at the end;
    also for a film that continues this one."""
    first, count = job.whole.first, len(job.whole.spans)
    edits = {"none": (), "last": (count - 1, count), "all": range(first, count + 1)}[job.keep_states]
    return frozenset((*edits, *((count,) if job.outputs.end else ()))) - {0}


def superfluous(kept: Sequence[Snapshot]) -> Snapshot:
    """Which of several snapshots to give up for room: the one that leaves the smallest gap, the last of all."""
    edges = [0, *(snapshot.blocks for snapshot in kept)]
    return kept[min(range(len(kept) - 1), key=lambda place: edges[place + 2] - edges[place], default=0)]


def _base(job: Job, identity: Identity) -> dict[str, Any]:
    """All that decides every picture. Subtitles do where they are drawn, and then scene by scene, as do files that come
    into one scene."""
    plain = identity.plain()
    apart = ("subtitles", "inputs", "scenes")
    settings = {name: value for name, value in plain["settings"].items() if name not in apart}
    return {"weights": plain["weights"], "seed": plain["seed"], "version": plain["version"], "settings": settings,
            "drawn": job.subtitles is Subtitles.BURN, "fps": job.timeline.geometry.fps,
            "film": job.outputs.film.path.name, "segment": segments.LENGTH,
            "inputs": {each.path: each.sha256 for each in job.inputs if each.scene is None},
            "keeps_scenes": job.outputs.scenes is not None}


def _scenes(job: Job) -> list[dict[str, Any]]:
    return canonical(job.storyboard)["scenes"]


def _link(job: Job, index: int, scene: Mapping[str, Any], plan: Plan | None) -> str:
    """A hash of what a scene adds to the film: its length apart, which is compared in blocks."""
    dropped = ("duration", SOUNDTRACK) if job.subtitles is Subtitles.BURN else ("duration", SOUNDTRACK, "subtitle")
    added = {name: value for name, value in scene.items() if name not in dropped}
    counted = job.whole.first + index
    recall = plan.recalls.get(counted) if plan else None
    added["inputs"] = [each.sha256 for each in job.inputs
                       if each.scene == scene["id"] and each.what != SOUNDTRACK]
    added |= {"recalled": recall and [recall.scene, recall.refused], "jump": plan.jumps.get(counted) if plan else None}
    return hashlib.sha256(json.dumps(added, sort_keys=True).encode()).hexdigest()
