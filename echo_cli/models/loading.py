"""How weights find their names: strict, with a list a person can read when they do not.

Builds on `meta`, so that a model costs no memory before its weights arrive. Knows nothing of where models live on disk.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError
from echo_cli.models.spec import ModelSpec
from echo_cli.models.transformer import Transformer


def check_names(module: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Raise a MissingError that lists every name missing, unexpected or of another shape."""
    wanted = module.state_dict()
    lines = [f"missing: {name} {tuple(wanted[name].shape)}" for name in wanted if name not in weights]
    lines += [f"unexpected: {name} {tuple(weights[name].shape)}" for name in weights if name not in wanted]
    lines += [f"another shape: {name} is {tuple(weights[name].shape)}, not {tuple(wanted[name].shape)}"
              for name in wanted if name in weights and weights[name].shape != wanted[name].shape]
    if lines:
        shown = lines[:20] + ([f"… and {len(lines) - 20} more"] if len(lines) > 20 else [])
        raise MissingError(f"{where}: these weights do not fit the model ({len(lines)} of {len(wanted)} names):\n  "
                           + "\n  ".join(shown),
                           hint="Check that the file belongs to this model and is whole.")


def fill(module: nn.Module, weights: Mapping[str, Tensor], where: str,
         device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> nn.Module:
    """Give a module built on `meta` its weights; the module comes back frozen and in evaluation mode."""
    check_names(module, weights, where)
    module.load_state_dict({name: tensor.to(device, dtype) for name, tensor in weights.items()}, strict=True, assign=True)
    return module.requires_grad_(False).eval()


def load_transformer(spec: ModelSpec, weights: Mapping[str, Tensor], where: str = "weights",
                     device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Transformer:
    with torch.device("meta"):
        transformer = Transformer(spec)
    return fill(transformer, weights, where, device, dtype)


def random_transformer(spec: ModelSpec, seed: int, device: torch.device | str = "cpu",
                       dtype: torch.dtype = torch.float32) -> Transformer:
    """Random weights of a trained network's magnitude: for measuring speed and for tests, never for films."""
    with torch.device("meta"):
        transformer = Transformer(spec)
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, empty in transformer.state_dict().items():
        if name.endswith("norm_q.weight") or name.endswith("norm_k.weight") or name.endswith("norm3.weight"):
            weights[name] = torch.ones(empty.shape, dtype=dtype, device=device)
        else:
            fan = empty[0].numel() if empty.dim() > 1 else empty.numel()
            scale = empty.shape[-1] ** -0.5 if name.endswith("modulation") else fan**-0.5
            weights[name] = (torch.randn(empty.shape, generator=generator) * scale).to(device, dtype)
    return fill(transformer, weights, "random weights", device, dtype)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file, or a MissingError that says why not."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingError(f"{path}: no such weights file", hint="echo-cli doctor says which weights are here.")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise MissingError(f"{path}: the weights file is damaged ({error})",
                           hint="Fetch or convert it again.") from error
