"""Reads a trace: finds its lines at once and decodes a line only when it is needed.

A trace of a killed run (no totals, perhaps half a last line) is read up to its last complete record, and `notice` says
so. Anything else that is not a complete trace is refused with a `UsageError` that says what the file is.
What the records mean is not known here.
"""

import mmap
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from echo_cli.errors import UsageError
from echo_cli.files import is_binary, open_regular, parse_json, partial
from echo_cli.text import plural
from echo_cli.trace.records import (
    FORMAT,
    VERSION,
    BlockRecord,
    Header,
    RecallFrameRecord,
    SceneRecord,
    Totals,
)
from echo_cli.trace.rows import dump, from_row

Data = bytes | mmap.mmap
T = TypeVar("T")
OfScene = TypeVar("OfScene", bound=SceneRecord | RecallFrameRecord)

OPENING = re.compile(rb'\{"format":"%s","version":(\d+),"header":' % FORMAT.encode())
BEGINNING = re.compile(rb'[\s\xef\xbb\xbf]*\{\s*"format"\s*:\s*"%s"' % FORMAT.encode())  # in any layout
RECORDS = b',"records":['
TOTALS = b'],"totals":'
KIND = re.compile(rb'\{"kind":"(\w+)"')
WHITE = b" \t\r\n\xef\xbb\xbf"  # including the byte order mark that some editors write
NOT_OURS = "Give the .trace.json that `echo-cli generate` wrote beside the film."


class Line(NamedTuple):
    """Where a record lies in the file: half-open range of bytes, and the number an editor would show."""

    begin: int
    end: int
    number: int


