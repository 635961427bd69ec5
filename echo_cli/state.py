"""What the rest of a run depends on, as one nest of plain values and tensors, which can be taken apart for a file.

Objects with such state (a store, a policy, a codec's decoder) return it from `state()` and take it back in
`restore()`; a decoder's state is itself such a nest. Nothing here knows whose state it is, or what the file looks like.
"""

from typing import Any

import torch
from torch import Tensor

# None, bool, int, float, str, Tensor, a list or tuple of nests, a dict from str to nests; tuples come back as lists
Nest = Any

MARK = "$tensor"  # the key that stands for a tensor, with its name as the value


def pack(nest: Nest) -> tuple[dict[str, Tensor], Any]:
    """The nest's tensors by name (the path to them), and JSON values with each tensor's name in its place."""
    tensors: dict[str, Tensor] = {}

    def plain(part: Nest, path: str) -> Any:
        if isinstance(part, Tensor):
            tensors[path] = part
            return {MARK: path}
        if isinstance(part, dict):
            if wrong := [key for key in part if not isinstance(key, str) or key == MARK or "." in key]:
                raise ValueError(f"a nest of state cannot have the key {wrong[0]!r} at '{path}'")
            return {key: plain(value, f"{path}.{key}" if path else key) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return [plain(value, f"{path}.{place}" if path else str(place)) for place, value in enumerate(part)]
        if part is None or isinstance(part, bool | int | float | str):
            return part
        raise ValueError(f"state is plain values and tensors, not {type(part).__name__} at '{path}'")

    return tensors, plain(nest, "")


def unpack(tensors: dict[str, Tensor], plain: Any) -> Nest:
    """The nest, put together again."""
    if isinstance(plain, dict):
        return tensors[plain[MARK]] if MARK in plain else {key: unpack(tensors, value) for key, value in plain.items()}
    return [unpack(tensors, value) for value in plain] if isinstance(plain, list) else plain


def moved(nest: Nest, device: torch.device) -> Nest:
    """The same nest with its tensors on a device."""
    tensors, plain = pack(nest)
    return unpack({name: tensor.to(device) for name, tensor in tensors.items()}, plain)


def copied(nest: Nest) -> Nest:
    """The same nest on the host, its tensors copied, so that it does not change while their owners continue."""
    tensors, plain = pack(nest)
    return unpack({name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}, plain)


def size_of(nest: Nest) -> int:
    """Bytes of the nest's tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in pack(nest)[0].values())
