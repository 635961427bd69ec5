"""What a training step draws: numbers that follow from the seed and the step, on the device that needs them.

The host is too slow for a GPU, so every generator belongs to a device, and its numbers are on that device. Knows
nothing of what the numbers decide.
"""

import torch
from torch import Tensor


def dice_of(device: torch.device, seed: int, stream: int, step: int) -> torch.Generator:
    """The generator of one step; streams of one seed are independent."""
    return torch.Generator(device).manual_seed((seed << 34) + (stream << 30) + step)


def chance(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers in [0, 1)."""
    return torch.rand(shape, generator=generator, device=generator.device)


def below(end: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Integers from 0 to `end` - 1, evenly."""
    return torch.randint(end, shape, generator=generator, device=generator.device)


def noise_like(latents: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(latents.shape, generator=generator, device=generator.device).to(latents.device)


def shaken(clean: Tensor, most: float, generator: torch.Generator, share: float = 1.0) -> Tensor:
    """Clean frames [sequence, …] with noise of up to `most`, in a share of the sequences: what a model remembers is
    never as clean as the world."""
    each = (len(clean),) + (1,) * (clean.dim() - 1)
    amount = most * chance(each, generator)
    if share < 1:
        amount = amount * (chance(each, generator) < share)
    amount = amount.to(clean.device)
    return (1 - amount) * clean + amount * noise_like(clean, generator)
