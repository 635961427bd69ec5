"""Sizes, times, counts and lists as people read them."""

import pytest

from echo_cli.text import clock, listed, or_dash, plural, ranges, size, ticks, timestamp


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (2_500_000, "2.5 MB"), (7e12, "7.0 TB"), (7e15, "7000.0 TB")])
def test_bytes_as_people_say_them(count: float, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0:00"), (42.04, "0:42"), (42.3, "0:42.3"), (59.96, "1:00"), (3723.5, "1:02:03.5"), (36_000, "10:00:00")])
def test_times_as_players_show_them(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_digits_and_hours_of_a_time() -> None:
    assert clock(7.312, 3) == "0:07.312" and clock(7.3, 3) == "0:07.3" and clock(7.05, 3) == "0:07.05"
    assert clock(14.4, 0, hours=True) == "0:00:14" and clock(3723.4, 0) == "1:02:03"
    assert timestamp(3_723_045, ",") == "01:02:03,045"


def test_one_is_singular() -> None:
    assert [plural(count, "block") for count in (0, 1, 12_000)] == ["0 blocks", "1 block", "12,000 blocks"]


def test_what_is_not_there_is_a_dash() -> None:
    assert or_dash(None, ".1f", " ms") == "–" and or_dash(1.25, ".1f", " ms") == "1.2 ms"


def test_runs_of_frames_are_joined_either_way() -> None:
    assert ranges([0, 1, 2, 8, 7, 6, 20]) == "0–2, 8–6, 20"
    assert ranges([3, None]) == "3, one frame folded from several" and ranges([None] * 2).startswith("2 frames' worth")


def test_a_long_list_says_how_many_more_there_are() -> None:
    assert listed(["a", "b"]) == "a, b" and listed(list("abcd"), 2) == "a, b and 2 more"


def test_an_axis_has_round_times() -> None:
    assert ticks(60, 7) == [0, 10, 20, 30, 40, 50, 60] and ticks(1.2, 4) == [0, 0.5, 1.0]
