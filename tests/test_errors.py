"""The word that was probably meant; and errors pass from one process to another."""

import errno
import pickle

import pytest

from echo_cli import faults
from echo_cli.errors import Damaged, EchoError, Exit, ReaderGone, did_you_mean
from echo_cli.storyboard.mistakes import Mark, Mistake, StoryboardError

SPECIAL = {
    Damaged: Damaged("film.state is cut off"),
    ReaderGone: ReaderGone(),
    StoryboardError: StoryboardError("a.yaml", [Mistake(Mark(2, 3), "no prompt"), Mistake(Mark(1, 1), "no id")],
                                     "Write both.", 7),
}


def kinds(kind: type[EchoError]) -> list[type[EchoError]]:
    return [kind, *(each for below in kind.__subclasses__() for each in kinds(below))]


@pytest.mark.parametrize("kind", kinds(EchoError))
def test_an_error_passes_between_processes_as_it_is(kind: type[EchoError]) -> None:
    error = SPECIAL.get(kind) or kind("no film is there", "Render it.")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind and str(copy) == str(error)
    assert vars(copy) == vars(error) and copy.where == error.where


def test_a_path_that_may_not_be_looked_at_is_no_fault_of_ours() -> None:
    problem = faults.known(PermissionError(errno.EACCES, "Permission denied", "locked/x.edl"))
    assert problem and (problem.exit_code, problem.message) == (Exit.USAGE, "locked/x.edl: permission denied")
    full = faults.known(OSError(errno.ENOSPC, "No space left on device"))
    assert full and full.message == "cannot write standard output: the disk is full" and full.hint == "Free some space."


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
