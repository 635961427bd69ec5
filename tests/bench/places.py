"""Real places of the little world, painted: what metrics are tried on, since the truth about them is known."""

import torch
from torch import Tensor

from echo_cli.world.dice import uniform
from echo_cli.world.draw import WIDTH
from echo_cli.world.places import LAYOUT, paint_places


def layouts(place: int, time: int, count: int, seed: int = 0) -> Tensor:
    """Places of one kind and hour, each laid out in its own way: [count, 3, y, x]."""
    chance = uniform(torch.arange(count) + seed + (1 << 41), 0, LAYOUT)
    kinds = torch.full((count,), place)
    return paint_places(kinds, torch.full((count,), time), chance, WIDTH)[0]


def grain(pictures: Tensor, much: float = 0.02, seed: int = 1) -> Tensor:
    """What a codec adds, more or less."""
    return (pictures + much * torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


def still(place: Tensor, pictures: int) -> Tensor:
    """A film of a place in which nobody is."""
    return place.expand(pictures, -1, -1, -1)
