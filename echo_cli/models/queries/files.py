"""Where a model's memory queries are, and which transformer they belong to; no torch.

A file of queries names the hash of the transformer that they were trained with. With any other weights they would be
meaningless, so they are ignored there.
"""

import struct
from pathlib import Path

from echo_cli.files import open_regular, parse_json

QUERIES = "queries"
_HEAD = 1 << 20  # bytes, the most that the header of such a file has


def queries_path(folder: Path) -> Path:
    return folder / f"{QUERIES}.safetensors"


def made_for(path: Path) -> str | None:
    """The hash of the transformer that a file's queries belong to; None if there is no such file, or it cannot be
    read."""
    try:
        with open_regular(path) as file:
            length, = struct.unpack("<Q", file.read(8))
            header = parse_json(file.read(min(length, _HEAD)))
        transformer = header["__metadata__"]["transformer"]
    except (OSError, ValueError, KeyError, TypeError, struct.error):
        return None
    return transformer if isinstance(transformer, str) else None