@dataclass(frozen=True)
class Trace:
    """An open trace. `rows` are quick and plain (see schema.json); `block` gives one typed record."""

    path: Path
    header: Header
    scenes: tuple[SceneRecord, ...]
    recall_frames: dict[int, RecallFrameRecord]  # by scene
    totals: Totals | None
    notice: str | None
    data: Data
    lines: Sequence[Line]  # of the blocks
    growing: bool = False  # its run has not finished

    def __len__(self) -> int:
        """How many blocks it holds."""
        return len(self.lines)

    def __getstate__(self) -> dict[str, Any]:
        """A copy holds what the file held."""
        return {**vars(self), "data": self.data[:]}

    def while_rendering(self) -> "Trace":
        """The same trace, of a film that is being rendered now."""
        held = f"it holds {len(self)} of {plural(self.header.timeline[-1].blocks[1], 'block')} so far"
        return replace(self, growing=True, notice=f"{self.path} is still being rendered: {held}")

    def opening(self, scene: int) -> SceneRecord:
        """How a scene began. The records of others may be missing."""
        return next(record for record in self.scenes if record.scene == scene)

    def row(self, index: int) -> dict[str, Any]:
        return _decode(self.path, self.data, self.lines[index])

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every block as plain JSON values, decoded one at a time."""
        return map(self.row, range(len(self)))

    def block(self, index: int) -> BlockRecord:
        return _typed(BlockRecord, self.path, self.data, self.lines[index])

    def check(self) -> None:
        """Reads every block strictly; a UsageError names the first line that is damaged."""
        scenes = set(range(-len(self.header.past), len(self.header.timeline)))
        for index, line in enumerate(self.lines):
            record = self.block(index)
            segments = record.layout.segments
            strangers = {record.scene, *(segment.scene for segment in segments)} - scenes
            weights = len(record.measured.weights) if record.measured else len(segments)
            if record.block != index or strangers or weights != len(segments):
                raise _damaged(self.path, line.number)


def is_trace(path: Path) -> bool:
    """Whether a file begins as a trace does."""
    try:
        with open_regular(path) as file:
            return begins_as_trace(file.read(1000))
    except OSError:
        return False


def begins_as_trace(data: bytes) -> bool:
    return bool(BEGINNING.match(data))


def read_trace(path: Path, data: Data | None = None) -> Trace:
    """The trace in a file, or in `data`, which messages then call by the path."""
    data = _open(path) if data is None else data
    if opening := OPENING.match(data):
        _check_version(path, int(opening[1]))
        head = data[:_line_end(data, 0)]
        if head.endswith(RECORDS):
            return _read_lines(path, data, head)
    data = _lay_out(path, data, begins_as_ours=opening is not None)
    return _read_lines(path, data, data[:_line_end(data, 0)])


def _open(path: Path) -> Data:
    try:
        with open_regular(path) as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError:  # mmap's error for an empty file
        raise UsageError(f"{path} is empty", "The run ended before it wrote anything. Run it again.") from None
    except FileNotFoundError:
        if partial(path).exists():
            raise UsageError(f"{path} does not exist, but {partial(path).name} does: its run did not finish",
                             f"Inspect what was written: echo-cli inspect-cache {partial(path)}.") from None
        raise UsageError(f"{path} does not exist", _hint(path)) from None
    except IsADirectoryError:
        raise UsageError(f"{path} is a folder", NOT_OURS) from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "Check the path and its permissions.") from None


def _hint(path: Path) -> str:
    """The trace beside what was named instead: the film, its manifest, its storyboard, or their common name."""
    for name in (path.name.removesuffix(".manifest.json"), path.stem):
        beside = path.parent / f"{name}.trace.json"
        if beside != path and beside.exists():
            return f"Did you mean {beside}?"
    return NOT_OURS


def _check_version(path: Path, version: object) -> None:
    if isinstance(version, int) and version > VERSION:
        raise UsageError(f"{path} was written by a newer echo (trace version {version}, this one reads {VERSION})",
                         "Upgrade with: pip install --upgrade echo-cli.")
    if type(version) is not int or version != VERSION:
        raise UsageError(f"{path} has trace version {version!r}; this echo reads {VERSION}", NOT_OURS)


def _lay_out(path: Path, data: Data, begins_as_ours: bool) -> bytes:
    """A trace that another tool reformatted, with one record a line again; anything else is refused."""
    start = data[:4096]
    if start.lstrip(WHITE)[:1] not in (b"{", b"["):
        what = "is a binary file, not a trace" if is_binary(start) else "is not a trace"
        raise UsageError(f"{path} {what}", _hint(path))
    try:
        whole = _parsed(data[:])
    except ValueError:
        if begins_as_ours or start.find(FORMAT.encode(), 0, 64) > 0:
            raise UsageError(f"{path} was cut off before its first record, so there is nothing to show",
                             "Run it again, or copy the complete file again.") from None
        raise UsageError(f"{path} is neither a trace nor valid JSON", NOT_OURS) from None
    if not isinstance(whole, dict) or whole.get("format") != FORMAT:
        raise UsageError(f"{path} is JSON, but not a trace", _hint(path))
    _check_version(path, whole.get("version"))
    try:
        head = dump({key: whole[key] for key in ("format", "version", "header")})[:-1].encode() + RECORDS
        records = [dump({"kind": row.pop("kind"), **row}).encode() for row in whole["records"]]
        return head + b"\n" + b",\n".join(records) + b"\n" + TOTALS + dump(whole["totals"]).encode() + b"}\n"
    except KeyError as error:
        raise UsageError(f"{path} calls itself a trace, but lacks {error}", NOT_OURS) from None
    except (AttributeError, TypeError, ValueError):
        raise UsageError(f"{path} calls itself a trace, but is damaged", NOT_OURS) from None


def _read_lines(path: Path, data: Data, head: bytes) -> Trace:
    opening = OPENING.match(head)
    assert opening is not None, "it has been laid out as ours"
    header = _typed(Header, path, head, Line(opening.end(), len(head) - len(RECORDS), 1))
    film = header.film
    if not header.timeline or not film.fps > 0 or min(film.pictures, film.block_frames, film.frame_pictures) < 1:
        raise _damaged(path, 1)
    scenes: list[SceneRecord] = []
    recall_frames: dict[int, RecallFrameRecord] = {}
    blocks: list[Line] = []
    totals = None
    begin, number = len(head) + 1, 1
    while begin < len(data) and totals is None:
        end, number = _line_end(data, begin), number + 1
        line = Line(begin, end - (data[end - 1:end] == b","), number)
        if end == len(data) and not _is_whole(data[begin:end]):
            break  # where a killed run stopped writing
        begin = end + 1
        kind = KIND.match(data, line.begin, line.end)
        match kind and kind[1]:
            case b"block":
                blocks.append(line)
            case b"scene":
                scenes.append(_of_scene(_typed(SceneRecord, path, data, line), header, path, line))
            case b"recall_frame":
                record = _of_scene(_typed(RecallFrameRecord, path, data, line), header, path, line)
                recall_frames[record.scene] = record
            case _ if data[line.begin:line.begin + len(TOTALS)] == TOTALS:
                span = line.begin + len(TOTALS), line.end - 1  # without the brace that closes the file
                totals = _typed(Totals, path, data, Line(*span, number))
            case None if data[line.begin:line.end].strip(WHITE):
                raise _damaged(path, number)
    return Trace(path, header, tuple(scenes), recall_frames, totals,
                 None if totals else _notice(path, header, len(blocks)), data, blocks)


def _of_scene(record: OfScene, header: Header, path: Path, line: Line) -> OfScene:
    """Refuses a record that names a scene which neither the film nor its series have."""
    others = (record.recalled, *(each.scene for each in record.candidates)) if isinstance(record, SceneRecord) else ()
    known = range(-len(header.past), len(header.timeline))
    if record.scene < 0 or any(scene not in known for scene in (record.scene, *others) if scene is not None):
        raise _damaged(path, line.number)
    return record


def _line_end(data: Data, begin: int) -> int:
    end = data.find(b"\n", begin)
    return end if end >= 0 else len(data)


def _is_whole(line: bytes) -> bool:
    """Whether a last line without a line end is complete."""
    try:
        _parsed(line[len(TOTALS):-1] if line.startswith(TOTALS) else line)
    except ValueError:
        return False
    return True


def _notice(path: Path, header: Header, blocks: int) -> str:
    of = header.timeline[-1].blocks[1]
    return f"{path} belongs to a run that did not finish: it holds {blocks} of {plural(of, 'block')}"


def _decode(path: Path, data: Data, line: Line) -> dict[str, Any]:
    try:
        row = _parsed(data[line.begin:line.end])
    except ValueError:
        raise _damaged(path, line.number) from None
    if not isinstance(row, dict):
        raise _damaged(path, line.number)
    return row


def _parsed(data: bytes) -> Any:
    """JSON to the letter, without NaN and infinities."""
    return parse_json(data, strict=True)


def _typed(cls: type[T], path: Path, data: Data, line: Line) -> T:
    row = _decode(path, data, line)
    try:
        record: T = from_row(cls, row)
    except (TypeError, ValueError, KeyError, AttributeError):
        raise _damaged(path, line.number) from None
    return record


def _damaged(path: Path, number: int) -> UsageError:
    return UsageError(f"{path}:{number}: this line is damaged", "Copy the complete trace again.")
