"""The interface between models and memory: all that attention may see of the past.

A transformer hands every layer's raw queries, keys and values to a `Context` and gets back what to attend with. It
never learns what memory is; memory never learns what a layer is.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from echo_cli.eight import Codes, EightBitWindow
from echo_cli.rope import Turn, rotate

Observer = Callable[[int, Tensor, Tensor, Tensor], None]
Exact = tuple[Tensor, Tensor, Tensor, Tensor | None]  # rotated queries, keys, values, and a bias or None
Seen = Exact | tuple[Tensor, Tensor, Tensor, Tensor | None, Codes]  # and their codes, in a layer of eight bits
Pool = tuple[Tensor, Tensor, Tensor]  # keys and values of slots [batch, slot, token, head, dim], and a block's slots


class Watch(ABC):
    """An observer that launches the same work at the same addresses in every pass, so that passes which it watches can
    be recorded. While a pass runs it changes nothing on the host: a recorded pass does not call it."""

    @property
    def recordable(self) -> bool:
        """Whether it does so for this block."""
        return True

    @property
    @abstractmethod
    def fixed(self) -> tuple[object, ...]:
        """All that the recorded work depends on beside the contents of tensors."""

    def pool(self, layer: int) -> Pool | None:
        """Where a layer's raw keys and values are to be written, if anywhere."""
        return None

    @abstractmethod
    def ask(self, layer: int, query: Tensor) -> None:
        """A layer's raw queries [batch, token, head, dim], before it attends."""

    @abstractmethod
    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        """The same, where keys and values have not been written to the pool."""


def mark(*tensors: Tensor) -> tuple[object, ...]:
    """Where tensors lie and how: equal for tensors that recorded work may read or write in each other's place."""
    return tuple((tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype) for tensor in tensors)


class Context(Protocol):
    def extend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Seen:
        """Raw q, k, v [batch, token, head, dim] of the new tokens in; rotated queries, all keys, all values and an
        additive logit bias (or None), broadcastable to [batch, head, query, key], out; and, where a layer attends
        in eight bits, the codes of the three."""
        ...


