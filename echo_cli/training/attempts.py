"""Blocks as a student's few-step sampler makes them during training: beside the world's past, or on its own.

Knows nothing of losses.
"""

import torch
from torch import Tensor

from echo_cli.models.transformer import Text
from echo_cli.training.draws import below, noise_like
from echo_cli.training.lessons import Lesson
from echo_cli.training.teaching import Class, Past
from echo_cli.world.stories import BLOCK

Made = tuple[Tensor, list[Tensor]]  # finished blocks [sequence, F, c, h, w], and the noisy input of each step


class Sampler:
    """Makes the blocks of lessons with a student, at the levels of its few steps."""

    def __init__(self, student: Class, sigmas: tuple[float, ...]) -> None:
        self.student, self.sigmas = student, sigmas

    @torch.no_grad()
    def beside(self, lesson: Lesson, past: Tensor, generator: torch.Generator) -> Made:
        """All blocks at once, beside the clean frames of `past`."""
        text, fresh = self.student.read(lesson.words), self._fresh(lesson, generator)
        seen = past.shape[1] - BLOCK
        return self._steps(lesson, text, self.student.remember(lesson, text, past[:, :seen], 0, []), fresh, 0)

    @torch.no_grad()
    def rolled_out(self, lesson: Lesson, generator: torch.Generator, opened: bool = False) -> Made:
        """One block after the other, on the student's own past; if `opened`, the first is the world's."""
        text, fresh = self.student.read(lesson.words), self._fresh(lesson, generator)
        past: Past = []
        parts = []
        for block in range(lesson.blocks):
            here = slice(block * BLOCK, (block + 1) * BLOCK)
            noise = [each[:, here] for each in fresh]
            parts.append((lesson.latents[:, here], noise) if opened and not block
                         else self._steps(lesson, text, past, noise, block))
            if block + 1 < lesson.blocks:
                past = self.student.remember(lesson, text, parts[-1][0], block, past)
        made = torch.cat([part[0] for part in parts], 1)
        return made, [torch.cat(step, 1) for step in zip(*(part[1] for part in parts), strict=True)]

    def one_step(self, lesson: Lesson, inputs: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The noisy input of one step of each block, drawn evenly, and its level [sequence, block]."""
        shape = (len(inputs[0]), lesson.blocks)
        device = generator.device
        step = below(len(self.sigmas), shape, generator)
        sequence, block = torch.arange(shape[0], device=device)[:, None], torch.arange(shape[1], device=device)
        chosen = torch.stack(inputs).unflatten(2, (-1, BLOCK))[step, sequence, block]
        return chosen.flatten(1, 2), torch.tensor(self.sigmas, device=device)[step]

    def _fresh(self, lesson: Lesson, generator: torch.Generator) -> list[Tensor]:
        return [noise_like(lesson.latents, generator) for _ in self.sigmas]

    def _steps(self, lesson: Lesson, text: Text, past: Past, fresh: list[Tensor], first: int) -> Made:
        inputs: list[Tensor] = []
        x0 = fresh[0]
        for sigma, noise in zip(self.sigmas, fresh, strict=True):
            inputs.append((1 - sigma) * x0 + sigma * noise if inputs else noise)
            times = torch.full((len(noise), noise.shape[1] // BLOCK), 1000 * sigma, device=noise.device)
            x0 = inputs[-1] - sigma * self.student.velocity_given(lesson, text, past, inputs[-1], times, first).float()
        return x0, inputs


def guess(student: Class, lesson: Lesson, past: Tensor, noisy: Tensor, level: Tensor) -> Tensor:
    """A student's x0 of the noisy frames, given the clean frames of `past`; with gradients."""
    said = student.velocity(lesson, student.read(lesson.words), past, noisy, 1000 * level)
    return noisy - spread(level) * said.float()


def spread(level: Tensor) -> Tensor:
    """[sequence, block] → [sequence, frame, 1, 1, 1]."""
    return level.repeat_interleave(BLOCK, 1)[..., None, None, None]
