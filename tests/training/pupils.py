"""Small networks and a tiny pool for the tests of the transformer's training."""

from dataclasses import replace
from pathlib import Path

import torch

from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.spec import TINY
from echo_cli.training.pool import Pool

SMALL = replace(TINY, name="small", depth=2, width=48, heads=2, ffn=64, freq_dim=16, text_dim=8)


class Squares(TinyCodec):
    """Latents that cost nothing: means of squares of the middle picture, and copies of them."""

    def __init__(self) -> None:
        super().__init__(widths=(2, 2, 2))

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(pictures[:, ::4].flatten(0, 1), 16).unflatten(0, (len(pictures), -1))
        return (small * 4 - 2).repeat(1, 1, 8, 1, 1)


def small_pool(folder: Path, stories: int = 4) -> Pool:
    return Pool(folder / "pool", Squares(), seed=1, stories=stories)
