"""How certain a figure is: intervals over seeds by bootstrap, and paired comparisons that say "no difference" when
there is none.

Plain numbers in and out; no tensor, no metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np

_RESAMPLES = 4000
_SURE = 0.95  # of intervals
_CHANCE = 0.05  # of finding a difference in a column that has none
_EXACT = 12  # pairs up to which all signs are tried
_SEED = 20  # the same figures give the same intervals


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"  # if neither direction is better
    SAME = "no difference"
    UNDECIDED = "too few seeds"


@dataclass(frozen=True)
class Interval:
    mean: float
    low: float
    high: float

    def apart(self, other: "Interval") -> bool:
        return self.high < other.low or other.high < self.low


def interval(values: Sequence[float]) -> Interval:
    """The mean and the middle 95 % of the means of resamples."""
    sample = np.asarray(values, dtype=float)
    if len(sample) == 1:
        return Interval(*[float(sample[0])] * 3)
    picks = np.random.default_rng(_SEED).integers(0, len(sample), (_RESAMPLES, len(sample)))
    low, high = np.quantile(sample[picks].mean(1), ((1 - _SURE) / 2, (1 + _SURE) / 2))
    return Interval(float(sample.mean()), float(low), float(high))


def chance(differences: Sequence[float]) -> float:
    """How often pairs that differ only by chance, equally likely in both directions, differ by as much on average."""
    apart = np.asarray([each for each in differences if each], dtype=float)
    if not len(apart):
        return 1.0
    if len(apart) <= _EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(apart))))
    else:
        signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), (1 << _EXACT, len(apart)))
        signs[0] = 1.0  # the observed signs are one of the combinations
    reached = np.abs(signs @ apart) >= abs(apart.sum()) * (1 - 1e-9)
    return float(reached.mean())


def corrected(chances: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction: many comparisons side by side find something by chance unless each must meet a stricter
    threshold."""
    worst, corrected = 0.0, {}
    for rank, (name, value) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, value * (len(chances) - rank)))
        corrected[name] = worst
    return corrected


def verdicts(pairs: Mapping[str, Sequence[float]], more: bool | None) -> dict[str, Verdict]:
    """A verdict for each contestant, from its differences to another, seed by seed. `more`: whether more is better."""
    sure = corrected({name: chance(differences) for name, differences in pairs.items()})
    outcome = {}
    for name, differences in pairs.items():
        if len(differences) < least_pairs(len(pairs)) and any(differences):
            outcome[name] = Verdict.UNDECIDED
        elif sure[name] >= _CHANCE:
            outcome[name] = Verdict.SAME
        elif more is None:
            outcome[name] = Verdict.DIFFERENT
        else:
            outcome[name] = Verdict.BETTER if (sum(differences) > 0) == more else Verdict.WORSE
    return outcome


def least_pairs(comparisons: int) -> int:
    """The number of pairs needed before any of this many comparisons can be decided."""
    pairs = 1
    while 2.0 ** (1 - pairs) * comparisons >= _CHANCE:
        pairs += 1
    return pairs
