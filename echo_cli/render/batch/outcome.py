"""The outcome of each film of a batch, and the exit code of the whole batch. Plain values, no torch."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from echo_cli.errors import EchoError, Exit
from echo_cli.faults import details, known
from echo_cli.render.job import Job

# The exit codes of failures, in order of precedence: retryable failures first.
WORST_FIRST = (Exit.INTERRUPTED, Exit.OUTPUT, Exit.MISSING, Exit.MEMORY, Exit.FAULT, Exit.USAGE)
WORTH_RETRYING = (Exit.OUTPUT, Exit.MEMORY, Exit.FAULT)  # a full disk may be emptied, memory may be freed


@dataclass(frozen=True, slots=True)
class Film:
    """A storyboard's place in the batch, from 1, and the film it becomes."""

    number: int
    source: str
    job: Job

    def waited(self, seconds: float) -> "Film":
        """The same, waited for so long while another process renders it."""
        return replace(self, job=replace(self.job, request=replace(self.job.request, wait=seconds)))


class Status(StrEnum):
    MADE = "made"
    SKIPPED = "skipped"  # it had been done already
    FAILED = "failed"
    HELD = "held"  # another process renders it
    INTERRUPTED = "interrupted"
    LEFT = "left"  # not tried, because the batch stopped before it


@dataclass(frozen=True, slots=True)
class Outcome:
    """A film's end. `fault` is the traceback of an internal error."""

    number: int
    source: str
    status: Status
    exit_code: Exit | None = None
    film: str | None = None
    sha256: str | None = None
    pictures: int | None = None
    seconds: float | None = None
    wall_seconds: float | None = None
    loading_seconds: float | None = None
    sittings: int | None = None
    attempts: int | None = None
    message: str | None = None
    hint: str | None = None
    unknown_words: tuple[str, ...] = ()
    fault: str | None = None

    def plain(self, count: int) -> dict[str, Any]:
        """As one line of JSON, among `count` films."""
        facts = {"film": self.film, "sha256": self.sha256, "pictures": self.pictures, "seconds": self.seconds,
                 "wall_seconds": self.wall_seconds, "loading_seconds": self.loading_seconds,
                 "sittings": self.sittings, "attempts": self.attempts,
                 "message": self.message, "hint": self.hint, "unknown_words": list(self.unknown_words) or None}
        return {"job": self.number, "jobs": count, "storyboard": self.source, "status": self.status.value,
                "exit_code": None if self.exit_code is None else int(self.exit_code),
                **{name: fact for name, fact in facts.items() if fact is not None}}


def skipped(film: Film) -> Outcome:
    return Outcome(film.number, film.source, Status.SKIPPED, Exit.DONE, str(film.job.outputs.film.path))


def left(film: Film) -> Outcome:
    return Outcome(film.number, film.source, Status.LEFT, None, str(film.job.outputs.film.path))


def failed(number: int, source: str, error: Exception, **facts: Any) -> Outcome:
    """A failure, an interruption, or a film that another process is rendering, with the message of its error; one that
    nobody expected is an internal error. A batch has no -o."""
    problem = known(error)
    if problem is None:
        problem = EchoError(f"{source}: {type(error).__name__}: {error}")
        facts["fault"] = details(error)
    problem.respell({"-o": "--out-dir"})
    return Outcome(number, source, Status(problem.status), problem.exit_code, message=problem.message,
                   hint=problem.hint, **facts)


def exit_code(outcomes: Iterable[Outcome]) -> Exit:
    """DONE if every film is; otherwise that of the failure that a farm should respond to first."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in WORST_FIRST if code in codes), Exit.DONE)
