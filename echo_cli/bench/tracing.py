"""What a trace costs: the same film rendered with and without a trace, alternately, in one process.

Alternately, because machines are shared and noisy: the ratio within a pair counts, not a time.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass, replace

from echo_cli.bench.footprint import job_for, story
from echo_cli.models.backend import Backend
from echo_cli.render.progress import Progress
from echo_cli.render.session import Loaded, Session
from echo_cli.render.signals import Interruption
from echo_cli.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Cost:
    """Processor seconds of each pair, with a trace and without."""

    traced: tuple[float, ...]
    untraced: tuple[float, ...]

    @property
    def ratios(self) -> list[float]:
        return sorted(traced / untraced for traced, untraced in zip(self.traced, self.untraced, strict=True))

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)


def measure(backend: Backend, runtime: Runtime, seconds: float, pairs: int) -> Cost:
    """`pairs` films of `seconds` with a trace and as many without; the order alternates."""
    spent: dict[bool, list[float]] = {True: [], False: []}
    for pair in range(-1, pairs):  # the first pair warms up and does not count
        for traced in (True, False) if pair % 2 else (False, True):
            took = _one(backend, runtime, seconds, traced)
            if pair >= 0:
                spent[traced].append(took)
    return Cost(tuple(spent[True]), tuple(spent[False]))


def _one(backend: Backend, runtime: Runtime, seconds: float, traced: bool) -> float:
    with tempfile.TemporaryDirectory(prefix="echo-tracing-") as folder, Interruption() as interruption:
        job = job_for(story(seconds), backend, f"{folder}/film.mp4")
        if not traced:
            job = replace(job, outputs=replace(job.outputs, trace=None))
        began: list[float] = []
        Session(given=Loaded(backend, runtime)).make(
            job, Progress(), interruption, lambda loaded: began.append(time.process_time()))
        return time.process_time() - began[0]
