"""The eye's stage: clips of the little world and prompts learn to point the same way, however the pictures were
degraded.

Two contrasts: every clip with the other clips' prompts, and with its own prompt made wrong in one aspect, for each
other concept of that aspect. Half of the clips have been through the codec, and all of them get blurs, noise and colour
shifts, because films are softer than the world. Everything a step draws follows from the seed and the step's number.
"""

from collections import deque
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.world.eye import ASPECTS, GAP, HEIGHT, REACH, VIEWS, WIDTH, Eye
from echo_cli.world.stories import LEFT, RIGHT, STILL, Stories, StoryKind, first_picture, sample_stories

_FIRST = 1 << 44  # codec and pool use seeds below
_LENGTH = 21  # latent frames of the stories that clips are cut from
_SIZES = tuple(len(names) for names in ASPECTS.values())
_MOTION = list(ASPECTS).index("motion")
_OF_SUBJECT = torch.tensor([aspect in ("shape", "colour", "motion") for aspect in ASPECTS])
_TOGETHER = 8  # stories drawn at a time
_KINDS = (StoryKind.HOLD,) * 6 + (StoryKind.PAN, StoryKind.LEAVE)  # of the groups in a chapter, in turns


@dataclass(frozen=True)
class EyePlan:
    """What decides the weights, beside the seed and the codec."""

    batch: int = 48
    rate: float = 0.02
    small_rate: float = 2e-3
    ema: float = 0.995
    dropped: float = 0.15  # chance that a prompt does not mention an aspect
    sharpest: float = 40.0  # the most that cosines are multiplied by
    groups: int = 12  # of eight stories in a chapter
    chapters: int = 10  # that are learned from at a time
    steps_each: int = 40  # from one chapter to the next
    noise: float = 0.4  # the most that is added to latents, of their deviation


@dataclass(frozen=True)
class Clips:
    """What a chapter holds."""

    views: Tensor  # [clip, VIEWS, 3, HEIGHT, WIDTH] bytes
    truth: Tensor  # [clip, ASPECTS] indices into the tables
    seen: Tensor  # [clip] share of the subject in sight


