"""The engine of one process: films one after another, model by model and the largest pictures first, so that each model
is loaded once.
"""

from collections import deque
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


def postponed(film: Film, outcome: Outcome) -> str:
    """What is said of a film that another process renders, when others are rendered first."""
    return f"{film.source}: {outcome.message}; continuing with the next film, and back to this one at the end"


def make_films(films: Sequence[Film], batch: BatchRequest, tally: Tally,
               interruption: Interruption) -> Iterator[Outcome]:
    """An outcome for every film, as it ends; after a signal, or a failure with --fail-fast, the rest are not tried. A
    film that another process renders is put off to the end, and only there waited for."""
    session, stopped, waiting, put_off = Session(), False, deque(by_model(films)), set[int]()
    while waiting:
        film = waiting.popleft()
        last = film.number in put_off or not waiting
        outcome = left(film) if stopped else make_film(
            session, film if last else film.waited(0.0), batch.retries, tally.of(film.number), interruption)
        if outcome.status is Status.HELD and not last:
            tally.say(postponed(film, outcome))
            put_off.add(film.number)
            waiting.append(film)
            continue
        tally.over(outcome)
        stopped |= outcome.status is Status.INTERRUPTED or (batch.fail_fast and outcome.status is Status.FAILED)
        yield outcome
