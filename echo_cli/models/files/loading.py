"""How weights get into a module: strictly by name, with a readable list of what does not fit.

Builds on `meta`, so that a model costs no memory before its weights arrive. Knows nothing of where models live on disk.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError
from echo_cli.models.files.tensors import Given, Numbers, Tensors, check, shapes
from echo_cli.models.transformer import Transformer
from echo_cli.spec import ModelSpec

Module = TypeVar("Module", bound=nn.Module)


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def fill(module: Module, weights: Mapping[str, Tensor], where: str,
         device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Module:
    """Give a module built on `meta` its weights; the module comes back frozen and in evaluation mode."""
    check(shapes_of(module), {name: tuple(tensor.shape) for name, tensor in weights.items()}, where)
    module.load_state_dict(
        {name: tensor.to(device, dtype) for name, tensor in weights.items()}, strict=True, assign=True
    )
    return module.requires_grad_(False).eval()


def stream_into(
    module: Module, weights: Tensors, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Module:
    """`fill`, one tensor at a time: the weights are never in memory twice."""
    check(shapes_of(module), shapes(weights), weights.where)
    weights = Numbers(weights)
    for name in weights.names():
        path, _, leaf = name.rpartition(".")
        owner, tensor = module.get_submodule(path), weights.read(name).detach().to(device, dtype)
        setattr(owner, leaf, tensor if leaf in owner._buffers else nn.Parameter(tensor, requires_grad=False))
    return module.requires_grad_(False).eval()


def load_transformer(spec: ModelSpec, weights: Mapping[str, Tensor], where: str = "weights",
                     device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Transformer:
    with torch.device("meta"):
        transformer = Transformer(spec)
    return fill(transformer, weights, where, device, dtype)


def random_transformer(spec: ModelSpec, seed: int, device: torch.device | str = "cpu",
                       dtype: torch.dtype = torch.float32, drawn_on: torch.device | str = "cpu") -> Transformer:
    """Random weights of a trained network's magnitude: for measuring speed and for tests, never for films. Drawing them
    on a GPU is much faster, but gives other values than on a CPU."""
    with torch.device("meta"):
        transformer = Transformer(spec)
    generator = torch.Generator(drawn_on).manual_seed(seed)
    weights = {}
    for name, empty in transformer.state_dict().items():
        if name.endswith("norm_q.weight") or name.endswith("norm_k.weight") or name.endswith("norm3.weight"):
            weights[name] = torch.ones(empty.shape, dtype=dtype, device=device)
        else:
            fan = empty[0].numel() if empty.dim() > 1 else empty.numel()
            scale = empty.shape[-1] ** -0.5 if name.endswith("modulation") else fan**-0.5
            weights[name] = (torch.randn(empty.shape, generator=generator, device=drawn_on) * scale).to(device, dtype)
    return fill(transformer, weights, "random weights", device, dtype)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """All tensors of one file, floating-point and finite, or a MissingError that says why not."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise MissingError(f"{path}: no such weights file", hint="Run `echo-cli doctor` to see which weights are here.")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise MissingError(f"{path}: the weights file is damaged or cut short",
                           hint="Download or convert it again.") from error
    numbers = Numbers(Given(weights, str(path)))
    return {name: numbers.read(name) for name in numbers.names()}
