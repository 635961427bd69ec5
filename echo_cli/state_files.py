"""State in a file: a nest's tensors as safetensors, written and hashed one tensor at a time, and the rest for JSON.

A memory of a real model is gigabytes, so nothing here holds it twice. Whose state it is, when it is written and which
of several files is the latest is not known here.
"""

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from echo_cli.errors import Damaged
from echo_cli.files import flush, output_errors, why_unreadable
from echo_cli.state import Nest, pack, unpack

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
          torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL"}

SEAL = hashlib.sha256().digest_size  # bytes


@dataclass(frozen=True, slots=True)
class Stored:
    """A state in a file: the file's size and hash, and the nest with names in place of tensors."""

    bytes: int
    sha256: str
    nest: Any


def write_state(path: Path, nest: Nest) -> Stored:
    """All of it is on the disk when this returns. The file must be new; it counts once the JSON names it."""
    tensors, plain = pack(nest)
    # by element size, so that every tensor is aligned
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    table = [(name, tensors[name].dtype, tuple(tensors[name].shape)) for name in order]
    written, digest = write_tensors(path, table, (tensors[name] for name in order))
    return Stored(written, digest, plain)


def write_tensors(path: Path, table: Sequence[tuple[str, torch.dtype, tuple[int, ...]]], tensors: Iterable[Tensor],
                  metadata: Mapping[str, str] = MappingProxyType({}), seals: str | None = None) -> tuple[int, str]:
    """A safetensors file of the tensors that `table` lists, in its order, one at a time; its bytes and sha256. It is on
    the disk when this returns. `seals` names one more tensor at its end: the sha256 of its head, and of each tensor."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    sealing = [(seals, torch.uint8, (1 + len(table), SEAL))] if seals else []
    for name, dtype, shape in (*table, *sealing):
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": DTYPES[dtype], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    parts: Iterator[bytes | memoryview] = chain((struct.pack("<Q", len(head)) + head,), map(bytes_of_tensor, tensors))
    digest, size, sealed = hashlib.sha256(), 0, []
    with output_errors(path):
        try:
            with path.open("wb") as file:
                for part in parts:
                    digest.update(part)
                    size += file.write(part)
                    if seals:
                        sealed.append(hashlib.sha256(part).digest())
                digest.update(last := b"".join(sealed))
                size += file.write(last)
            flush(path)
        except OSError:
            path.unlink(missing_ok=True)
            raise
    return size, digest.hexdigest()


def read_state(path: Path, stored: Stored) -> Nest:
    """The nest, its tensors on the host; Damaged if the file is not the one that was written."""
    digest = hashlib.sha256()
    try:
        if path.stat().st_size != stored.bytes:
            raise Damaged(f"{path} has {path.stat().st_size} bytes, not {stored.bytes}")
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        if digest.hexdigest() != stored.sha256:
            raise Damaged(f"{path} is not what was written: its hash differs")
        tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
        return unpack(tensors, stored.nest)
    except FileNotFoundError:
        raise Damaged(f"{path} is gone") from None
    except (OSError, SafetensorError, KeyError) as error:
        raise Damaged(f"{path} cannot be read: {why_unreadable(error)}") from error


def bytes_of_tensor(tensor: Tensor) -> memoryview:
    return tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().data
