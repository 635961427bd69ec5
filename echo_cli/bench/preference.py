"""Which of two films of one storyboard the eye prefers, scene by scene.

The eye is blind: it judges one scene at a time, from its pictures and its prompt alone. Films are read from disk, so
they may come from any weights and any version. Knows nothing of how films are made.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.bench.statistics import Interval, chance, interval
from echo_cli.errors import UsageError
from echo_cli.trace.reader import NOT_OURS, read_trace
from echo_cli.video import read
from echo_cli.world.eye import ASPECTS, FEWEST, HEIGHT, WIDTH
from echo_cli.world.meaning import Meaning

_TRACE = ".trace.json"


@dataclass(frozen=True)
class Score:
    """How well a scene fits its prompt, and whether each aspect that the prompt names is right."""

    prompt: str
    alignment: float
    right: dict[str, bool | None]


@dataclass(frozen=True)
class Preference:
    """Over all scenes: the share in which the second film fits the prompt better, how much better it fits on average,
    and how probable such a difference is by chance."""

    scenes: int
    preferred: float
    before: float
    after: float
    gain: Interval
    chance: float
    right: dict[str, tuple[float, float]]  # shares of scenes by aspect, before and after


def preference(meaning: Meaning, before: Path, after: Path) -> Preference:
    """Of the films beside two traces."""
    old, new = (list(scores(meaning, trace)) for trace in (before, after))
    if [each.prompt for each in old] != [each.prompt for each in new]:
        raise UsageError(f"{before} and {after} are of different prompts", "Name two films of one storyboard.")
    if not old:
        raise UsageError(f"{before}: the eye can judge no scene of this film",
                         f"Name films of the little world whose scenes have {FEWEST} pictures or more.")
    gains = [two.alignment - one.alignment for one, two in zip(old, new, strict=True)]
    return Preference(
        len(old), fmean((gain > 0) + (gain == 0) / 2 for gain in gains), fmean(each.alignment for each in old),
        fmean(each.alignment for each in new), interval(gains), chance(gains),
        {aspect: (_share(old, aspect), _share(new, aspect)) for aspect in ASPECTS
         if any(each.right[aspect] is not None for each in old)})


def scores(meaning: Meaning, trace: Path) -> Iterator[Score]:
    """Of each scene of the film beside a trace that the eye can judge."""
    if not trace.name.endswith(_TRACE):
        raise UsageError(f"{trace} is not a trace", NOT_OURS)
    timeline = read_trace(trace).header.timeline
    film = _seen(trace.with_name(trace.name.removesuffix(_TRACE) + ".mp4"), timeline[-1].pictures[1])
    for scene in timeline:
        seen = film[slice(*scene.pictures)]
        if len(seen) >= FEWEST and meaning.knows(scene.prompt):
            yield Score(scene.prompt, meaning.alignment(seen, scene.prompt), meaning.attributes(seen, scene.prompt))


def _seen(film: Path, pictures: int) -> Tensor:
    """Every picture as large as the eye sees it: [picture, 3, y, x] in [0, 1]."""
    if not film.is_file():
        raise UsageError(f"{film}: the film of this trace is missing", "Keep a film and its trace together.")
    seen = torch.zeros(pictures, 3, HEIGHT, WIDTH)
    count = -1
    for count, picture in enumerate(read.pictures(film)):
        if count < pictures:
            seen[count] = F.adaptive_avg_pool2d(torch.tensor(picture).permute(2, 0, 1).float() / 255, (HEIGHT, WIDTH))
    if count + 1 != pictures:
        raise UsageError(f"{film} has {count + 1} pictures, and its trace {pictures}",
                         "Keep a film and its trace together.")
    return seen


def _share(scores: Sequence[Score], aspect: str) -> float:
    """Of scenes whose prompt names the aspect."""
    return fmean(float(right) for each in scores if (right := each.right[aspect]) is not None)