class EyeStage:
    """One step at a time: `advance` draws clips and descends."""

    def __init__(self, plan: EyePlan, seed: int, codec: TinyCodec, device: torch.device) -> None:
        self.plan, self.seed, self.codec, self.device = plan, seed, codec, device
        torch.manual_seed(seed)
        self.eye = Eye().to(device).train()
        apart = [p for module in (self.eye.words, self.eye.look[1], self.eye.gather[-1]) for p in module.parameters()]
        self.learner = Learner(
            self.eye, Muon(self.eye.parameters(), plan.rate, plan.small_rate, small=apart, rounds=3), plan.ema
        )
        self._chapters: deque[tuple[int, Clips]] = deque(maxlen=plan.chapters)

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        dice = Random(f"eye {self.seed} {step}")
        generator = torch.Generator().manual_seed((self.seed << 32) + step)
        clips = self._draw(step, generator)
        views, truth = damaged(clips.views.float() / 255, clips.truth, dice, generator)
        loss, figures = self.loss(views.to(self.device), truth.to(self.device), clips.seen.to(self.device), generator)
        self.learner.descend(loss, rate_at(step, spent))
        return figures

    def loss(
        self, views: Tensor, truth: Tensor, seen: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Both contrasts, and the share of prompts made wrong in one aspect that rank below the right one."""
        said = (torch.rand(truth.shape, generator=generator) >= self.plan.dropped).to(truth.device)
        scale = self.eye.sharpness.exp().clamp(max=self.plan.sharpest)
        bags = bags_of(truth, said)
        pictures, words = self.eye.see(views), self.eye.read(bags)
        together = scale * pictures @ words.T
        # A prompt that also fits another clip, because it says less or the same, is not a contrast there.
        fits = ((truth[:, None] == truth[None]) | ~said[None]).all(-1)  # [clip, prompt]
        together = together.masked_fill(
            fits & ~torch.eye(len(truth), dtype=torch.bool, device=truth.device), -torch.inf
        )
        right = torch.arange(len(truth), device=truth.device)
        pairs = (
            F.cross_entropy(together, right, reduction="none") + F.cross_entropy(together.T, right, reduction="none")
        ) / 2
        figures, total = {"pairs": pairs.mean()}, (pairs * seen).mean()
        better = []
        for number, size in enumerate(_SIZES):
            others = truth[:, None].repeat(1, size, 1)
            others[..., number] = torch.arange(size, device=truth.device)
            also = said[:, None].repeat(1, size, 1)
            also[..., number] = True
            cosines = torch.einsum(
                "nd,nsd->ns", pictures, self.eye.read(bags_of(others, also).flatten(0, 1)).unflatten(0, (-1, size))
            )
            # A subject out of sight can be any.
            sure = seen[:, None] if _OF_SUBJECT[number] else torch.ones_like(seen[:, None])
            aim = sure * F.one_hot(truth[:, number], size) + (1 - sure) / size
            wrong = -(aim * (scale * cosines).log_softmax(1)).sum(1).mean()
            figures[list(ASPECTS)[number]] = wrong
            total = total + wrong
            better.append(
                (cosines.gather(1, truth[:, number, None]) > cosines).sum(1)[seen > 0.7].float().mean() / (size - 1)
            )
        figures["ranked"] = torch.stack(better).mean()
        return total, {"loss": total.detach(), **{name: value.detach() for name, value in figures.items()}}

    def finished(self) -> Eye:
        """The averaged eye."""
        eye = Eye().to(self.device)
        eye.load_state_dict(self.learner.average)
        return eye.requires_grad_(False).eval()

    def _draw(self, step: int, generator: torch.Generator) -> Clips:
        """This step's clips, from the chapters that are open; a resumed run draws missing ones again."""
        newest = step // self.plan.steps_each
        have = {number for number, _ in self._chapters}
        for number in range(max(0, newest - self.plan.chapters + 1), newest + 1):
            if number not in have:
                self._chapters.append((number, self._chapter(number)))
        open_clips = [clips for _, clips in self._chapters]
        chosen = torch.randint(sum(len(clips.seen) for clips in open_clips), (self.plan.batch,), generator=generator)
        shelf, place = chosen // len(open_clips[0].seen), chosen % len(open_clips[0].seen)
        return Clips(
            *(
                torch.stack(
                    [getattr(open_clips[a], name)[b] for a, b in zip(shelf.tolist(), place.tolist(), strict=True)]
                )
                for name in ("views", "truth", "seen")
            )
        )

    @torch.inference_mode()
    def _chapter(self, number: int) -> Clips:
        """Some stories, two clips of each: every second group as drawn, every second through the codec."""
        dice = Random(f"eye {self.seed} chapter {number}")
        generator = torch.Generator().manual_seed((self.seed << 40) + number)
        parts = []
        for group in range(self.plan.groups):
            first = _FIRST + (self.seed << 28) + (number * self.plan.groups + group) * _TOGETHER
            sampled = sample_stories(
                torch.arange(first, first + _TOGETHER), _LENGTH, _KINDS[group // 2 % len(_KINDS)], str(self.device)
            )
            for _ in range(2):
                opens = dice.randrange(_LENGTH - VIEWS + 1)
                pictures = sampled.render(opens, opens + VIEWS)[:, -REACH:]
                if group % 2:
                    latents = self.codec.encode(pictures)
                    shake = self.plan.noise * dice.random() ** 2
                    latents = latents + shake * torch.randn(latents.shape, generator=generator).to(latents.device)
                    pictures = self.codec.decode(latents)[0]
                # Sometimes a clip is as short as a film's first block.
                at = torch.arange(VIEWS) * GAP if dice.random() < 0.75 else torch.tensor([0, 3, 5, 8])
                small = F.adaptive_avg_pool2d(pictures[:, at].flatten(0, 1), (HEIGHT, WIDTH)).unflatten(0, (-1, VIEWS))
                parts.append(
                    Clips((small * 255).round().byte().cpu(), *(part.cpu() for part in truth_of(sampled, opens, at)))
                )
        return Clips(*(torch.cat([getattr(part, name) for part in parts]) for name in ("views", "truth", "seen")))


def truth_of(sampled: Stories, opens: int, at: Tensor) -> tuple[Tensor, Tensor]:
    """Indices [story, ASPECTS] and the subject's share in sight [story], for the clip whose first latent frame is
    `opens`."""
    truth = torch.stack([getattr(sampled.truth, aspect)[:, opens] for aspect in ASPECTS], 1)
    last = first_picture(opens + VIEWS) - 1
    views = last - (REACH - 1) + at.to(truth.device)
    return truth, sampled.truth.visible[:, views].mean(1)


def bags_of(truth: Tensor, said: Tensor) -> Tensor:
    """Indices [..., ASPECTS] and which of them are said, to bags of concepts [..., CONCEPTS]."""
    each = [F.one_hot(index, size) * named[..., None]
            for index, named, size in zip(truth.unbind(-1), said.unbind(-1), _SIZES, strict=True)]
    return torch.cat(each, -1).float()


def damaged(views: Tensor, truth: Tensor, dice: Random, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Clips as a film might show them, and their truth: some play backwards, some stand still, the rest differ in look.

    Clips [n, VIEWS, 3, y, x] in [0, 1]; each eighth of them gets a blur of its own.
    """
    count, truth = len(views), truth.clone()
    chance = torch.rand(count, generator=generator)
    motion = truth[:, _MOTION]
    back, frozen = chance < 0.15, chance > 0.92
    views = torch.where(back[:, None, None, None, None], views.flip(1), views)
    turned = torch.arange(_SIZES[_MOTION])
    turned[[LEFT, RIGHT]] = turned[[RIGHT, LEFT]]
    views = torch.where(frozen[:, None, None, None, None], views[:, :1], views)
    truth[:, _MOTION] = torch.where(frozen, STILL, torch.where(back, turned[motion], motion))
    parts = []
    for part in views.split(-(-count // 8)):
        small = dice.choice((1.0, 1.0, 1.0, 0.7, 0.5, 0.35, 0.25))
        if small < 1:
            flat = part.flatten(0, 1)
            lower = F.interpolate(flat, scale_factor=small, mode="area")
            part = F.interpolate(lower, size=flat.shape[-2:], mode="bilinear").unflatten(0, (-1, VIEWS))
        parts.append(part)
    views = torch.cat(parts)
    each = (count, 1, 1, 1, 1)
    contrast = 1 + 0.3 * (torch.rand(each, generator=generator) - 0.5)
    tint = 1 + 0.16 * (torch.rand((count, 1, 3, 1, 1), generator=generator) - 0.5)
    light = 0.12 * (torch.rand(each, generator=generator) - 0.5)
    grain = 0.06 * torch.rand(each, generator=generator) ** 2 * torch.randn(views.shape, generator=generator)
    return ((views - 0.5) * contrast * tint + 0.5 + light + grain).clamp(0, 1), truth
