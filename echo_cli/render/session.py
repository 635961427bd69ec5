"""One process that renders films one after another: load, budget, decide, render. The model stays loaded between them.

`generate` is a session of one film; batches, Ray actors, benches and the Python API use the same. It knows no list of
films, no order and no outcomes: an error is raised. torch is imported when there is a film to make.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from echo_cli.errors import EchoError, Held
from echo_cli.models.loaders import known_decoder, known_digest, load_backend
from echo_cli.models.running import Pictures, Running
from echo_cli.render.decide import KnownWeights, needed
from echo_cli.render.job import Job
from echo_cli.render.lock import check_free
from echo_cli.render.made import Made
from echo_cli.render.manifest import Standing, standing
from echo_cli.render.progress import Progress
from echo_cli.render.resume import Work
from echo_cli.render.signals import Interruption

if TYPE_CHECKING:
    from numpy import ndarray

    from echo_cli.models.backend import Backend
    from echo_cli.rollout.rollout import BlockResult
    from echo_cli.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model on its device."""

    backend: "Backend"
    runtime: "Runtime"

    def unknown_words(self, job: Job) -> list[str]:
        """Words of the job's prompts that the model does not know, each once."""
        return list(dict.fromkeys(word for scene in job.storyboard.scenes
                                  for word in self.backend.text.unknown_words(scene.prompt)))


@dataclass(frozen=True, slots=True)
class _Row:
    """The model that is loaded, or the error that loading it ended with: what cannot be loaded is not tried for every
    film. `pixels` are those of the largest pictures that it has room for."""

    wanted: tuple[str, Path | None, Running, str, str]
    pixels: int
    outcome: Loaded | Exception


class Session:
    """Holds one model at a time. A model that is `given` is used for every film."""

    def __init__(self, given: Loaded | None = None) -> None:
        self._given = given
        self._row: _Row | None = None
        self._hashes: dict[tuple[str, Path | None, Pictures], KnownWeights | None] = {}

    def done(self, job: Job) -> bool:
        """Whether the film is there; False also where only loading the model can tell, or `make` will raise an error.
        No model is loaded."""
        try:
            weights = self.weights(job)
        except EchoError:  # raised when the model is loaded
            return False
        return (weights is not None and not job.request.force
                and standing(job.outputs, job.identity(*weights)) is Standing.DONE
                and not needed(job, weights))

    def make(self, job: Job, progress: Progress, interruption: Interruption,
             ready: Callable[[Loaded], None] = lambda loaded: None, began: float | None = None) -> Made | None:
        """The film, or None if it was there already. `ready` is called between loading and making, if it is made. Its
        seconds count from now, or from when the caller `began`, without waiting for another process."""
        began = time.monotonic() if began is None else began
        until, waited = time.monotonic() + job.request.wait, 0.0
        told = list[Loaded]()

        def once(loaded: Loaded) -> None:  # though it may be tried again
            if not told:
                told.append(loaded)
                ready(loaded)

        while True:
            waited += self._wait_for_writer(job, interruption, until)
            try:
                return self._make(job, progress, interruption, once, began + waited)
            except Held:  # by a process that began while this one loaded the model
                if time.monotonic() >= until or interruption.by is not None:
                    raise
            wait(1.0, interruption)
            waited += 1.0

    def _make(self, job: Job, progress: Progress, interruption: Interruption, ready: Callable[[Loaded], None],
              began: float) -> Made | None:
        weights = None if self._given else self.weights(job)
        if weights is not None:
            if not needed(job, weights):
                return None
            interruption.check("before the first block")
            _check_tools(job, progress)
        loaded = self.load(job, progress)
        hashes = KnownWeights(loaded.backend.weights_hash, loaded.backend.decoder_hash)
        if hashes != weights:
            if not needed(job, hashes):
                return None
            job.check_tools(progress.say)
        from echo_cli.render.film import make

        ready(loaded)
        interruption.check("before the first block")
        return make(job, loaded.backend, loaded.runtime, progress, interruption, time.monotonic() - began)

    def blocks(self, job: Job, progress: Progress) -> Iterator[tuple["BlockResult", "ndarray"]]:
        """The film's blocks and their pictures [picture, height, width, 3] uint8; nothing is written."""
        from echo_cli.render.preview import blocks

        loaded = self.load(job, progress)
        yield from blocks(job, loaded.backend, loaded.runtime, progress.say)

    def load(self, job: Job, progress: Progress) -> Loaded:
        """The job's model, loaded again only for another model, or for larger pictures than it has room for."""
        if self._given:
            return self._given
        request, pixels = job.request, job.size[0] * job.size[1]
        wanted = (job.model, job.generator_file, job.running, request.device, request.dtype)
        if self._row is None or self._row.wanted != wanted or pixels > self._row.pixels:
            if self._row is not None:
                self._row = None
                release()
            self._row = _Row(wanted, pixels, _load(job, progress))
        if isinstance(self._row.outcome, Exception):
            raise self._row.outcome
        return self._row.outcome

    def weights(self, job: Job) -> KnownWeights | None:
        """The hashes of the model's weights; None where only loading can tell."""
        model, generator, pictures = wanted = job.model, job.generator_file, job.running.pictures
        if wanted not in self._hashes:
            weights = known_digest(model, generator)
            self._hashes[wanted] = KnownWeights(weights, known_decoder(model, pictures)) if weights else None
        return self._hashes[wanted]

    def _wait_for_writer(self, job: Job, interruption: Interruption, until: float) -> float:
        """Returns the seconds that it waited."""
        if job.outputs.base is None:
            return 0.0
        work, began = Work(job.outputs), time.monotonic()
        while time.monotonic() < until and interruption.by is None:
            try:
                check_free(work.lock, work.film)
                break
            except Held:
                wait(1.0, interruption)
        return time.monotonic() - began


def _check_tools(job: Job, progress: Progress) -> None:
    """Have ffmpeg tried out while torch is imported: each takes a moment, on a core of its own."""
    with ThreadPoolExecutor(1, "tools") as beside:
        checked = beside.submit(job.check_tools, progress.say)
        import_module("torch")
    checked.result()


def _load(job: Job, progress: Progress) -> Loaded | Exception:
    """A device that is not there, or a film that does not fit, is raised: another film may. So is an interruption."""
    from echo_cli.render import budget
    from echo_cli.render.film import threads_for
    from echo_cli.runtime import Runtime

    runtime, spec = Runtime.choose(job.request.device, job.request.dtype), job.spec
    running, need = budget.choose(job, spec, runtime, job.running)
    if need:
        progress.say(need)
    try:
        with threads_for(spec, runtime):
            return Loaded(load_backend(job.model, runtime, running, job.generator_file), runtime)
    except Exception as error:
        return error


def release() -> None:
    """Give back what a film that failed, or a model that is no longer wanted, still held on host and device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def wait(seconds: float, interruption: Interruption) -> None:
    until = time.monotonic() + seconds
    while interruption.by is None and time.monotonic() < until:
        time.sleep(min(0.1, seconds))
