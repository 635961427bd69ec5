"""What a model is to the rest of the program: a transformer, a text encoder, a codec, and one hash for all its weights.

A backend knows nothing of memory or storyboards; where its parts come from is `loaders`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from echo_cli.models.queries.model import MemoryQueries
from echo_cli.models.transformer import Transformer
from echo_cli.spec import ModelSpec


class TextEncoder(Protocol):
    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode every prompt that will be needed; a large encoder may then be released."""
        ...

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Text rows [prompt, row, dim]; rows past a prompt's end are zero."""
        ...

    def unknown_words(self, prompt: str) -> Sequence[str]:
        """Words of a prompt that the model does not know, in order."""
        ...


class Codec(Protocol):
    def decode(self, latents: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Latents [batch, frame, channel, height, width] → pictures [batch, picture, 3, y, x] in [0, 1], and the state
        to pass with the next piece of the stream; a stream begins with state None."""
        ...

    def encode_piece(self, pictures: Tensor, state: Any, /) -> tuple[Tensor, Any]:
        """The other way. A stream begins with state None and 1 + 4 (n - 1) pictures for n latent frames; every later
        piece has 4 for each."""
        ...


@dataclass(frozen=True)
class Backend:
    spec: ModelSpec
    transformer: Transformer
    text: TextEncoder
    codec: Codec
    weights_hash: str
    queries: MemoryQueries | None = None  # trained with this transformer, if there are any
    decoder_hash: str | None = None  # of a decoder that stands in for the codec
    home: torch.device | None = None  # where remembered frames are kept, if not on the device


def text_features(text: TextEncoder, prompts: Sequence[str]) -> Tensor:
    """One unit vector per prompt [prompt, dim]: the mean of its non-zero rows."""
    rows = text.encode(prompts).float()
    real = (rows != 0).any(-1, keepdim=True)
    mean = (rows * real).sum(1) / real.sum(1).clamp(min=1)
    return mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-12)
