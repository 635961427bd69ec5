"""Which earlier scene a prompt resembles: word weights of prompts, their similarity, and the choice of a partner.

Pure text, no model and no tensor. By `idf`, all words are equal but for how rare they are, as in the release; by
`places`, words that say where and when a scene is count most, whichever synonym is used. Matching by `embedding` needs
a text encoder, which lives elsewhere; its part here is `stripped`, the prompts reduced to the words that distinguish
the scenes.
"""

import math
import re
from collections import Counter
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, Protocol

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.storyboard.nouns import AUTO, PastScene, Scene, Timeline
from echo_cli.storyboard.whereabouts import stem, whereabouts

_WORD = re.compile(r"[a-z][a-z']+")
_STOP = frozenset(
    """
    a an and are as at back be been before by for from has have he her his in into is it its of on or over same she
    shot static the their them this to under while with wearing young now seen
    """.split()  # noqa: SIM905 (words read better as text)
)

_STOP_STEMS = frozenset(map(stem, _STOP))
_WORTH: Mapping[str, float] = MappingProxyType({"place": 4.0, "hour": 2.0, "word": 1.0})

Match = Literal["idf", "places", "embedding"]
Feature = dict[Hashable, float]  # what a prompt names → weight, of unit length; empty for a prompt of stop words


@dataclass(frozen=True, slots=True)
class Recall:
    """The scene that is recalled, its similarity, and every candidate with its score, oldest first. Scenes of
    other films have negative numbers: -1 is the last of them. If it is `refused`, that scene is not similar enough, and
    the recalling scene begins with a hard cut instead."""

    scene: int
    similarity: float
    scores: tuple[tuple[int, float], ...]
    refused: bool = False

    @property
    def runner_up(self) -> tuple[int, float] | None:
        """The best candidate that was not chosen, if there is one."""
        others = [entry for entry in self.scores if entry[0] != self.scene]
        return max(others, key=lambda entry: entry[1]) if others else None


def words(prompt: str) -> list[str]:
    """The words that count, in order: lower case, three letters or more, no stop words."""
    return [word for word in _WORD.findall(prompt.lower()) if len(word) > 2 and word not in _STOP]


def features(prompts: Sequence[str], match: Match = "idf") -> list[Feature]:
    """(1 + ln tf) · (ln((1 + n) / (1 + df)) + 1) for each word of each prompt, normalised to unit length; by places,
    times what its kind is worth."""
    counts: list[Counter[Hashable]] = [Counter(_named(prompt) if match == "places" else words(prompt))
                                       for prompt in prompts]
    spread = Counter(word for count in counts for word in count)
    rows = []
    for count in counts:
        row = {
            word: (1 + math.log(times)) * (math.log((1 + len(prompts)) / (1 + spread[word])) + 1) * _worth(word)
            for word, times in count.items()
        }
        length = math.sqrt(sum(weight * weight for weight in row.values()))
        rows.append({word: weight / length for word, weight in row.items()})
    return rows


def _named(prompt: str) -> list[tuple[str, str]]:
    return [(kind, word) for kind, word in whereabouts(prompt)
            if kind != "word" or (len(word) > 2 and word not in _STOP_STEMS)]


def _worth(named: Hashable) -> float:
    return _WORTH[named[0]] if isinstance(named, tuple) else 1.0


def likeness(one: Feature, other: Feature) -> float:
    """Cosine of two features: 1 for the same words in the same proportions, 0 for none in common."""
    return sum(weight * other[word] for word, weight in one.items() if word in other)


class Row(Protocol):
    """The similarity of one scene to every scene of the film."""

    def __getitem__(self, scene: int, /) -> float: ...


class Similarities(Protocol):
    """A row for each scene."""

    def __getitem__(self, scene: int, /) -> Row: ...


@dataclass(frozen=True, slots=True)
class _Row:
    """How similar one prompt is to each; computed on demand, since few pairs of scenes are ever needed."""

    one: Feature
    others: Sequence[Feature]

    def __len__(self) -> int:
        return len(self.others)

    def __getitem__(self, scene: int, /) -> float:
        return likeness(self.one, self.others[scene])


def similarities(prompts: Sequence[str], match: Match = "idf") -> Similarities:
    """Every prompt against every other, itself included, by `idf` or by `places`."""
    rows = features(prompts, match)
    return [_Row(row, rows) for row in rows]


def plan_recalls(scenes: Sequence[Scene], similarities: Similarities, pool: int,
                 past: Sequence[PastScene] = (), least: float = 0.0, first: int = 0,
                 gone: Container[int] = frozenset()) -> dict[int, Recall]:
    """The partner of each recalling scene: the one it names, else the best of the last `pool` and of the `past` scenes
    of other films, the first on ties, refused if it is less similar than `least`. `similarities` are those of the past
    scenes and the film's, in this order. From scene `first` on, those that are `gone` cannot be recalled."""
    places = {scene.id: index for index, scene in reversed(list(enumerate(scenes)))}
    before = len(past)
    places |= {scene.name: number - before for number, scene in enumerate(past)}
    plan = {}
    for index, scene in enumerate(scenes):
        if not scene.recalls:
            continue
        if index == 0 and not past:
            raise UsageError(f"scene '{scene.id}' opens the film and has nothing to recall",
                             hint="Leave out its transition.")
        row = similarities[index + before]
        candidates = [other for other in (*range(-before, 0), *range(max(0, index - pool), index))
                      if index < first or other not in gone]
        scores = tuple((other, row[other + before]) for other in candidates)
        auto = scene.recall is None or scene.recall == AUTO
        if auto and not scores:
            raise UsageError(f"scene '{scene.id}': there is no scene that it could recall",
                             hint="Use another transition.")
        partner = max(scores, key=lambda entry: entry[1])[0] if auto else places.get(scene.recall or "", len(scenes))
        if partner >= index:
            earlier = [*(other.name for other in past), *(other.id for other in scenes[:index])]
            raise UsageError(f"scene '{scene.id}': recall of '{scene.recall}', but no earlier scene has that id"
                             f"{did_you_mean(scene.recall or '', tuple(earlier))}",
                             hint=f"Earlier scenes are: {', '.join(earlier)}.")
        similarity = row[partner + before]
        plan[index] = Recall(partner, similarity, scores, auto and similarity < least)
    return plan


def recalls_in(film: Timeline, similarities: Similarities, pool: int, least: float = 0.0) -> dict[int, Recall]:
    """The partners of all recalling scenes of a film."""
    return plan_recalls(film.scenes, similarities, pool, film.past, least, film.first, film.gone)


def stripped(prompts: Sequence[str]) -> list[str]:
    """Prompts without the words that most of them share, for embedding; one that would become empty stays whole."""
    kept = [words(prompt) for prompt in prompts]
    spread = Counter(word for row in kept for word in set(row))
    common = max(2, math.floor(0.7 * len(prompts) + 0.999))
    return [
        " ".join(word for word in row if spread[word] < common) or prompt
        for row, prompt in zip(kept, prompts, strict=True)
    ]
