"""The files of the embedded model `tiny`: inside the package or in a folder of the same kind, checked by hash; no
torch.

Three parts (transformer, words, codec), perhaps memory queries, and an index with their hashes and how they were
trained.
"""

from pathlib import Path
from typing import Any

from echo_cli.errors import MissingError
from echo_cli.files import read_json, sha256, why_unreadable
from echo_cli.spec import INDEX

WEIGHTS = Path(__file__).parent / "weights"
PARTS = ("transformer", "words", "codec")
EXTRAS = ("queries",)  # named by the index if they exist
_REMEDY = "Install the package again, or train the model with `echo-cli train`."


def part_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def check(folder: Path = WEIGHTS) -> str:
    """The hash of all weights together, after checking every part against the index."""
    record = index(folder)["sha256"]
    parts = (*PARTS, *(part for part in EXTRAS if part in record))
    for part in parts:
        path = part_path(folder, part)
        if not path.is_file():
            raise MissingError(f"{path}: a part of model 'tiny' is missing", hint=_REMEDY)
        if sha256(path) != record.get(part):
            raise MissingError(f"{path}: not the weights that {INDEX} names; the file is damaged or was replaced",
                               hint=_REMEDY)
    return sha256(*(part_path(folder, part) for part in parts))


def index(folder: Path = WEIGHTS) -> dict[str, Any]:
    """The index: `sha256` of each part, and how the weights were made."""
    path = folder / INDEX
    if not path.is_file():
        raise MissingError(f"{path}: model 'tiny' has no weights here", hint=_REMEDY)
    try:
        record = read_json(path)
        record["sha256"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MissingError(
            f"{path}: the index of model 'tiny' is damaged: {why_unreadable(error)}", hint="Install the package again."
        ) from error
    return record
