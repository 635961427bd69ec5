"""The word that was probably meant."""

import pytest

from echo_cli.errors import did_you_mean


@pytest.mark.parametrize(("word", "known", "meant"), [
    ("A", ["b", "a"], "a"), ("rooftop", ["Roof", "ROOFTOP"], "ROOFTOP"), ("Prompt", ["prompt"], "prompt"),
    ("durtion", ["transition", "duration"], "duration"), ("fsp", ["size", "fps"], "fps"), ("ehco", ["echo"], "echo"),
    ("recent", ["cut", "recent_frames"], "recent_frames"), ("imings", ["timing"], "timing"),
])
def test_a_slip_is_recognised_whatever_its_case(word: str, known: list[str], meant: str) -> None:
    assert did_you_mean(word, known) == f" (did you mean '{meant}'?)"


@pytest.mark.parametrize(("word", "known"), [
    ("keyframes", ["recent_frames", "cut"]), ("name", ["frames"]), ("style", ["title"]), ("nothere", ["rec"]),
    ("*", ["t"]), ("", ["a"]), ("anything", []),
])
def test_another_word_is_not_taken_for_a_slip(word: str, known: list[str]) -> None:
    assert did_you_mean(word, known) == ""


def test_what_all_words_begin_with_does_not_count() -> None:
    assert did_you_mean("ECHO_DEVIC", ["DEVICE", "SEED"], "ECHO_") == " (did you mean 'ECHO_DEVICE'?)"
    assert did_you_mean("ECHO_TRACE", ["DEVICE", "SEED"], "ECHO_") == ""
