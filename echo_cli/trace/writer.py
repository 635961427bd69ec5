"""Writes a trace as the run goes: one valid JSON object when complete, one record a line so that a cut one is readable.

    {"format":"echo-trace","version":1,"header":{…},"records":[
    {"kind":"scene",…},
    {"kind":"block",…}
    ],"totals":{…}}

Each line reaches the system as soon as it is complete, so a killed run leaves everything but its last block or two in
`OUT.trace.json.partial`; `finish` adds the totals and gives the file its name. A block whose device values have not
arrived yet holds back the lines after it, so the order of the file is the order of the run. A run that is
resumed continues the same file from where `written` says. What the values mean is not known here.
"""

import hashlib
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Self

from echo_cli.errors import Damaged
from echo_cli.files import flush, output_errors, partial, publish
from echo_cli.trace.records import (
    FORMAT,
    VERSION,
    BlockRecord,
    Header,
    Measured,
    RecallFrameRecord,
    Record,
    SceneRecord,
    Times,
    Totals,
)
from echo_cli.trace.rows import dump, to_line, to_row


@dataclass(frozen=True, slots=True)
class Written:
    """How far a trace has got, and its counts so far."""

    bytes: int
    sha256: str  # of these bytes
    blocks: int = 0
    scenes: int = 0
    peak_tokens: int = 0
    peak_bytes: int = 0
    times: Times = Times(0.0, 0.0, 0.0, 0.0)


class Trace:
    """Receives what a run does, block by block. This one, for a film without a trace, writes nothing."""

    def scene(self, record: SceneRecord) -> None:
        """A scene opens: call it before its first block."""

    def recall_frame(self, record: RecallFrameRecord) -> None:
        """A scene closed: how it will be remembered."""

    def block(self, record: BlockRecord) -> None:
        """A block was rendered. Its line waits for `measure` unless the record has its measured part already."""

    def measure(self, block: int, measured: Measured) -> None:
        """The device values of an earlier block have arrived."""

    def written(self) -> Written | None:
        """Where the file stands; every block must have been measured. Flush the file before you rely on it."""
        return None

    def flush(self) -> None:
        """All that is written is on the disk."""

    def finish(self, wall_seconds: float) -> Totals | None:
        """Every block is in and measured."""
        return None

    def publish(self) -> None:
        """Give the file its final name."""

    def close(self) -> None:
        """The run ends before the film does: write what is still waiting, and keep the `.partial` file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()


class TraceWriter(Trace):
    """Owns the `.partial` file from its creation to `publish` (or `close`, which leaves it as it is). With `written`
    it continues the existing file, or raises Damaged if that is not the file that was written."""

    def __init__(self, path: Path, header: Header, written: Written | None = None) -> None:
        self.path = path
        self._film_pictures = header.film.pictures
        self._waiting: deque[Record] = deque()
        counted = written or Written(0, "")
        self._blocks, self._scenes = counted.blocks, counted.scenes
        self._peak_tokens, self._peak_bytes, self._times = counted.peak_tokens, counted.peak_bytes, counted.times
        self._comma = "," if self._blocks else ""
        self._hash = hashlib.sha256()
        with output_errors(path):
            if written:
                self._file = _reopened(partial(path), written, self._hash)
                return
            self._file = partial(path).open("wb")
            self._put(f'{{"format":"{FORMAT}","version":{VERSION},"header":{dump(to_row(header))},"records":[')
            self._file.flush()

    def scene(self, record: SceneRecord) -> None:
        self._scenes += 1
        self._add(record)

    def recall_frame(self, record: RecallFrameRecord) -> None:
        self._add(record)

    def block(self, record: BlockRecord) -> None:
        self._blocks += 1
        self._peak_tokens = max(self._peak_tokens, record.layout.tokens)
        self._peak_bytes = max(self._peak_bytes, sum(record.bytes.values()))
        if record.measured:
            self._count(record, record.measured)
        self._add(record)

    def measure(self, block: int, measured: Measured) -> None:
        for slot, record in enumerate(self._waiting):
            if isinstance(record, BlockRecord) and record.block == block and record.measured is None:
                self._count(record, measured)
                self._waiting[slot] = replace(record, measured=measured)
                return self._write_complete()
        raise ValueError(f"block {block} is not waiting to be measured")

    def written(self) -> Written:
        if self._waiting:
            raise ValueError(f"the trace cannot be marked here: still unmeasured is {self._waiting[0]}")
        with output_errors(self.path):
            self._file.flush()
            return Written(self._file.tell(), self._hash.hexdigest(), self._blocks, self._scenes, self._peak_tokens,
                           self._peak_bytes, self._times)

    def flush(self) -> None:
        with output_errors(self.path):
            flush(partial(self.path))

    def finish(self, wall_seconds: float) -> Totals:
        """Every block is in and measured: add the totals. The trace is complete, but has no final name yet."""
        if self._waiting:
            raise ValueError(f"the trace cannot end: still unmeasured is {self._waiting[0]}")
        totals = Totals(self._blocks, self._scenes, self._film_pictures, wall_seconds, self._peak_tokens,
                        self._peak_bytes, self._times)
        with output_errors(self.path):
            self._put(f'\n],"totals":{dump(to_row(totals))}}}\n')
            self._file.close()
        return totals

    def publish(self) -> None:
        publish(self.path)

    def close(self) -> None:
        if self._file.closed:
            return
        with output_errors(self.path):
            while self._waiting:
                self._write(self._waiting.popleft())
            self._file.close()

    def _count(self, record: BlockRecord, measured: Measured) -> None:
        segments = len(record.layout.segments)
        if len(measured.weights) != segments:
            raise ValueError(f"block {record.block} has {segments} segments, but {len(measured.weights)} weights")
        self._times = Times(*map(sum, zip(self._times, measured.times, strict=True)))

    def _add(self, record: Record) -> None:
        self._waiting.append(record)
        self._write_complete()

    def _write_complete(self) -> None:
        with output_errors(self.path):
            while self._waiting and not _unmeasured(self._waiting[0]):
                self._write(self._waiting.popleft())
            self._file.flush()

    def _write(self, record: Record) -> None:
        # the comma comes before a record, not after it: a file that is cut anywhere ends with a complete line
        self._put(f"{self._comma}\n{to_line(record)}")
        self._comma = ","

    def _put(self, text: str) -> None:
        data = text.encode()
        self._hash.update(data)
        self._file.write(data)


def _unmeasured(record: Record) -> bool:
    return isinstance(record, BlockRecord) and record.measured is None


def _reopened(path: Path, written: Written, digest: "hashlib._Hash") -> BinaryIO:
    """The file, cut back to what was written; Damaged if the content is different."""
    try:
        file = path.open("r+b")
    except FileNotFoundError:
        raise Damaged(f"{path} is gone") from None
    left = written.bytes
    while left and (chunk := file.read(min(left, 1 << 20))):
        digest.update(chunk)
        left -= len(chunk)
    if digest.hexdigest() != written.sha256:
        file.close()
        raise Damaged(f"{path} is not what was written")
    file.truncate(written.bytes)
    file.seek(written.bytes)
    return file
