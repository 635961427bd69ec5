"""What an interrupted run leaves: a folder beside the film with a note that says how far the run had come.

The note (`checkpoint.json`) is written last and atomically, and names everything it relies on with its hash: the state
of memory, complete segments of the film, the pictures of the one in progress, a number of bytes of the trace. So
whenever a run is killed, the note is complete or absent. This module knows what the note says and whether it belongs to
this film; what the state in it means is known to `film`. No torch.
"""

import errno
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from echo_cli.errors import Damaged, UsageError
from echo_cli.files import (
    fitted,
    output_error,
    output_errors,
    parse_json,
    partial,
    read_small,
    why_unreadable,
    write_whole,
)
from echo_cli.render.belongings import clear
from echo_cli.render.manifest import Identity, changes, differences
from echo_cli.render.outputs import Outputs
from echo_cli.storyboard.ends import ENDING as END
from echo_cli.trace import writer as trace
from echo_cli.trace.records import Times
from echo_cli.video import segments

FORMAT = "echo-checkpoint"
VERSION = 1
NOTE = "checkpoint.json"
EVERY = 60.0  # seconds between checkpoints, by default
SHARE = 0.02  # of the time that they may take by default


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a run had come, in plain values. `machine` is what decides bits beside the film's identity."""

    identity: Mapping[str, Any]
    machine: Mapping[str, Any]
    film: str  # the name of the file, or of the sequence
    block: int  # blocks made
    blocks: int
    state: Mapping[str, Any]  # as rollout.checkpoint.Stored has it, with the name of the file
    pictures: segments.Written | None  # None until it is known
    trace: trace.Written | None
    times: Times
    wall_seconds: float
    started: str
    sittings: int
    needs: Sequence[str]  # what the state keeps for later scenes
    reused: int = 0  # blocks that an earlier version of the film had

    @property
    def progress(self) -> str:
        return f"block {self.block} of {self.blocks}"


class Work:
    """A film's folder for work in progress, and its lock."""

    def __init__(self, outputs: Outputs) -> None:
        assert outputs.base is not None, "a film on standard output leaves nothing to resume from"
        self.film = outputs.film.path
        self.folder, self.states = outputs.folders
        self.lock = fitted(outputs.base, ".lock")
        self.note = self.folder / NOTE
        self._end = partial(fitted(outputs.base, END))

    def read(self) -> Checkpoint | None:
        """The note of an interrupted run; None if there is none, Damaged if it is not what was written."""
        try:
            text = read_small(self.note)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:  # not the note, but the way to it
                raise output_error(error, self.film) from None
            raise Damaged(f"{self.note} cannot be read: {error.strerror}") from error
        note = unsealed(FORMAT, text, self.note)
        try:
            known = note["trace"] and trace.Written(**{**note["trace"], "times": Times(*note["trace"]["times"])})
            return Checkpoint(**{**note, "pictures": segments.Written(**note["pictures"]), "trace": known,
                                 "times": Times(*note["times"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Damaged(f"{self.note} is damaged: {why_unreadable(error)}") from error

    def write(self, checkpoint: Checkpoint) -> int:
        """Write the note, and remove the states that only earlier notes named; returns the size of the note."""
        assert checkpoint.pictures is not None, "a checkpoint is noted when its pictures are on the disk"
        note = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
        note |= {"pictures": asdict(checkpoint.pictures), "trace": checkpoint.trace and asdict(checkpoint.trace)}
        text = sealed(FORMAT, note)
        write_whole(self.note, text)
        for path in self.folder.glob("state-*"):
            if path.name != checkpoint.state["file"]:
                path.unlink(missing_ok=True)
        return len(text.encode())

    def check(self, left: Checkpoint, identity: Identity, machine: Mapping[str, Any] | None = None) -> None:
        """A UsageError if this is not the film that was begun, with the reason. `machine` once it is known."""
        wanted = identity.plain()
        other = changes(left.identity, wanted)
        if left.film != self.film.name:
            other.append(f"it was {left.film}, now {self.film.name}")
        if machine is not None:
            other += differences({name: left.machine.get(name) for name in machine}, dict(machine))
        if other:
            raise UsageError(
                f"{self.film} was begun with other settings, and interrupted after {left.progress}: {', '.join(other)}",
                "Use --restart to discard the checkpoint and start again, or resume with the original settings.",
            )

    def discard(self) -> None:
        """Removes everything that a run could resume from."""
        with output_errors(self.film):
            self._end.unlink(missing_ok=True)
            clear(self.folder)


class Cadence:
    """When the next checkpoint is due. `every` 0 is never; left out, they come a minute apart, or so far that writing
    them takes a fiftieth of the time."""

    def __init__(self, every: float | None) -> None:
        self._every, self._last, self._cost = every, time.monotonic(), 0.0

    @property
    def due(self) -> bool:
        if self._every == 0:
            return False
        apart = max(EVERY, self._cost / SHARE) if self._every is None else self._every
        return time.monotonic() - self._last >= apart

    def saved(self, cost: float) -> None:
        self._last, self._cost = time.monotonic(), cost


def sealed(kind: str, note: Mapping[str, Any]) -> str:
    """A note of some kind, with its own hash."""
    return json.dumps({"format": kind, "version": VERSION, "sha256": _seal(note), **note}, ensure_ascii=False)


def unsealed(kind: str, text: bytes, path: Path) -> dict[str, Any]:
    """What a note of this kind holds; Damaged where it is not what was written at `path`."""
    try:
        note = parse_json(text)
        if not isinstance(note, dict):
            raise ValueError("it is not a JSON object")
        seal = note.pop("sha256")
        if (note.pop("format"), note.pop("version")) != (kind, VERSION):
            raise Damaged(f"{path} is of another version of echo")
        if seal != _seal(note) or sealed(kind, note).encode() != text:  # two spellings may mean the same number
            raise ValueError("its hash differs")
        return note
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path} is damaged: {why_unreadable(error)}") from error


def _seal(note: Mapping[str, Any]) -> str:
    """The note's own hash, over its values."""
    return hashlib.sha256(json.dumps(note, sort_keys=True).encode()).hexdigest()
