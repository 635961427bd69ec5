"""How sure a figure is: intervals over seeds by bootstrap, and paired comparisons that say "no difference" when there
is none.

Plain numbers in and out; no tensor, no metric.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

import numpy as np

_RESAMPLES = 4000
_SURE = 0.95  # of intervals
_CHANCE = 0.05  # of calling anything different in a column where nothing is
_EXACT = 12  # pairs up to which all signs are tried
_SEED = 20  # the same figures give the same intervals


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    DIFFERENT = "different"  # where neither way is better
    SAME = "no difference"
    UNTOLD = "too few seeds"


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
    """How often pairs that differ by chance alone, each as likely this way as that, differ by as much in the mean."""
    apart = np.asarray([each for each in differences if each], dtype=float)
    if not len(apart):
        return 1.0
    if len(apart) <= _EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(apart))))
    else:
        signs = np.random.default_rng(_SEED).choice((-1.0, 1.0), (1 << _EXACT, len(apart)))
        signs[0] = 1.0  # what was seen is one of the ways
    reached = np.abs(signs @ apart) >= abs(apart.sum()) * (1 - 1e-9)
    return float(reached.mean())


def corrected(chances: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction: so many comparisons side by side find something by chance, unless each is asked for more."""
    worst, corrected = 0.0, {}
    for rank, (name, value) in enumerate(sorted(chances.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, value * (len(chances) - rank)))
        corrected[name] = worst
    return corrected


def verdicts(pairs: Mapping[str, Sequence[float]], more: bool | None) -> dict[str, Verdict]:
    """For each contestant, from its differences to another, seed by seed. `more`: whether more is better."""
    sure = corrected({name: chance(differences) for name, differences in pairs.items()})
    found = {}
    for name, differences in pairs.items():
        if len(differences) < least_pairs(len(pairs)) and any(differences):
            found[name] = Verdict.UNTOLD
        elif sure[name] >= _CHANCE:
            found[name] = Verdict.SAME
        elif more is None:
            found[name] = Verdict.DIFFERENT
        else:
            found[name] = Verdict.BETTER if (sum(differences) > 0) == more else Verdict.WORSE
    return found


def least_pairs(comparisons: int) -> int:
    """Pairs needed before any of so many comparisons can be told apart."""
    pairs = 1
    while 2.0 ** (1 - pairs) * comparisons >= _CHANCE:
        pairs += 1
    return pairs
