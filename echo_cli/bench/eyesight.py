"""How far the eye can be trusted: its verdicts on held-out clips with known content, intact and deliberately damaged.

The clips are drawn by the little world, so the only model involved is the codec, where it is used.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.world.dice import uniform
from echo_cli.world.draw import WIDTH
from echo_cli.world.eye import ASPECTS, FEWEST
from echo_cli.world.grammar import Saying, say
from echo_cli.world.meaning import Meaning
from echo_cli.world.places import paint_places
from echo_cli.world.stories import HELD_OUT, LEFT, PAN, RIGHT, STILL, Stories, StoryKind, sample_stories

LENGTH = 9  # latent frames of a scene: two seconds
_TOGETHER = 8  # stories drawn at once
# Ways to show scenes; the last is deliberately too much, to show where the eye fails.
CODED, FIRST_BLOCK, NOISE = "through the codec", "first block, through the codec", "noise of 1 on latents"
_CHANCE = 50  # a stream of random numbers that no story draws from its seed
_WORDS = 8  # numbers that choose how a prompt is worded
_IN_SIGHT = 0.7  # share of the subject that must be visible for a scene as short as a block to be judged


@dataclass(frozen=True)
class Trial:
    """Some held-out scenes, their prompts, and each prompt made wrong in one aspect, by aspect."""

    batch: Stories
    pictures: Tensor  # [scene, picture, 3, y, x]
    prompts: list[str]
    wrong: list[dict[str, str]]
    strangers: list[str]  # prompts that are wrong in every aspect

    @property
    def motion(self) -> Tensor:
        return self.batch.truth.motion[:, 0]


def trials(stories: int, length: int = LENGTH) -> Iterator[Trial]:
    """Scenes that no stage of training has seen, a few at a time."""
    for seeds in (torch.arange(stories) + HELD_OUT).split(_TOGETHER):
        batch = sample_stories(seeds, length, StoryKind.HOLD)
        prompts, wrong, strangers = [], [], []
        for story, chance in enumerate(uniform(seeds, _CHANCE, _WORDS + len(ASPECTS)).tolist()):
            right = {aspect: int(getattr(batch.truth, aspect)[story, 0]) for aspect in ASPECTS}
            other = {aspect: (right[aspect] + 1 + int(at * (len(names) - 1))) % len(names)
                     for (aspect, names), at in zip(ASPECTS.items(), chance[_WORDS:], strict=True)}
            prompts.append(_said(right, chance))
            wrong.append(
                {aspect: _said({**right, aspect: other[aspect]}, chance) for aspect in ASPECTS}
            )
            strangers.append(_said(other, chance))
        yield Trial(batch, batch.pictures, prompts, wrong, strangers)


def _said(aspects: Mapping[str, int], chance: list[float]) -> str:
    place, time, shape, colour, motion = (aspects[name] for name in ("place", "time", "shape", "colour", "motion"))
    return say(Saying(place, time, shape, colour, motion), chance[:_WORDS])


@dataclass(frozen=True)
class Sight:
    """For one way to show the scenes: shares of scenes in which each check is right, and of prompts wrong in one aspect
    that rank below the right one; the alignment of right prompts, of such wrong ones, and of those wrong in
    everything."""

    place: float
    time: float
    shape: float
    colour: float
    motion: float
    ranked: float
    right: float
    wrong: float
    strange: float


@dataclass(frozen=True)
class Damage:
    """For one damage: the share of affected scenes in which the alignment falls, and how far on average."""

    scenes: int
    falls: float
    by: float


@torch.inference_mode()
def eyesight(meaning: Meaning, codec: TinyCodec, stories: int = 64) -> dict[str, dict[str, dict]]:
    """All figures: `shown` by the way the scenes are shown, `damaged` by the damage done to them after the codec."""
    sights: dict[str, list[tuple]] = {name: [] for name in (*SHOWN, FIRST_BLOCK)}
    falls: dict[str, list[float]] = {name: [] for name in DAMAGES}
    for number, trial in enumerate(trials(stories)):
        generator = torch.Generator().manual_seed(number)
        shown = {name: show(trial.pictures, codec, generator) for name, show in SHOWN.items()}
        for name, films in shown.items():
            sights[name] += [_sight(meaning, film, trial, story) for story, film in enumerate(films)]
        near = (trial.batch.truth.visible[:, :FEWEST].mean(1) > _IN_SIGHT).nonzero()[:, 0]
        if len(near):
            blocks = through(trial.pictures[near, :FEWEST], codec)
            sights[FIRST_BLOCK] += [
                _sight(meaning, film, trial, story) for story, film in zip(near.tolist(), blocks, strict=True)
            ]
        for name, (concerns, harm) in DAMAGES.items():
            concerned = concerns(trial).nonzero()[:, 0]
            for story, film in zip(
                concerned.tolist(), through(harm(trial)[concerned], codec) if len(concerned) else (), strict=True
            ):
                prompt = trial.prompts[story]
                falls[name].append(meaning.alignment(shown[CODED][story], prompt) - meaning.alignment(film, prompt))
    return {
        "shown": {name: asdict(Sight(*map(fmean, zip(*rows, strict=True)))) for name, rows in sights.items() if rows},
        "damaged": {
            name: asdict(Damage(len(rows), fmean(by > 0 for by in rows), fmean(rows)))
            for name, rows in falls.items()
            if rows
        },
    }


def _sight(meaning: Meaning, film: Tensor, trial: Trial, story: int) -> tuple[float, ...]:
    """A row of `Sight` for one scene."""
    right, wrong = trial.prompts[story], trial.wrong[story]
    fits = meaning.alignments(film, [right, *wrong.values(), trial.strangers[story]]).mean(0).tolist()
    checks = meaning.attributes(film, right)
    return (*(float(checks[aspect] is True) for aspect in ASPECTS), fmean(fits[0] > other for other in fits[1:-1]),
            fits[0], fmean(fits[1:-1]), fits[-1])


def through(pictures: Tensor, codec: TinyCodec, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Scenes as they come out of the codec, optionally with noise on their latents."""
    latents = codec.encode(pictures.to(codec.mean.device))
    if noise:
        latents = latents + noise * torch.randn(latents.shape, generator=generator).to(latents.device)
    return codec.decode(latents)[0].cpu()


