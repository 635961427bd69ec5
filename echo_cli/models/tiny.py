"""The embedded model `tiny`: its weights inside the package, checked by hash, and how training puts them there.

Three parts (transformer, words, codec) and an index that names their hashes and tells how they were trained. Knows
nothing of training itself.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echo_cli.errors import MissingError
from echo_cli.files import partial, publish, sha256, write_whole
from echo_cli.models.backend import Backend
from echo_cli.models.loading import fill, read_safetensors
from echo_cli.models.spec import INDEX, TINY
from echo_cli.models.tiny_codec import TinyCodec
from echo_cli.models.transformer import Transformer
from echo_cli.models.words import WordTextEncoder
from echo_cli.runtime import Runtime

WEIGHTS = Path(__file__).parent / "weights" / "tiny"
PARTS = ("transformer", "words", "codec")
_REMEDY = "Install the package again, or train it: echo-cli train."


def part_path(folder: Path, part: str) -> Path:
    return folder / f"{part}.safetensors"


def empty_parts() -> dict[str, nn.Module]:
    """The three modules on `meta`, waiting for weights."""
    with torch.device("meta"):
        return {"transformer": Transformer(TINY), "words": WordTextEncoder(TINY.text_dim), "codec": TinyCodec(TINY.channels)}


def load(runtime: Runtime, folder: Path = WEIGHTS) -> Backend:
    """The model in `folder`, whole or not at all."""
    digest = check(folder)
    parts = {}
    for part, module in empty_parts().items():
        path = part_path(folder, part)
        parts[part] = fill(module, read_safetensors(path), str(path), runtime.device, runtime.dtype)
    return Backend(TINY, parts["transformer"], parts["words"], parts["codec"], digest)


def load_codec(path: Path, device: torch.device | str = "cpu") -> TinyCodec:
    """The codec alone, in float32: what the other parts are trained through."""
    return fill(empty_parts()["codec"], read_safetensors(path), str(path), device)


def check(folder: Path = WEIGHTS) -> str:
    """The hash of all weights together, after every part was found to be the one the index names."""
    told = index(folder)["sha256"]
    for part in PARTS:
        path = part_path(folder, part)
        if not path.is_file():
            raise MissingError(f"{path}: a part of model 'tiny' is missing", hint=_REMEDY)
        if sha256(path) != told.get(part):
            raise MissingError(f"{path}: not the weights that {INDEX} names; the file is damaged or was exchanged",
                               hint=_REMEDY)
    return sha256(*(part_path(folder, part) for part in PARTS))


def index(folder: Path = WEIGHTS) -> dict[str, Any]:
    """What the index tells: `sha256` of each part, and how the weights came to be."""
    path = folder / INDEX
    if not path.is_file():
        raise MissingError(f"{path}: model 'tiny' has no weights here", hint=_REMEDY)
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        told["sha256"].items()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MissingError(f"{path}: the index of model 'tiny' is damaged ({error})", hint="Install the package again.") from error
    return told


def save_part(folder: Path, part: str, module: nn.Module, facts: dict[str, Any], dtype: torch.dtype = torch.float16) -> None:
    """One part's weights, half as wide as they were trained, and how they came to be."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    path = part_path(folder, part)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in module.state_dict().items()}
    partial(path).write_bytes(save(weights, {"part": part, "facts": json.dumps(facts)}))
    publish(path)


def save_index(folder: Path, facts: dict[str, Any]) -> None:
    """Written last: from here on the folder is a model."""
    hashes = {part: sha256(part_path(folder, part)) for part in PARTS}
    write_whole(folder / INDEX, json.dumps({"model": TINY.name, "sha256": hashes, **facts}, indent=2, ensure_ascii=False) + "\n")


def save_measured(folder: Path, figures: dict[str, Any]) -> None:
    """What the judges found, told by the index of the weights they judged."""
    facts = {name: value for name, value in index(folder).items() if name not in ("model", "sha256")}
    save_index(folder, {**facts, "measured": figures})
