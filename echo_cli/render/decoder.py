"""Latents to pictures, beside the generator. Knows a codec and its device, and no film."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from echo_cli.models.backend import Codec
from echo_cli.rollout.rollout import BlockResult
from echo_cli.runtime import Later
from echo_cli.state import Nest, pack


class Pictures(Protocol):
    """Pictures [picture, height, width, 3] uint8 that may still be on their way."""

    def array(self) -> np.ndarray: ...


class Decoder:
    """Latents to pictures as they come, beside the generator: on CUDA on a stream of its own; on a CPU in a thread of
    its own, if a computation takes no more than one. `device` is the codec's, which may be another card than the
    generator's. `state` is what the next block's pictures depend on, once the pictures before it have arrived."""

    def __init__(self, codec: Codec, device: torch.device, state: Nest = None) -> None:
        self._codec = codec
        self._worker: ThreadPoolExecutor | None = None
        if device.type == "cpu" and torch.get_num_threads() == 1:
            self._worker = ThreadPoolExecutor(1, "decoder")
            self._worker.submit(torch.get_num_threads).result()  # a thread keeps the number that it finds at first
        self.state = state
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._stream is not None:
            for tensor in pack(state)[0].values():  # made on the generator's stream, read and released on this one
                tensor.record_stream(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """What was asked for is decoded, unless nobody will want it."""
        if self._worker is not None:
            self._worker.shutdown(cancel_futures=error is not None)

    def __call__(self, result: BlockResult) -> Pictures:
        if self._worker is None:
            return self._decoded(result)
        return _Promised(self._worker.submit(self._decoded, result))

    @torch.inference_mode()
    def _decoded(self, result: BlockResult) -> Later:
        given = result.latents if result.lead is None else torch.cat((result.lead, result.latents), 1)
        with self._beside(given) as latents, result.times("decode"):
            if result.lead is not None:  # the stream restarts from a latent whose picture is not shown
                self.state, latents = self._codec.decode(latents[:, :1], None)[1], latents[:, 1:]
            pictures, self.state = self._codec.decode(latents, self.state)
            return Later(_as_bytes(pictures[0]))

    @contextmanager
    def _beside(self, latents: Tensor) -> Iterator[Tensor]:
        """Latents on the codec's device, ready on its stream."""
        if self._stream is None:
            yield latents.to(self._device)
            return
        if latents.device != self._device:
            latents = self._brought(latents)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(latents.device))
        latents.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield latents

    def _brought(self, latents: Tensor) -> Tensor:
        """A copy from another card. The copy makes each side wait for the other, so it has a stream that is idle: on
        the decoder's own one, generating would wait for the pictures of the block before."""
        assert self._stream is not None
        copying = torch.cuda.Stream(self._device)
        with torch.cuda.stream(copying):
            copied = latents.to(self._device, non_blocking=True)
        self._stream.wait_stream(copying)
        return copied


class _Promised:
    """What the other thread decodes, or its error."""

    def __init__(self, coming: "Future[Later]") -> None:
        self._coming = coming

    def array(self) -> np.ndarray:
        return self._coming.result().array()


def _as_bytes(pictures: Tensor) -> Tensor:
    """Pictures [picture, 3, y, x] in [0, 1] to bytes [picture, y, x, 3], colour by colour: quicker on a CPU."""
    shades = pictures.mul(255).round_().clamp_(0, 255)
    count, colours, height, width = shades.shape
    bytes_ = torch.empty(count, height, width, colours, dtype=torch.uint8, device=shades.device)
    for colour in range(colours):
        bytes_[..., colour] = shades[:, colour]
    return bytes_
