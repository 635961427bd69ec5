"""Few-step sampling as pure functions: noise levels, denoising a block, and the clean pass that memory learns from.

Flow matching: x_t = (1 − σ) x0 + σ ε, velocity v = ε − x0, time t = 1000 σ. Each step guesses x0 and noises it again to
the next level. Nothing here knows a scene, a policy or a device.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from echo_cli.context import BlockContext, Context, Observer
from echo_cli.models.transformer import Network, Text


@dataclass(frozen=True)
class Schedule:
    """The noise levels that the steps visit; `times` as the network takes them."""

    sigmas: tuple[float, ...]

    @property
    def times(self) -> tuple[float, ...]:
        return tuple(1000 * sigma for sigma in self.sigmas)


def schedule(steps: tuple[int, ...], shift: float) -> Schedule:
    """Step s of 1000 has noise level σ = shift·s / (1 + (shift − 1)·s) with s in 0..1, in float32 as tables hold it."""
    return Schedule(
        tuple(float(np.float32(shift * s / (1 + (shift - 1) * s))) for s in (step / 1000 for step in steps))
    )


def denoise(transformer: Network, text: Text, context: Context, levels: Schedule,
            noise: Callable[[int], Tensor], first: Context | None = None,
            given: Tensor | None = None, remembered: bool = False) -> Iterator[Tensor]:
    """Successively cleaner guesses of a block's latents [batch, frame, channel, height, width]; the last is the block.

    `noise(step)` gives the ε of each step, on the device; step 0 is what the block starts from. The first step attends
    through `first` instead of `context`. The `given` latents are those of the block's first frames: the others are
    generated around them. They stand at noise level zero in every step, which no block was trained on; if the context
    has shown them already (`remembered`), they stand at the level of the others, as in training.
    """
    noisy, pinned = noise(0), 0 if given is None else given.shape[1]
    for step, (sigma, time) in enumerate(zip(levels.sigmas, levels.times, strict=True)):
        times = torch.full(noisy.shape[:2], time, device=noisy.device)
        if given is not None and not remembered:
            noisy[:, :pinned], times[:, :pinned] = given, 0.0
        velocity = transformer(noisy, times, text, context if step or first is None else first)
        # float64: x_t and σv nearly cancel at high noise, and their difference is what counts.
        clean = (noisy.double() - sigma * velocity.double()).to(noisy.dtype)
        if given is not None:
            clean[:, :pinned] = given
            if pinned == clean.shape[1]:
                yield clean  # the one pass was for those who watch it
                return
        yield clean
        if step + 1 < len(levels.sigmas):
            following = levels.sigmas[step + 1]
            # float32 and one rounding, as the release has it.
            noisy = ((1 - following) * clean.float() + following * noise(step + 1).float()).to(clean.dtype)


def clean_pass(transformer: Network, text: Text, context: BlockContext, observer: Observer, latents: Tensor) -> None:
    """Run finished latents once more at time zero, for what `observer` collects; the output is not used."""
    times = torch.zeros(latents.shape[:2], device=latents.device)
    transformer(latents, times, text, context.observed_by(observer, collecting=True))
