"""Memory queries on disk: `queries.safetensors` beside the transformer that they were trained with, in any model's
folder.

The file also says how they were trained; nothing here interprets that.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from echo_cli.errors import MissingError
from echo_cli.files import partial, publish
from echo_cli.models.files.loading import fill, read_safetensors
from echo_cli.models.queries.files import QUERIES, queries_path
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.spec import ModelSpec


def save_queries(folder: Path, queries: MemoryQueries, transformer: str, facts: dict[str, Any],
                 dtype: torch.dtype = torch.float16) -> None:
    """`transformer` is the hash of the transformer's file."""
    path = queries_path(folder)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in queries.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    partial(path).write_bytes(save(weights, {"part": QUERIES, "transformer": transformer, "facts": json.dumps(facts)}))
    publish(path)


def load_queries(folder: Path, spec: ModelSpec, device: torch.device | str = "cpu") -> MemoryQueries:
    """As many query frames as were trained, in float32 whatever the model computes in."""
    path = queries_path(folder)
    weights = read_safetensors(path)
    if "keys" not in weights or weights["keys"].dim() != 4:
        raise MissingError(
            f"{path}: not a file of memory queries", hint="Train them: echo-cli train --memory echo-infinity."
        )
    queries = MemoryQueries(spec, weights["keys"].shape[1])
    fill(queries, weights, str(path), device)
    return queries
