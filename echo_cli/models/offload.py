"""A transformer whose layers stay in host memory and are copied to the device one ahead of the layer that computes.

Each pass copies every layer again, for devices that cannot hold them all. Results are identical to the bit. The host
never waits: copies run in a separate stream, and the device's streams wait for each other. Two buffers on the device
take turns, allocated once: the host is so far ahead of the device that no memory would have been freed yet.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from echo_cli.models.transformer import Transformer


class Guestroom:
    """Two buffers on the device: for the layer that computes and for the next one."""

    def __init__(self, home: list[Tensor], device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._beds = [[torch.empty_like(tensor, device=device) for tensor in home] for _ in range(2)]
        self._guests: list[Visitor | None] = [None, None]

    def fetch(self, visitor: "Visitor", beside: "Visitor | None" = None) -> None:
        """Start copying a layer, beside the one that computes next, if that is another; it has arrived when the stream
        reaches this point."""
        if visitor in self._guests:
            return
        place = 0 if beside is None else 1 - self._guests.index(beside)
        self._guests[place] = visitor
        if self._stream is None:
            self._copy(visitor, place)
            return
        # What was launched so far is the last that reads the weights which go: the layer that computes next lies
        # elsewhere.
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._stream):
            self._copy(visitor, place)

    def _copy(self, visitor: "Visitor", place: int) -> None:
        for here, tensor in zip(self._beds[place], visitor.home, strict=True):
            here.copy_(tensor, non_blocking=True)

    def weights(self, visitor: "Visitor") -> list[Tensor]:
        """The weights of a fetched layer, for the stream that computes."""
        if self._stream is not None:
            torch.cuda.current_stream(self._device).wait_stream(self._stream)
        return self._beds[self._guests.index(visitor)]

    def leave(self, visitor: "Visitor") -> None:
        self._guests[self._guests.index(visitor)] = None


class Visitor:
    """One layer, kept on the host. `ahead` is the one that will be needed next."""

    def __init__(self, layer: nn.Module, pinned: bool) -> None:
        # torch's own tables, which accept any tensor
        self._places: list[tuple[dict[str, Any], str]] = [
            (places, name) for module in layer.modules() for places in (module._parameters, module._buffers)
            for name, tensor in places.items() if tensor is not None]
        self.home = [_on_host(places[name], pinned) for places, name in self._places]
        self.ahead: Visitor | None = None
        self._stand(self.home)

    def _stand(self, weights: list[Tensor]) -> None:
        for (places, name), tensor in zip(self._places, weights, strict=True):
            places[name] = tensor

    def visiting(self, call: Callable[..., object], room: Guestroom) -> Callable[..., object]:
        """`call`, a method of the layer, with the weights on the device while it runs."""
        def run(*args: object) -> object:
            room.fetch(self)
            self._stand(room.weights(self))
            if self.ahead is not None:
                room.fetch(self.ahead, self)
            try:
                return call(*args)
            finally:
                self._stand(self.home)
                room.leave(self)
        return run


def _on_host(tensor: Tensor, pinned: bool) -> Tensor:
    host = tensor.detach().cpu()
    return host.pin_memory() if pinned else host


def keep_layers_on_host(transformer: Transformer, device: torch.device) -> None:
    """Keep the layers on the host and fetch each for its turn; the rest of the transformer stays where it is."""
    visitors = [Visitor(block, device.type == "cuda") for block in transformer.blocks]
    room = Guestroom(visitors[0].home, device)
    for block, visitor, ahead in zip(transformer.blocks, visitors, visitors[1:] + visitors[:1], strict=True):
        visitor.ahead = ahead if ahead is not visitor else None
        for method in ("forward", "read"):
            setattr(block, method, visitor.visiting(getattr(block, method), room))
