"""Random numbers that belong to a seed: uniform numbers from (seed, stream, index) by integer hashing.

A clip depends only on its own seed, not on the batch or the device: integers wrap the same everywhere. Knows nothing of
what the numbers decide.
"""

import torch
from torch import Tensor

# splitmix64's constants, as signed 64-bit integers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MIX_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MIX_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def uniform(seeds: Tensor, stream: int, count: int) -> Tensor:
    """`count` numbers in [0, 1) for each seed; streams of one seed are independent."""
    index = torch.arange(1, count + 1, device=seeds.device)
    key = _mix(_mix(seeds + _GOLDEN) + (stream + 1) * 0xD1342543DE83)
    bits = _mix(key[:, None] + index * _GOLDEN)
    return ((bits >> 40) & 0xFFFFFF).float() / (1 << 24)  # [seed, count]


def choose(chance: Tensor, options: int) -> Tensor:
    """Turns a uniform number into one of `options` integers."""
    return (chance * options).long()


def between(chance: Tensor, low: float, high: float) -> Tensor:
    """Turns a uniform number into one between low and high."""
    return low + (high - low) * chance
