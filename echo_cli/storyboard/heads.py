"""The head of a safetensors file that nobody vouches for: what is read from it is believed only if it fits.

Knows kinds of files, names, dtypes, shapes and offsets, not what they mean. No torch.
"""

import hashlib
import math
import os
import struct
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

from echo_cli.errors import UsageError
from echo_cli.files import open_regular, parse_json

MOST_HEAD = 1 << 24  # bytes
DTYPES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}

T = TypeVar("T")


class Lying(NamedTuple):
    """Where a tensor lies in a file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


class Head(NamedTuple):
    """What stands before the tensors: their table, plain values beside it, and where they start in `size` bytes."""

    table: Mapping[str, Any]
    metadata: Mapping[str, Any]
    start: int
    size: int
    digest: bytes  # of all bytes before the tensors


@dataclass(frozen=True, slots=True)
class FileKind:
    """A kind of file, by the format and version in its head; `noun` and the remedies are for messages."""

    format: str
    version: int
    noun: str
    absent: str  # what to do if there is none,
    again: str  # if it is damaged,
    update: str  # or if it is of another version

    def damaged(self, path: Path, why: str) -> UsageError:
        return UsageError(f"{path}: is no {self.noun}, or is damaged: {why}", self.again)

    def read(self, path: Path, build: Callable[[BinaryIO, Head], T]) -> T:
        """What `build` makes of an open file and its head; a UsageError says what is wrong with it."""
        try:
            with open_regular(path) as file:
                return build(file, self._head(path, file))
        except FileNotFoundError:
            raise UsageError(f"{path}: there is no such {self.noun}", self.absent) from None
        except OSError as error:
            raise UsageError(f"{path}: cannot be read: {error.strerror}",
                             "Check the path and its permissions.") from None
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError, RecursionError) as error:
            raise self.damaged(path, f"it lacks {error}" if isinstance(error, KeyError) else str(error)) from None

    def _head(self, path: Path, file: BinaryIO) -> Head:
        head = _read_head(file)
        form, version = head.metadata["format"], head.metadata["version"]
        if form != self.format:
            raise ValueError(f"its format is {form!r:.40}")
        if version != str(self.version):
            raise UsageError(f"{path}: this {self.noun} has version {version!r:.20}, and this echo reads "
                             f"{self.version}", self.update)
        return head


def _read_head(file: BinaryIO) -> Head:
    """The head of an open file; a ValueError if there is none, or if most of the file is a hole."""
    size = file.seek(0, 2)
    file.seek(0)
    blocks = getattr(os.fstat(file.fileno()), "st_blocks", None)
    if blocks is not None and size > 2 * 512 * blocks + MOST_HEAD:  # nothing that is remembered is mostly zeros
        raise ValueError("most of it is empty")
    start = file.read(8)
    length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= length <= min(MOST_HEAD, size - 8):
        raise ValueError("it does not begin as safetensors do")
    text = file.read(length)
    head = parse_json(text, strict=True)
    table = {name: value for name, value in head.items() if name != "__metadata__"}
    return Head(table, head["__metadata__"], 8 + length, size, hashlib.sha256(start + text).digest())


def lying(head: Head, name: str, dtypes: Collection[str], shape: tuple[int, ...] | None = None) -> Lying:
    """Where a tensor lies, whose shape is known (None: any); a ValueError if it is another or cannot lie there."""
    row = head.table[name]
    dtype, (begin, end) = row["dtype"], row["data_offsets"]
    if dtype not in dtypes or len(row) != 3 or (shape is not None and row["shape"] != list(shape)):
        wanted = f", not {list(shape)}" if shape is not None else ""
        raise ValueError(f"tensor {name} is {dtype!r:.20} {row['shape']!r:.60}{wanted}")
    if not all(map(whole, (begin, end, *row["shape"]))) or end - begin != math.prod(row["shape"]) * DTYPES[dtype]:
        raise ValueError(f"tensor {name} lies where it cannot")
    return Lying(dtype, tuple(row["shape"]), head.start + begin, head.start + end)


def check_filled(head: Head, tensors: Collection[Lying]) -> None:
    """A ValueError if tensors do not lie side by side and together fill the file."""
    at = head.start
    for each in sorted(tensors, key=lambda each: (each.begin, each.end)):
        if each.begin != at:
            raise ValueError("its tensors overlap, or leave gaps")
        at = each.end
    if at != head.size:
        raise ValueError(f"it has {head.size} bytes, not {at}")


def whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