@dataclass(frozen=True, slots=True)
class Placing:
    """Which places of the window the remembered frames and the block's frames have, in their order. `device` holds the
    block's for our kernels, or None if only torch writes. All positions are moved by `shift`."""

    past: tuple[int, ...]
    block: tuple[int, ...]
    shift: int
    frame_tokens: int
    device: Tensor | None = None

    def write(self, window: Tensor, places: Sequence[int], tokens: Tensor) -> None:
        """Write frames' tokens [batch, token, head, dim] to their places in a layer's window."""
        for place, frame in zip(places, tokens.split(self.frame_tokens, 1), strict=True):
            window[:, place * self.frame_tokens:(place + 1) * self.frame_tokens] = frame


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What a block attends to: the past, rotated and weighted once for all layers and passes, and the block itself.

    `keys` and `values` [layer, batch, token, head, dim] hold `past` remembered tokens and space for the block's own.
    Every pass overwrites that space. Only an `observer` may change the past: it sees a layer's raw tokens before the
    layer attends. Memory uses it to choose history by the queries and to collect the clean pass. A pass that is only
    `collecting` ends when the observer has seen the last layer.

    The block comes after the past, unless `placing` assigns each of its frames and of the remembered ones a place in
    the window: attention is indifferent to order, and a frame that keeps its place need not be moved. `eight` holds the
    window of layers that attend in eight bits.
    """

    keys: Tensor | list[Tensor]  # one tensor per layer under gradients
    values: Tensor | list[Tensor]
    past: int
    query_rotation: Tensor  # [token, dim/2]
    key_rotation: Tensor
    bias: Tensor | None = None  # [layer, batch, token]
    observer: Observer | None = None
    turn: Turn = rotate
    placing: Placing | None = None
    collecting: bool = False
    eight: EightBitWindow | None = None

    @property
    def shift(self) -> int:
        """How far this block's positions are shifted from those of its layout."""
        return self.placing.shift if self.placing else 0

    def places_of(self, first: int, frames: int) -> tuple[int, ...]:
        """The places of some remembered frames, counted in window order."""
        return self.placing.past[first:first + frames] if self.placing else tuple(range(first, first + frames))

    @property
    def fixed(self) -> tuple[object, ...] | None:
        """Where a pass reads and writes memory, if the passes of later blocks do so at the same addresses: the window
        is full, no weight is a bias, and an observer does the same in each."""
        if self.placing is None or self.placing.device is None or self.bias is not None:
            return None
        if self.observer is not None and self.watch is None:
            return None
        tokens = (len(self.placing.past) + len(self.placing.block)) * self.placing.frame_tokens
        if isinstance(self.keys, list) or isinstance(self.values, list) or tokens != self.keys.shape[2]:
            return None
        kept = mark(self.keys, self.values, self.query_rotation, self.key_rotation, self.placing.device,
                    *(self.eight.tensors if self.eight else ()))
        return (*kept, *(self.watch.fixed if self.watch else ()), self.collecting)

    @property
    def watch(self) -> Watch | None:
        """The observer, if passes that it watches can be recorded."""
        return self.observer if isinstance(self.observer, Watch) and self.observer.recordable else None

    def observed_by(self, observer: Observer | None, collecting: bool = False) -> "BlockContext":
        """The same context, over the same tensors, for passes that `observer` observes."""
        return replace(self, observer=observer, collecting=collecting)

    def ends(self, layer: int) -> bool:
        """Whether nothing that comes after this layer's queries, keys and values is wanted."""
        return self.collecting and layer + 1 == len(self.keys)

    def extend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Seen:
        if self.observer is not None:
            self.observer(layer, query, key, value)
        query, key = self.turn(query, self.query_rotation), self.turn(key, self.key_rotation)
        end = self.past + key.shape[1]
        bias = None if self.bias is None else self.bias[layer, :, None, None, :end]
        if torch.is_grad_enabled() and (key.requires_grad or self.keys[layer].requires_grad):
            # Autograd keeps what attention read, so the next pass must not overwrite the block's space.
            return (query, torch.cat((self.keys[layer][:, :self.past], key), 1),
                    torch.cat((self.values[layer][:, :self.past], value), 1), bias)
        keys, values = self.keys[layer], self.values[layer]
        if self.placing is None:
            keys[:, self.past:end], values[:, self.past:end] = key, value
        else:
            self.placing.write(keys, self.placing.block, key)
            self.placing.write(values, self.placing.block, value)
        if self.eight is None or layer not in self.eight:
            return query, keys[:, :end], values[:, :end], bias
        self.quantise(self.placing.block if self.placing else self.eight.places(self.past, end), layer)
        return query, keys[:, :end], values[:, :end], bias, self.eight.seen(layer, query, end)

    def quantise(self, places: Sequence[int] | Tensor, layer: int) -> None:
        """A layer's frames in these places have been written; in eight bits, too, if it attends so."""
        if self.eight:
            assert isinstance(self.keys, Tensor) and isinstance(self.values, Tensor)
            self.eight.write(self.keys, self.values, places, layer)

    def extend_projected(self, layer: int, query: Tensor, key: Tensor, value: Tensor, gains: tuple[Tensor, Tensor],
                         eps: float) -> Seen:
        """As `extend`, for queries and keys that have not been normalised yet: one kernel does it all."""
        from echo_cli.kernels.rows import place

        assert self.placing is not None and self.placing.device is not None
        keys, values, end, watch = self.keys[layer], self.values[layer], self.past + key.shape[1], self.watch
        eight = self.eight.target(layer) if self.eight else None
        query, raw_query, raw_key, asked = place(query, key, value, self.query_rotation, self.key_rotation,
                                          self.placing.device, keys, values, self.placing.frame_tokens, gains, eps,
                                          keep_query=self.observer is not None,
                                          keep_key=self.observer is not None and watch is None,
                                          pool=watch.pool(layer) if watch else None, eight=eight)
        if watch:
            watch.ask(layer, raw_query)
        elif self.observer is not None:
            self.observer(layer, raw_query, raw_key, value)
        bias = None if self.bias is None else self.bias[layer, :, None, None, :end]
        if self.eight is None or eight is None:
            return query, keys[:, :end], values[:, :end], bias
        return query, keys[:, :end], values[:, :end], bias, self.eight.seen(layer, asked, end)

    def replace(self, layer: int, start: int, keys: Tensor, values: Tensor) -> None:
        """Replace a layer's remembered tokens from `start` on with rotated keys and values of whole frames."""
        stop = start + keys.shape[1]
        if isinstance(self.keys, list):
            for layers, new in ((self.keys, keys), (self.values, values)):
                layers[layer] = torch.cat((layers[layer][:, :start], new, layers[layer][:, stop:]), 1)
            return
        if self.placing is None:
            self.keys[layer][:, start:stop], self.values[layer][:, start:stop] = keys, values
            places = self.eight.places(start, stop) if self.eight else ()
        else:
            places = self.placing.past[start // self.placing.frame_tokens:stop // self.placing.frame_tokens]
            self.placing.write(self.keys[layer], places, keys)
            self.placing.write(self.values[layer], places, values)
        self.quantise(places, layer)
