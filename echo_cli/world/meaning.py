"""What a scene shows, as far as the eye can tell: how well its pictures fit its prompt, and which of the named things
are there.

Pictures and a prompt are enough; no ground truth is needed. The eye knows only the little world: it is for `tiny` and
for models trained on that world. How far it can be trusted is measured in `eyesight`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.world.eye import ASPECTS, CONCEPTS, WEIGHTS, Eye, bag, check, clips_of, load_eye, said


@dataclass(frozen=True)
class Meaning:
    """The eye in use. Pictures [p, 3, y, x] in [0, 1] are those of one scene, sixteen a second, nine of them at
    least."""

    eye: Eye
    weights_hash: str

    def knows(self, prompt: str) -> bool:
        """Whether the prompt names anything that the eye can judge."""
        return bool(bag(prompt).any())

    def alignment(self, pictures: Tensor, prompt: str) -> float:
        """How well the scene fits the prompt, from -1 to 1: the mean over its clips of a cosine."""
        return self.alignments(pictures, [prompt]).mean().item()

    def alignments(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """Each clip of the scene, in order, against each prompt: [clip, prompt]. A clip is for about each twelve
        pictures."""
        if unknown := [prompt for prompt in prompts if not self.knows(prompt)]:
            raise ValueError(f"the eye knows no words in {unknown[0]!r}")
        return self._cosines(pictures, torch.stack([bag(prompt) for prompt in prompts]))

    def attributes(self, pictures: Tensor, prompt: str) -> dict[str, bool | None]:
        """For each aspect, whether what the prompt names fits the scene better than every alternative.

        None if the prompt names nothing of it, or two things.
        """
        return {aspect: None if seen is None else seen == said(prompt)[aspect][0]
                for aspect, seen in self.sights(pictures, prompt).items()}

    def sights(self, pictures: Tensor, prompt: str) -> dict[str, str | None]:
        """What the scene shows of each aspect of which the prompt names one thing: the concept that fits best
        instead."""
        named, words = said(prompt), bag(prompt)
        asked = [aspect for aspect in ASPECTS if len(named[aspect]) == 1]
        bags = [_instead(words, aspect, other) for aspect in asked for other in ASPECTS[aspect]]
        if not bags:
            return dict.fromkeys(ASPECTS)
        fits = self._cosines(pictures, torch.stack(bags)).mean(0).split([len(ASPECTS[aspect]) for aspect in asked])
        best = {aspect: ASPECTS[aspect][each.argmax().item()] for aspect, each in zip(asked, fits, strict=True)}
        return {aspect: best.get(aspect) for aspect in ASPECTS}

    def distance(self, pictures: Tensor, others: Tensor) -> float:
        """How different two scenes look, subjects included: 0 is the same, 1 is nothing in common."""
        seen, other = (self._see(each).mean(0) for each in (pictures, others))
        return 1 - F.cosine_similarity(seen, other, dim=0).item()

    def same_subject(self, prompt: str, other: str) -> bool:
        """Whether both name one and the same shape and colour."""
        one, two = ([said(each)[aspect] for aspect in ("shape", "colour")] for each in (prompt, other))
        return one == two and all(len(names) == 1 for names in one)

    @torch.inference_mode()
    def _see(self, pictures: Tensor) -> Tensor:
        return self.eye.see(clips_of(pictures).to(self.eye.sharpness.device)).cpu()

    @torch.inference_mode()
    def _cosines(self, pictures: Tensor, bags: Tensor) -> Tensor:
        return self._see(pictures) @ self.eye.read(bags.to(self.eye.sharpness.device)).T.cpu()


def load_meaning(device: torch.device | str = "cpu", folder: Path = WEIGHTS) -> Meaning:
    """The eye in the package, unless another folder is named."""
    return Meaning(load_eye(device, folder), check(folder))


def _instead(words: Tensor, aspect: str, other: str) -> Tensor:
    """The same bag with another concept of an aspect."""
    changed = words.clone()
    first = CONCEPTS.index(ASPECTS[aspect][0])
    changed[first : first + len(ASPECTS[aspect])] = 0
    changed[CONCEPTS.index(other)] = 1
    return changed
