"""The embedded model `tiny`: its weights as modules, and how training puts them into a folder.

Which files those are, and whether they are complete, is the business of `parts`. Knows nothing of training itself.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from echo_cli.files import partial, publish, sha256, write_whole
from echo_cli.models.backend import Backend
from echo_cli.models.files.loading import fill, read_safetensors
from echo_cli.models.queries.files import QUERIES, made_for
from echo_cli.models.queries.weights import load_queries
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.parts import EXTRAS, PARTS, WEIGHTS, check, index, part_path
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.models.transformer import Transformer
from echo_cli.runtime import Runtime
from echo_cli.spec import INDEX, TINY


def load(runtime: Runtime, folder: Path = WEIGHTS) -> Backend:
    """The model in `folder`; an error if it is not complete."""
    digest = check(folder)
    with torch.device("meta"):
        transformer, words, codec = Transformer(TINY), WordTextEncoder(TINY.text_dim), TinyCodec(TINY.channels)
    for part, module in zip(PARTS, (transformer, words, codec), strict=True):
        path, device = part_path(folder, part), runtime.decoding if module is codec else runtime.device
        fill(module, read_safetensors(path), str(path), device, runtime.dtype)
    # as convolutions read them: otherwise each frame would rearrange the weights
    codec.decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    queries = load_queries(folder, TINY, runtime.device) if QUERIES in index(folder)["sha256"] else None
    return Backend(TINY, transformer, words, codec, digest, queries)


def load_codec(path: Path, device: torch.device | str = "cpu") -> TinyCodec:
    """The codec alone, in float32: the other parts are trained through it."""
    with torch.device("meta"):
        codec = TinyCodec(TINY.channels)
    return fill(codec, read_safetensors(path), str(path), device)


def save_part(
    folder: Path, part: str, module: nn.Module, facts: dict[str, Any], dtype: torch.dtype = torch.float16
) -> None:
    """One part's weights, in half the precision that they were trained in, and how they were made."""
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    path = part_path(folder, part)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in module.state_dict().items()}
    partial(path).write_bytes(save(weights, {"part": part, "facts": json.dumps(facts)}))
    publish(path)


def save_index(folder: Path, facts: dict[str, Any]) -> None:
    """Written last: it makes the folder a model. Extras that were made for other weights are left out."""
    hashes = {part: sha256(part_path(folder, part)) for part in PARTS}
    hashes |= {part: sha256(part_path(folder, part)) for part in EXTRAS
               if made_for(part_path(folder, part)) == hashes["transformer"]}
    write_whole(
        folder / INDEX, json.dumps({"model": TINY.name, "sha256": hashes, **facts}, indent=2, ensure_ascii=False) + "\n"
    )


def save_measured(folder: Path, figures: dict[str, Any]) -> None:
    """The judges' figures, in the index of the weights that they judged."""
    facts = {name: value for name, value in index(folder).items() if name not in ("model", "sha256")}
    save_index(folder, {**facts, "measured": figures})
