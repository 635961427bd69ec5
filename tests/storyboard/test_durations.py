"""Times as people write them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_cli.storyboard.durations import LONGEST, describe, read_duration


@pytest.mark.parametrize(("written", "seconds"), [
    (10, 10), ("10", 10), ("10s", 10), ("2.5s", Fraction(5, 2)), (3.3, Fraction(33, 10)), ("500ms", Fraction(1, 2)),
    ("1m30s", 90), ("1m 30s", 90), ("1h", 3600), ("24h", 86400), ("00:01:30", 90), ("1:30", 90), ("90:00", 5400),
    ("00:00:18.5", Fraction(37, 2)), (" 10s ", 10), ("0.1", Fraction(1, 10)),
])
def test_spellings(written: object, seconds: object) -> None:
    assert read_duration(written) == seconds


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("-3s", "is negative"),
        (-0.5, "is negative"),
        ("inf", "not a finite"),
        (float("inf"), "not a finite"),
        (float("nan"), "not a finite"),
        ("nan", "not a finite"),
        (LONGEST + 1, "longer than 168h"),
        ("9" * 39, "longer than"),
        ("9" * 50, "not a time"),
        ("", "not a time"),
        ("s", "not a time"),
        ("1:90", "not a time"),
        ("1:2:3", "not a time"),
        ("1:60:00", "not a time"),
        ("5 s", "not a time"),
        ("1e3", "not a time"),
        ("10x", "not a time"),
        ("١٠s", "not a time"),
        (None, "not a time"),
        (True, "not a time"),
        ("1s30m", "not a time"),
    ],
)
def test_refusals(written: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_duration(written)


@given(st.integers(0, LONGEST * 1000))
def test_what_is_described_reads_back_to_the_tenth(milliseconds: int) -> None:
    assert read_duration(describe(Fraction(milliseconds, 1000))) == Fraction(milliseconds, 1000)
