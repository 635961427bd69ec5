"""Which films of a batch are done: their manifests say so, and no model is loaded to find out."""

from collections.abc import Iterable

from echo_cli.errors import EchoError
from echo_cli.models.loaders import known_digest
from echo_cli.render.batch.outcome import Film, Outcome, skipped
from echo_cli.render.decide import Told, needed
from echo_cli.render.job import Job
from echo_cli.render.manifest import Standing, standing


def split(films: Iterable[Film]) -> tuple[list[Outcome], list[Film]]:
    """What is done, and the films that are still to be made."""
    done: list[Outcome] = []
    waiting: list[Film] = []
    hashes: dict[str, str | None] = {}
    for film in films:
        if not film.job.request.force and _done(film.job, hashes):
            done.append(skipped(film))
        else:
            waiting.append(film)
    return done, waiting


def _done(job: Job, hashes: dict[str, str | None]) -> bool:
    """False also where only loading the model can tell: whoever loads it asks again."""
    if job.model not in hashes:
        try:
            hashes[job.model] = known_digest(job.model)
        except EchoError:  # reported when the model is loaded
            hashes[job.model] = None
    weights = hashes[job.model]
    return (weights is not None and standing(job.outputs, job.identity(weights)) is Standing.DONE
            and not needed(job, Told(weights)))
