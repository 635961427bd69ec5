"""One process that makes films one after another: the model stays loaded, and no film's failure is another's.

Both engines work through it. It knows no list of films and no order: whoever hands them over does.
"""

import gc
import time

import torch

from echo_cli.errors import EchoError, Exit, OutputError
from echo_cli.faults import details, known
from echo_cli.models.backend import Backend
from echo_cli.models.loaders import load_backend
from echo_cli.models.registry import spec_named
from echo_cli.models.running import Running
from echo_cli.render import budget as room
from echo_cli.render.batch.outcome import WORTH_RETRYING, Film, Outcome, Status, failed, skipped
from echo_cli.render.decide import Keeping, needed
from echo_cli.render.film import Made, make
from echo_cli.render.job import Job
from echo_cli.render.lock import check_free
from echo_cli.render.progress import Progress
from echo_cli.render.resume import Work
from echo_cli.render.signals import Interruption
from echo_cli.runtime import Runtime

LONGEST_WAIT = 30.0  # seconds before another attempt; the first waits one, each later one twice as long


class Studio:
    """Holds one model at a time, and an error as well as a model: what cannot be loaded is not tried for every film.
    `patience` is how long it waits for another process that makes the very film, and may be dead."""

    def __init__(self, retries: int = 0, patience: float = 0.0) -> None:
        self._retries = retries
        self._patience = patience
        self._runtime: Runtime | None = None
        self._loaded: Backend | Exception | None = None
        self._of: tuple[str, Running] | None = None  # which model was loaded, and how it was to be run
        self._pixels = 0  # of the largest pictures that it has room for

    def make(self, film: Film, progress: Progress, interruption: Interruption) -> Outcome:
        """Whatever happens to the film, told as its outcome."""
        for attempt in range(1, self._retries + 2):
            outcome, worth = self._attempt(film, attempt, progress, interruption)
            if not worth or attempt > self._retries:
                break
            progress.say(
                f"{film.source}: {outcome.message}; attempt {attempt + 1} of {self._retries + 1} follows"
            )
            _free()
            _wait(min(2.0 ** (attempt - 1), LONGEST_WAIT), interruption)
        return outcome

    def _attempt(
        self, film: Film, attempt: int, progress: Progress, interruption: Interruption
    ) -> tuple[Outcome, bool]:
        """What became of it, and whether trying again may help; no tensor of a failure outlives this."""
        begun, where, request = False, str(film.job.outputs.film.path), film.job.request
        # what a failed attempt left is gone on with, whatever was to become of older work
        keeping = Keeping(request.checkpoint_every, not request.resume and attempt == 1, progress.say)
        try:
            interruption.check("before the first block")
            self._wait_for_writer(film.job, interruption)
            backend = self._backend(film.job, progress)
            if not needed(film.job, backend, request.force, keeping):
                return skipped(film), False
            begun = True
            made = make(film.job, backend, self._running(film.job), progress, interruption, keeping)
            return _outcome(film, made, backend, attempt), False
        except Exception as error:  # one bad film does not stop the rest
            problem = known(error)
            fault = None if problem else details(error)
            problem = problem or EchoError(f"{film.source}: {type(error).__name__}: {error}")
            return (failed(film.number, film.source, problem, film=where, attempts=attempt, fault=fault),
                    begun and problem.exit_code in WORTH_RETRYING)

    def _wait_for_writer(self, job: Job, interruption: Interruption) -> None:
        work, until = Work(job.outputs), time.monotonic() + self._patience
        while time.monotonic() < until and interruption.by is None:
            try:
                return check_free(work.lock, work.film)
            except OutputError:
                _wait(1.0, interruption)

    def _running(self, job: Job) -> Runtime:
        if self._runtime is None:
            self._runtime = Runtime.choose(job.request.device, job.request.dtype)
        return self._runtime

    def _backend(self, job: Job, progress: Progress) -> Backend:
        """The job's model, loaded anew only for another model, or for pictures that it was given no room for."""
        wanted, pixels = (job.model, job.running), job.size[0] * job.size[1]
        if self._of != wanted or pixels > self._pixels:
            self._of, self._pixels, self._loaded = None, 0, None
            _free()
            model, runtime = job.model, self._running(job)
            # a smaller film may fit if this cannot
            running, need = room.choose(job, spec_named(model), runtime, job.running)
            if need:
                progress.say(need)
            try:
                self._loaded = load_backend(model, runtime, running)
            except Exception as error:
                self._loaded = error
            self._of, self._pixels = wanted, pixels
        if isinstance(self._loaded, Exception):
            raise self._loaded
        return self._loaded


def _outcome(film: Film, made: Made, backend: Backend, attempts: int) -> Outcome:
    prompts = (scene.prompt for scene in film.job.storyboard.scenes)
    unknown = dict.fromkeys(word for prompt in prompts for word in backend.text.unknown_words(prompt))
    return Outcome(film.number, film.source, Status.MADE, Exit.DONE, str(film.job.outputs.film.path),
                   made.outputs["film"].sha256, made.pictures, made.seconds, round(made.wall_seconds, 3),
                   made.sittings, attempts, unknown_words=tuple(unknown))


def _free() -> None:
    """What a film that failed still held, on host and device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _wait(seconds: float, interruption: Interruption) -> None:
    until = time.monotonic() + seconds
    while interruption.by is None and time.monotonic() < until:
        time.sleep(min(0.1, seconds))
