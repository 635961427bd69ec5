"""The latent frames that a decoder learns from: blocks of stories, drawn at the decoder's size, with their latents.

Half of the latents, if the plan says so, do not come straight from the encoder: they were noised and the transformer
finished them in its last steps, as it does in films. A shelf keeps a few chapters open; each follows from the seed and
its number, so a resumed run draws those it lacks again. Knows nothing of what is learned from them.
"""

from collections import deque
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from echo_cli.context import BlockContext
from echo_cli.models.backend import Backend
from echo_cli.models.tiny.codec import DETAIL, TinyCodec
from echo_cli.rollout.sampling import schedule
from echo_cli.rope import RopeTable
from echo_cli.training.codec_stage import motion_of
from echo_cli.training.draws import below, chance, dice_of, noise_like
from echo_cli.training.loop import Learner
from echo_cli.world.draw import reduced
from echo_cli.world.stories import BLOCK, Stories, StoryKind, bouncing, sample_stories

_LENGTH = 21  # latent frames of the stories that blocks are taken from
_FROM = (None, None, 2, 3)  # for each group in turn, the sampler's step from which the transformer finishes its latents
_ENOUGH = 16  # times as many seeds as stories: a quarter of them bounce


@dataclass(frozen=True)
class ShelfPlan:
    """How many frames there are to choose from, and of what."""

    stories: int = 2  # drawn at a time
    groups: int = 4  # of stories in a chapter
    blocks: int = 1  # of each story
    chapters: int = 4  # kept open at a time
    steps_each: int = 24  # steps before the next chapter
    hops: float = 0.0  # share of the groups in which the subject bounces
    finished: bool = True  # whether the transformer finishes every second pair of groups


@dataclass(frozen=True)
class Frames:
    """Latent frames to learn from."""

    latents: Tensor  # [frame, c, h, w]
    pictures: Tensor  # [frame, 12, y, x] bytes, as large as they are decoded
    motions: Tensor  # [frame, 4, 4]
    finished: Tensor  # [frame] whether the transformer finished the latents


def averaged(codec: TinyCodec, learner: Learner) -> TinyCodec:
    """A codec with the average weights of what a stage learns as `codec`."""
    own, made = "codec.", TinyCodec(codec.channels, codec.widths).to(codec.mean.device)
    made.load_state_dict({name.removeprefix(own): value for name, value in learner.average.items()
                          if name.startswith(own)})
    return made.requires_grad_(False).eval()


class Shelf:
    """`draw` gives some frames of one of the open chapters. `name` and `stream` set a stage's draws apart from those of
    others, `first` its stories' seeds."""

    def __init__(self, plan: ShelfPlan, name: str, stream: int, first: int, seed: int, backend: Backend,
                 device: torch.device) -> None:
        assert isinstance(backend.codec, TinyCodec), "only the decoder of `tiny` is trained here"
        self.plan, self.name, self.stream, self.seed, self.device = plan, name, stream, seed, device
        self.first = first + (seed << 28)
        self.backend, self.codec = backend, backend.codec
        self.sigmas = schedule(backend.spec.steps, backend.spec.shift).sigmas
        self.rope = RopeTable(backend.spec, backend.spec.grid(), device)
        self._chapters: deque[tuple[int, Frames]] = deque(maxlen=plan.chapters)

    def draw(self, step: int, batch: int, generator: torch.Generator) -> Frames:
        newest = step // self.plan.steps_each
        open_ones = {number for number, _ in self._chapters}
        for number in range(max(0, newest - self.plan.chapters + 1), newest + 1):
            if number not in open_ones:
                self._chapters.append((number, self._chapter(number)))
        chosen = Random(f"{self.name} {self.seed} {step}").randrange(len(self._chapters))
        chapter = self._chapters[chosen][1]
        some = below(len(chapter.latents), (batch,), generator)
        return Frames(chapter.latents[some], chapter.pictures[some], chapter.motions[some], chapter.finished[some])

    @torch.no_grad()
    def _chapter(self, number: int) -> Frames:
        parts = []
        for group in range(self.plan.groups):
            place = number * self.plan.groups + group
            dice = Random(f"{self.name} {self.seed} group {place}")
            generator = dice_of(self.device, self.seed, self.stream, place)
            hops = self.plan.hops > 0 and dice.random() < self.plan.hops
            sampled = sample_stories(self._seeds(place, hops), _LENGTH, StoryKind.HOLD if hops else None,
                                     str(self.device), DETAIL)
            step = _FROM[group % len(_FROM)] if self.plan.finished else None
            for block in dice.sample(range(_LENGTH // BLOCK), self.plan.blocks):
                frames = self._block(sampled, block * BLOCK, step, generator)
                parts.append([getattr(frames, name).flatten(0, 1) for name in Frames.__dataclass_fields__])
        return Frames(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def raw(self, frames: Frames, most: float, generator: torch.Generator) -> Tensor:
        """The latents of some frames as the decoder takes them, with noise of up to `most` of their deviation."""
        shake = most * chance((len(frames.latents), 1, 1, 1), generator)
        noisy = frames.latents + shake * noise_like(frames.latents, generator)
        return noisy * self.codec.std[:, None, None] + self.codec.mean[:, None, None]

    def _seeds(self, place: int, hops: bool) -> Tensor:
        """Those of a group's stories; with `hops`, first those of stories in which the subject bounces."""
        seeds = torch.arange(self.plan.stories * _ENOUGH) + self.first + place * self.plan.stories * _ENOUGH
        if hops:
            seeds = seeds[bouncing(seeds).sort(descending=True, stable=True).indices]
        return seeds[:self.plan.stories]

    def _block(self, sampled: Stories, opens: int, step: int | None, generator: torch.Generator) -> Frames:
        """Of every story the block that opens with a latent frame, finished by the transformer from a step on:
        [story, frame, …]."""
        codec = self.codec
        pictures = TinyCodec.frames(sampled.render(opens, opens + BLOCK), started=opens > 0)
        raw = torch.stack([codec.raw_latents(reduced(frame, DETAIL)) for frame in pictures.unbind(1)], 1)
        latents = (raw - codec.mean[:, None, None]) / codec.std[:, None, None]
        if step is not None:
            prompts = [next(prompt for at, prompt in reversed(story) if at <= opens) for story in sampled.prompts]
            latents = self.finish(latents, prompts, step, generator)
        motions = torch.stack([motion_of(sampled.truth, opens + at) for at in range(BLOCK)], 1)
        finished = torch.full(latents.shape[:2], step is not None, device=self.device)
        return Frames(latents, (pictures * 255).round().byte(), motions, finished)

    def finish(self, latents: Tensor, prompts: list[str], first: int, generator: torch.Generator) -> Tensor:
        """Blocks [block, frame, c, h, w], noised to the level of a step and sampled from it to the end."""
        net, spec = self.backend.transformer, self.backend.spec
        text, own = net.read(self.backend.text.encode(prompts)), self.rope.frames(0, BLOCK)
        shape = (spec.depth, len(latents), len(own), spec.heads, spec.head_dim)
        keys, values = (torch.zeros(shape, device=self.device, dtype=net.dtype) for _ in range(2))
        context = BlockContext(keys, values, 0, own, own)
        x0 = latents
        for sigma in self.sigmas[first:]:
            noisy = (1 - sigma) * x0 + sigma * noise_like(x0, generator)
            times = torch.full(noisy.shape[:2], 1000 * sigma, device=self.device)
            x0 = noisy - sigma * net(noisy, times, text, context).float()
        return x0
