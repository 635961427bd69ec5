"""Colours of scenes, told apart as eyes do: by their distance in CIE Lab."""

from itertools import combinations
from math import dist

from echo_cli.trace.look import SCENE_COLOURS, colour_of


def lab(colour: str) -> tuple[float, float, float]:
    red, green, blue = (linear(int(colour[at:at + 2], 16) / 255) for at in (1, 3, 5))
    x, y, z = map(curved, ((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.95047,
                           0.2126 * red + 0.7152 * green + 0.0722 * blue,
                           (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.08883))
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def curved(value: float) -> float:
    return value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116


def test_thirty_scenes_are_distinguishable_and_neighbours_most_of_all() -> None:
    assert len(SCENE_COLOURS) >= 30
    assert min(dist(lab(one), lab(other)) for one, other in combinations(SCENE_COLOURS, 2)) > 14
    assert min(dist(lab(colour_of(scene)), lab(colour_of(scene + 1))) for scene in range(100)) > 30


def test_all_are_seen_on_black_and_on_white() -> None:
    assert all(39 < lab(colour)[0] < 73 for colour in SCENE_COLOURS)
