"""Which earlier scene a prompt resembles: word weights of prompts, their likeness, and the choice of a partner.

Pure text, no model and no tensor. Matching by `embedding` needs a text encoder, which lives elsewhere; what belongs
to it here is `stripped`, the prompts reduced to the words that tell the scenes apart.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

POOL = 64  # scenes that can be recalled automatically; older ones have left the pool

_WORD = re.compile(r"[a-z][a-z']+")
_STOP = frozenset(
    "a an and are as at back be been before by for from has have he her his in into is it its of on or over same she "
    "shot static the their them this to under while with wearing young now seen".split()
)

Feature = dict[str, float]  # word → weight, of unit length; empty for a prompt without a telling word


@dataclass(frozen=True, slots=True)
class Match:
    """The partner chosen for a scene, with every candidate's score, oldest first."""

    partner: int
    scores: tuple[tuple[int, float], ...]  # (scene, score)

    @property
    def score(self) -> float:
        return dict(self.scores)[self.partner]

    @property
    def runner_up(self) -> tuple[int, float] | None:
        """The best of the scenes that were not chosen, if there was any other."""
        others = [entry for entry in self.scores if entry[0] != self.partner]
        return max(others, key=lambda entry: entry[1]) if others else None


def words(prompt: str) -> list[str]:
    """The words that count, in order: lower case, three letters or more, no stop words."""
    return [word for word in _WORD.findall(prompt.lower()) if len(word) > 2 and word not in _STOP]


def features(prompts: Sequence[str]) -> list[Feature]:
    """(1 + ln tf) · (ln((1 + n) / (1 + df)) + 1) for each word of each prompt, normalised to unit length."""
    counts = [Counter(words(prompt)) for prompt in prompts]
    spread = Counter(word for count in counts for word in count)
    rows = []
    for count in counts:
        row = {
            word: (1 + math.log(times)) * (math.log((1 + len(prompts)) / (1 + spread[word])) + 1)
            for word, times in count.items()
        }
        length = math.sqrt(sum(weight * weight for weight in row.values()))
        rows.append({word: weight / length for word, weight in row.items()})
    return rows


def likeness(one: Feature, other: Feature) -> float:
    """Cosine of two features: 1 for the same words in the same proportions, 0 for none in common."""
    return sum(weight * other[word] for word, weight in one.items() if word in other)


def similarities(prompts: Sequence[str]) -> list[list[float]]:
    """Every prompt against every other, itself included."""
    rows = features(prompts)
    return [[likeness(one, other) for other in rows] for one in rows]


def match(scene: int, rows: Sequence[Feature], pool: int = POOL) -> Match:
    """The earlier scene most like `scene`, which is not the first; the oldest wins a tie."""
    if scene < 1:
        raise ValueError(f"scene {scene} has no earlier scene to match")
    scores = tuple((past, likeness(rows[scene], rows[past])) for past in range(max(0, scene - pool), scene))
    return Match(max(scores, key=lambda entry: entry[1])[0], scores)


def stripped(prompts: Sequence[str]) -> list[str]:
    """Prompts without the words that most of them share, for embedding; a prompt that would be empty stays whole."""
    kept = [words(prompt) for prompt in prompts]
    spread = Counter(word for row in kept for word in set(row))
    common = max(2, math.floor(0.7 * len(prompts) + 0.999))
    return [
        " ".join(word for word in row if spread[word] < common) or prompt
        for row, prompt in zip(kept, prompts, strict=True)
    ]
