"""A film of a batch, with its retries: whatever happens to it becomes its outcome and affects no other film."""

from echo_cli.errors import Exit
from echo_cli.render.batch.outcome import WORTH_RETRYING, Film, Outcome, Status, failed, skipped
from echo_cli.render.made import Made
from echo_cli.render.progress import Progress
from echo_cli.render.session import Loaded, Session, release, wait
from echo_cli.render.signals import Interruption

LONGEST_WAIT = 30.0  # seconds before a retry: one before the first, then twice as long each time


def make_film(session: Session, film: Film, retries: int, progress: Progress, interruption: Interruption) -> Outcome:
    for attempt in range(1, retries + 2):
        outcome, retryable = _attempt(session, film, attempt, progress, interruption)
        if not retryable or attempt > retries:
            break
        progress.say(f"{film.source}: {outcome.message}; attempt {attempt + 1} of {retries + 1} follows")
        release()
        wait(min(2.0 ** (attempt - 1), LONGEST_WAIT), interruption)
    return outcome


def _attempt(session: Session, film: Film, attempt: int, progress: Progress,
             interruption: Interruption) -> tuple[Outcome, bool]:
    """Its outcome, and whether another attempt may help; no tensor of a failure outlives this."""
    job, models = film.job if attempt == 1 else film.job.resuming(), list[Loaded]()
    try:
        made = session.make(job, progress, interruption, models.append)
        return skipped(film) if made is None else _outcome(film, made, models[0], attempt), False
    except Exception as error:  # one bad film does not stop the rest
        outcome = failed(film.number, film.source, error, film=str(job.outputs.film.path), attempts=attempt)
        return outcome, bool(models) and outcome.exit_code in WORTH_RETRYING


def _outcome(film: Film, made: Made, loaded: Loaded, attempts: int) -> Outcome:
    return Outcome(film.number, film.source, Status.MADE, Exit.DONE, str(film.job.outputs.film.path),
                   made.outputs["film"].sha256, made.pictures, made.seconds, round(made.wall_seconds, 3),
                   round(made.loading_seconds, 3), made.sittings, attempts,
                   unknown_words=tuple(loaded.unknown_words(film.job)))
