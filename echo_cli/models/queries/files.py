"""Where a model's memory queries lie, and which transformer they belong to; no torch.

A file of queries tells the hash of the transformer that they were trained with: beside other weights they would answer
in a language nobody speaks, so they are left alone there.
"""

import struct
from pathlib import Path

from echo_cli.files import open_regular, parse_json

QUERIES = "queries"
_HEAD = 1 << 20  # bytes that the head of such a file has at most


def queries_path(folder: Path) -> Path:
    return folder / f"{QUERIES}.safetensors"


def made_for(path: Path) -> str | None:
    """The hash of the transformer that a file's queries belong to; None when there is no such file, or none that can be
    read."""
    try:
        with open_regular(path) as file:
            length, = struct.unpack("<Q", file.read(8))
            told = parse_json(file.read(min(length, _HEAD)))
        found = told["__metadata__"]["transformer"]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return found if isinstance(found, str) else None
