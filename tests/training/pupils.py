"""Small networks and a tiny pool for the tests of the transformer's training."""

from dataclasses import replace
from pathlib import Path

import torch

from echo_cli.models.backend import Backend
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.spec import TINY
from echo_cli.training.pool import Pool

SMALL = replace(TINY, name="small", depth=2, width=48, heads=2, ffn=64, freq_dim=16, text_dim=8)


class Squares(TinyCodec):
    """Latents that cost nothing: means of squares of the middle picture, and copies of them."""

    def __init__(self) -> None:
        super().__init__(widths=(2, 2, 2, 2))

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(pictures[:, ::4].flatten(0, 1), 16).unflatten(0, (len(pictures), -1))
        return (small * 4 - 2).repeat(1, 1, 8, 1, 1)


def small_backend(transformer: int = 3, codec: TinyCodec | None = None) -> Backend:
    """Random weights, the transformer's of the seed `transformer`."""
    torch.manual_seed(0)
    codec = codec or TinyCodec(widths=(4, 4, 4, 8)).requires_grad_(False).eval()
    text = WordTextEncoder(SMALL.text_dim).requires_grad_(False)
    return Backend(SMALL, random_transformer(SMALL, transformer), text, codec, "0" * 64)


def small_pool(folder: Path, stories: int = 4) -> Pool:
    return Pool(folder / "pool", Squares(), seed=1, stories=stories)