def _blurred(pictures: Tensor, by: int) -> Tensor:
    flat = pictures.flatten(0, 1)
    return F.interpolate(F.avg_pool2d(flat, by), size=flat.shape[-2:], mode="bilinear").view_as(pictures)


# Ways to show scenes, from the pictures, the codec and a generator.
SHOWN: dict[str, Callable[[Tensor, TinyCodec, torch.Generator], Tensor]] = {
    "as drawn": lambda pictures, codec, dice: pictures,
    CODED: lambda pictures, codec, dice: through(pictures, codec),
    NOISE: lambda pictures, codec, dice: through(pictures, codec, 1.0, dice),
    "blurred to a sixteenth": lambda pictures, codec, dice: _blurred(pictures, 16),
    "grain of 0.05": lambda pictures, codec, dice: (
        pictures + 0.05 * torch.randn(pictures.shape, generator=dice)
    ).clamp(0, 1),
}


def elsewhere(trial: Trial) -> Tensor:
    """The same subjects at the same hour, in the next place."""
    batch = trial.batch
    place = (batch.truth.place[:, 0] + 1) % len(ASPECTS["place"])
    panoramas, _ = paint_places(place, batch.truth.time[:, 0], batch.layouts[:, 0], WIDTH + PAN)
    return replace(batch, panoramas=panoramas[:, None]).pictures


def _half_elsewhere(trial: Trial) -> Tensor:
    half = trial.pictures.shape[1] // 2
    return torch.cat((trial.pictures[:, :half], elsewhere(trial)[:, half:]), 1)


def _empty(trial: Trial) -> Tensor:
    return trial.batch.backgrounds(0, trial.batch.latent_frames)


def _frozen(trial: Trial) -> Tensor:
    """The first picture with the subject in sight, repeated."""
    first = (trial.batch.truth.visible > 0.99).int().argmax(1)
    return trial.pictures[torch.arange(len(first)), first][:, None].expand_as(trial.pictures)


def _drifting(trial: Trial) -> Tensor:
    """Redder from picture to picture, until a third of the blue is gone."""
    share = torch.linspace(0, 1, trial.pictures.shape[1])[:, None, None, None]
    return (trial.pictures * (1 + share * torch.tensor((0.2, -0.1, -0.33))[:, None, None])).clamp(0, 1)


def _all(trial: Trial) -> Tensor:
    return torch.ones_like(trial.motion, dtype=torch.bool)


# Damages, by name: which scenes they concern, and their pictures.
DAMAGES: dict[str, tuple[Callable[[Trial], Tensor], Callable[[Trial], Tensor]]] = {
    "another place": (_all, elsewhere),
    "another place, second half": (_all, _half_elsewhere),
    "another place shines through, 10 %": (_all, lambda trial: 0.9 * trial.pictures + 0.1 * elsewhere(trial)),
    "no subject": (_all, _empty),
    "frozen, of those that move": (lambda trial: trial.motion != STILL, _frozen),
    "backwards, of those that go": (
        lambda trial: (trial.motion == LEFT) | (trial.motion == RIGHT),
        lambda trial: trial.pictures.flip(1),
    ),
    "colours that drift": (_all, _drifting),
}
