"""How far a batch is: each film's steps, converted to steps of the whole. Decides nothing, knows no engine."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from echo_cli.render.batch.outcome import Film, Outcome, Status
from echo_cli.render.progress import Place, Progress, Step


class Tally:
    """`films` are those to be rendered now, of `count` in the batch."""

    def __init__(self, films: Iterable[Film], count: int, teller: Progress) -> None:
        self._count = count
        self._teller = teller
        self._names = {film.number: Path(film.source).name for film in films}
        self._wanted = {film.number: film.job.timeline.pictures for film in films}
        self._made = dict.fromkeys(self._wanted, 0)

    def step(self, number: int, step: Step) -> None:
        """A block of film `number` is done."""
        self._made[number] = max(self._made[number], step.picture)  # a retry does not set progress back
        place = Place(number, self._count, self._names[number], sum(self._made.values()), sum(self._wanted.values()))
        self._teller.step(replace(step, place=place))

    def say(self, text: str) -> None:
        """Any other message worth a line."""
        self._teller.say(text)

    def over(self, outcome: Outcome) -> None:
        """This film ended: blocks that it did not render are no longer expected."""
        if outcome.number in self._wanted and outcome.status is not Status.MADE:
            self._wanted[outcome.number] = self._made[outcome.number]

    def of(self, number: int) -> Progress:
        """The progress that is passed to the renderer of one film."""
        return _OfFilm(self, number)


class _OfFilm(Progress):
    def __init__(self, tally: Tally, number: int) -> None:
        super().__init__()
        self._tally = tally
        self._number = number

    def step(self, step: Step) -> None:
        self._tally.step(self._number, step)

    def say(self, text: str) -> None:
        self._tally.say(text)
