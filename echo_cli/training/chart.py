"""A loss curve in a terminal: one row of blocks a few lines high, from a stage's CSV.

Knows numbers and characters, nothing of training.
"""

import csv
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

_EIGHTHS = " ▁▂▃▄▅▆▇█"


def curve(values: Sequence[float], width: int = 72, height: int = 8) -> list[str]:
    """Lines, highest first: the mean of each stretch of `values`, between the least and the greatest of them."""
    columns = min(width, len(values))
    edges = [len(values) * column // columns for column in range(columns + 1)]
    means = [math.fsum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    heights = [round((mean - low) / span * (8 * height - 1)) + 1 for mean in means]
    lines = [
        "".join(_EIGHTHS[min(8, max(0, eighths - 8 * row))] for eighths in heights) for row in range(height - 1, -1, -1)
    ]
    return [f"{high:9.4g} ┤{lines[0]}", *(f"{'':9} │{line}" for line in lines[1:-1]), f"{low:9.4g} ┤{lines[-1]}"]


def losses(path: Path, name: str = "loss") -> list[float]:
    """One column of a stage's CSV; rows without it are left out."""
    with path.open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]
