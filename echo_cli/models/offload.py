"""A transformer whose layers wait in the host's memory and come to the device one ahead of the one that computes.

Each pass brings every layer over again: for devices that cannot hold them all. Results are the same bits. The host never
waits: copies run in a stream of their own, and the device's streams wait for each other.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from echo_cli.models.transformer import Transformer


class Visitor:
    """One layer, at home on the host. `ahead` is the one that is asked for next."""

    def __init__(self, layer: nn.Module, device: torch.device, stream: "torch.cuda.Stream | None") -> None:
        self._device, self._stream = device, stream
        self._home = [(places, name, _on_host(tensor, pinned=stream is not None))
                      for module in layer.modules() for places in (module._parameters, module._buffers)
                      for name, tensor in places.items() if tensor is not None]
        self._here: list[Tensor] | None = None
        self.ahead: Visitor | None = None
        self._stand([tensor for *_, tensor in self._home])

    def _stand(self, weights: list[Tensor]) -> None:
        for (places, name, _), tensor in zip(self._home, weights, strict=True):
            places[name] = tensor

    def fetch(self) -> None:
        """Begin to bring the weights over; they are there when the stream has come this far."""
        if self._here is not None:
            return
        if self._stream is None:
            self._here = [tensor.clone() for *_, tensor in self._home]
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))  # never more than one layer ahead
        with torch.cuda.stream(self._stream):
            self._here = [tensor.to(self._device, non_blocking=True) for *_, tensor in self._home]

    def visiting(self, call: Callable[..., object]) -> Callable[..., object]:
        """`call`, a method of the layer, with the weights on the device while it runs."""
        def run(*args: object) -> object:
            self.fetch()
            here, self._here = self._here, None
            if self._stream is not None:
                current = torch.cuda.current_stream(self._device)
                current.wait_stream(self._stream)
                for tensor in here:
                    tensor.record_stream(current)  # made in one stream, used in another
            if self.ahead is not None:
                self.ahead.fetch()
            self._stand(here)
            try:
                return call(*args)
            finally:
                self._stand([tensor for *_, tensor in self._home])
        return run


def _on_host(tensor: Tensor, pinned: bool) -> Tensor:
    host = tensor.detach().cpu()
    return host.pin_memory() if pinned else host


def keep_layers_on_host(transformer: Transformer, device: torch.device) -> None:
    """The layers go to the host and visit the device from now on; everything else of the transformer stays where it is."""
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    visitors = [Visitor(block, device, stream) for block in transformer.blocks]
    for block, visitor, ahead in zip(transformer.blocks, visitors, visitors[1:] + visitors[:1], strict=True):
        visitor.ahead = ahead if ahead is not visitor else None
        block.forward, block.read = visitor.visiting(block.forward), visitor.visiting(block.read)
