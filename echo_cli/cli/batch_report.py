"""What a batch reports: a line per film on standard output, the rest for people on standard error."""

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from echo_cli.cli.messages import began
from echo_cli.errors import Exit
from echo_cli.faults import write_log
from echo_cli.render.progress import Progress
from echo_cli.text import clock, plural

if TYPE_CHECKING:
    from echo_cli.render.batch.outcome import Film, Outcome
    from echo_cli.render.log import Log, NoLog

NAMED = 10  # films that the summary names for an exit code


class Report:
    """Receives every outcome once, as it comes, and sums them up at the end."""

    def __init__(self, teller: Progress, count: int, as_json: bool, quiet: bool, verbose: bool,
                 log: "Log | NoLog") -> None:
        self.as_json = as_json
        self._out = sys.stdout  # kept, since an engine may redirect it
        self._teller = teller
        self._count = count
        self._log = log
        self._quiet = quiet
        self._verbose = verbose
        self._outcomes: list[Outcome] = []
        self._warnings: dict[int, list[str]] = {}

    def expect(self, film: "Film", warnings: Sequence[str]) -> None:
        """A film is about to be rendered, or planned: print its warnings."""
        for warning in warnings:
            self._teller.say(f"warning: {film.source}: {warning}")
        self._warnings.setdefault(film.number, []).extend(warnings)

    def note(self, film: "Film", text: str) -> None:
        """Print something of a film for people."""
        self._teller.say(f"{film.source}: {text}")

    def warnings(self, number: int) -> dict[str, list[str]]:
        """The warnings in a line of JSON; nothing if there were none."""
        said = self._warnings.get(number)
        return {"warnings": said} if said else {}

    def __call__(self, outcome: "Outcome") -> None:
        self._outcomes.append(outcome)
        if self.as_json:
            print(json.dumps({**outcome.plain(self._count), **self.warnings(outcome.number)}),
                  file=self._out, flush=True)
        elif outcome.exit_code is Exit.DONE and not (self._quiet or self._out.isatty()):  # a terminal shows it
            print(outcome.film, file=self._out, flush=True)
        self.tell(outcome)

    def tell(self, outcome: "Outcome") -> None:
        """The message for people; failures are printed even with --quiet."""
        from echo_cli.render.batch.outcome import Status

        where = f"[{outcome.number}/{self._count}] {outcome.source}"
        if outcome.status in (Status.FAILED, Status.HELD, Status.INTERRUPTED):
            hint = outcome.hint
            if outcome.fault:
                hint = write_log(outcome.fault, sys.argv[1:])
                self._log.line(outcome.fault)
            self._teller.warn(f"{where}: {outcome.status}, exit code {outcome.exit_code}\n{outcome.message}"
                             + (f"\nhint: {hint}" if hint else ""))
        elif outcome.status is Status.MADE:
            loading = outcome.loading_seconds or 0.0
            self._teller.say(f"{where}: {outcome.film}, {plural(outcome.pictures or 0, 'picture')}, "
                             f"{outcome.seconds:g} s of film in {outcome.wall_seconds:.1f} s"
                             + (f", {loading:.1f} s of it loading" if loading >= 0.05 else ""))
            if outcome.unknown_words:
                self._teller.say(f"warning: {outcome.source}: the model does not know these words: "
                                 + ", ".join(outcome.unknown_words))
        elif self._verbose:
            self._teller.say(
                f"{where}: {outcome.film} is there already: skipped"
                if outcome.status is Status.SKIPPED
                else f"{where}: left"
            )

    def summary(self) -> Exit:
        """Prints how many ended in which way, and which failed; returns the exit code of the batch."""
        from echo_cli.render.batch.outcome import WORST_FIRST, exit_code

        code = exit_code(self._outcomes)
        counts = Counter(outcome.status.value for outcome in self._outcomes)
        counted = f"{plural(self._count, 'storyboard')}: " + (
            ", ".join(f"{count} {what}" for what, count in counts.items()) or "none in this share")
        lines = [f"{counted}, in {clock(time.monotonic() - began(), 0, hours=True)}"]
        for failure in WORST_FIRST:
            if sources := [outcome.source for outcome in self._outcomes if outcome.exit_code is failure]:
                more = f" and {len(sources) - NAMED} more" if len(sources) > NAMED else ""
                lines.append(f"exit code {failure}: {', '.join(sources[:NAMED])}{more}")
        if code is Exit.INTERRUPTED:
            lines.append("hint: The same command resumes where this one stopped.")
        if code is Exit.DONE:
            self._teller.say("\n".join(lines))
        else:
            self._teller.warn("\n".join(lines))
            self._teller.failed(counted)
        return code
