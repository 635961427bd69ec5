"""The waist between models and memory: all that attention may see of the past.

A transformer hands every layer's raw queries, keys and values to a `Context` and gets back what to attend with. It
never learns what memory is; memory never learns what a layer is.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from echo_cli.rope import Turn, rotate

Observer = Callable[[int, Tensor, Tensor, Tensor], None]


class Context(Protocol):
    def extend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Raw q, k, v [batch, token, head, dim] of the new tokens in; rotated queries, all keys, all values and an
        additive logit bias (or None), broadcastable to [batch, head, query, key], out."""
        ...


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What one block attends to: the past, rotated and weighted once for all layers and passes, then the block itself.

    `keys` and `values` [layer, batch, token, head, dim] hold `past` remembered tokens and room for the block's own.
    Every pass overwrites that room. Only an `observer` may change the past: it sees a layer's raw tokens before the
    layer attends (memory uses it to choose history by the queries, and to collect the clean pass).
    """

    keys: Tensor | list[Tensor]  # a tensor a layer under gradients
    values: Tensor | list[Tensor]
    past: int
    query_rotation: Tensor  # [token, dim/2]
    key_rotation: Tensor
    bias: Tensor | None = None  # [layer, batch, token]
    observer: Observer | None = None
    turn: Turn = rotate

    def observed_by(self, observer: Observer | None) -> "BlockContext":
        """The same context, over the same tensors, for passes that `observer` watches."""
        return replace(self, observer=observer)

    def extend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        if self.observer is not None:
            self.observer(layer, query, key, value)
        query, key = self.turn(query, self.query_rotation), self.turn(key, self.key_rotation)
        end = self.past + key.shape[1]
        bias = None if self.bias is None else self.bias[layer, :, None, None, :end]
        if torch.is_grad_enabled() and (key.requires_grad or self.keys[layer].requires_grad):
            # Autograd keeps what attention read, so the room for the block must not be overwritten by the next pass.
            return (query, torch.cat((self.keys[layer][:, :self.past], key), 1),
                    torch.cat((self.values[layer][:, :self.past], value), 1), bias)
        keys, values = self.keys[layer], self.values[layer]
        keys[:, self.past:end], values[:, self.past:end] = key, value
        return query, keys[:, :end], values[:, :end], bias

    def replace(self, layer: int, start: int, keys: Tensor, values: Tensor) -> None:
        """Put rotated keys and values in place of a layer's remembered tokens from `start` on."""
        stop = start + keys.shape[1]
        if isinstance(self.keys, list):
            for layers, new in ((self.keys, keys), (self.values, values)):
                layers[layer] = torch.cat((layers[layer][:, :start], new, layers[layer][:, stop:]), 1)
        else:
            self.keys[layer][:, start:stop], self.values[layer][:, start:stop] = keys, values
