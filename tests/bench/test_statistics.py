"""Intervals that hold what they promise, and comparisons that do not find what is not there."""

import numpy as np
import pytest

from echo_cli.bench.statistics import Interval, Verdict, chance, corrected, interval, least_pairs, verdicts

DICE = np.random.default_rng(7)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    held = [each.low <= 3 <= each.high for each in (interval(DICE.normal(3, 2, 20)) for _ in range(200))]
    assert 0.87 <= sum(held) / 200 <= 0.99


def test_an_interval_repeats_and_one_figure_has_none():
    values = [1.0, 4.0, 2.0, 8.0]
    assert interval(values) == interval(values) and interval(values).low < 3.75 < interval(values).high
    assert interval([2.5]) == Interval(2.5, 2.5, 2.5)


def test_intervals_are_apart_when_they_do_not_touch():
    assert Interval(1, 0, 2).apart(Interval(4, 3, 5)) and Interval(4, 3, 5).apart(Interval(1, 0, 2))
    assert not Interval(1, 0, 3).apart(Interval(4, 3, 5))


def test_chance_counts_the_ways_that_signs_could_have_fallen():
    assert chance([1, 2, 3]) == pytest.approx(2 / 8)
    assert chance([1, -1]) == 1 and chance([0, 0]) == 1
    assert chance([0.5] * 20) < 0.001
    assert chance(DICE.normal(0, 1, 20)) > 0.001


def test_many_comparisons_ask_for_more():
    assert corrected({"a": 0.01, "b": 0.04, "c": 0.03}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_in_columns_of_nothing_hardly_anything_is_found():
    wrong = 0
    for _ in range(60):
        pairs = {str(name): DICE.normal(0, 1, 20) for name in range(14)}
        wrong += any(verdict is not Verdict.SAME for verdict in verdicts(pairs, True).values())
    assert wrong <= 9


def test_a_verdict_knows_which_way_is_good():
    more, less, noise = (
        [0.5 + 0.01 * n for n in range(16)],
        [-0.5 - 0.01 * n for n in range(16)],
        [(-1) ** n for n in range(16)],
    )
    pairs = {"more": more, "less": less, "noise": noise, "same": [0.0] * 16}
    assert verdicts(pairs, True) == {
        "more": Verdict.BETTER,
        "less": Verdict.WORSE,
        "noise": Verdict.SAME,
        "same": Verdict.SAME,
    }
    assert verdicts(pairs, False) == {
        "more": Verdict.WORSE,
        "less": Verdict.BETTER,
        "noise": Verdict.SAME,
        "same": Verdict.SAME,
    }
    assert verdicts(pairs, None)["more"] is Verdict.DIFFERENT


def test_too_few_seeds_say_nothing_however_far_apart():
    assert verdicts({"far": [9.0] * 4, "same": [0.0] * 4}, True) == {"far": Verdict.UNDECIDED, "same": Verdict.SAME}
    least = least_pairs(3)
    assert verdicts({name: [9.0] * least for name in "abc"}, True)["a"] is Verdict.BETTER
    assert verdicts({name: [9.0] * (least - 1) for name in "abc"}, True)["a"] is Verdict.UNDECIDED
