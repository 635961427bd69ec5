"""The engine of one process: films one after another, model by model and the largest pictures first, so that each model
is loaded once.
"""

from collections.abc import Iterator, Sequence

from echo_cli.models.running import Running
from echo_cli.render.batch.attempts import make_film
from echo_cli.render.batch.outcome import Film, Outcome, Status, left
from echo_cli.render.batch.request import BatchRequest
from echo_cli.render.batch.tally import Tally
from echo_cli.render.session import Session
from echo_cli.render.signals import Interruption


def by_model(films: Sequence[Film]) -> list[Film]:
    """In the order given, except that films of one model come together, large pictures first."""
    first: dict[tuple[str, Running], int] = {}
    for place, film in enumerate(films):
        first.setdefault((film.job.model, film.job.running), place)
    return sorted(films, key=lambda film: (first[film.job.model, film.job.running],
                                           -film.job.size[0] * film.job.size[1]))


def make_films(films: Sequence[Film], batch: BatchRequest, tally: Tally,
               interruption: Interruption) -> Iterator[Outcome]:
    """An outcome for every film, as it ends; after a signal, or a failure with --fail-fast, the rest are not tried."""
    session, stopped = Session(), False
    for film in by_model(films):
        outcome = left(film) if stopped else make_film(
            session, film, batch.retries, tally.of(film.number), interruption)
        tally.over(outcome)
        stopped |= outcome.status is Status.INTERRUPTED or (batch.fail_fast and outcome.status is Status.FAILED)
        yield outcome
