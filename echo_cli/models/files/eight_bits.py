"""Which layers of a model may attend in eight bits: what `bench fast --keep` measured, in a file beside the weights.

No torch: the layers are part of a film's identity, which is known before a model is loaded.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from echo_cli.errors import MissingError
from echo_cli.files import read_json, why_unreadable, write_whole
from echo_cli.text import plural

FILE, FAST, FORMAT = "eight_bits.json", "bench fast", 1
LIMIT = 0.05  # how far a layer's attention may be from exact attention, as a share of its length


@dataclass(frozen=True, slots=True)
class EightBits:
    """How far eight bits move the attention of each layer of the model with these `weights`, and where that was
    measured."""

    weights: str
    distances: tuple[float, ...]
    device: str

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are near enough."""
        return tuple(layer for layer, distance in enumerate(self.distances) if distance <= LIMIT)


def measured(folder: Path | None, depth: int, weights: str | None = None) -> EightBits | None:
    """What was measured in this folder, of a model of `depth` layers, for these weights if they are given; None if
    nothing was."""
    path = None if folder is None else folder / FILE
    if path is None or not path.is_file():
        return None
    try:
        read = read_json(path)
        if read["format"] != FORMAT:
            raise ValueError(f"its format is {read['format']}, not {FORMAT}")
        result = EightBits(str(read["weights"]), tuple(map(float, read["distances"])), str(read["device"]))
        if weights not in (None, result.weights):
            return None
        if len(result.distances) != depth:
            raise ValueError(f"it has {plural(len(result.distances), 'layer')}, the model has {depth}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingError(f"{path}: not what `bench fast --keep` writes ({why_unreadable(error)})",
                           hint="Delete it, or measure again: echo-cli bench fast --model FOLDER/ --keep.") from error
    return result


def keep(folder: Path, result: EightBits) -> Path:
    """Write the file; the layers of films with --fast follow from it."""
    write_whole(folder / FILE, json.dumps({"kind": FAST, "format": FORMAT, **asdict(result)}) + "\n")
    return folder / FILE
