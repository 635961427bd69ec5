"""A film's blocks without a file: pictures as they are rendered.

One block behind the generator, as `film` is: the pictures of a block arrive while the next one is being generated.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from echo_cli.models.backend import Backend
from echo_cli.render.decoder import Decoder, Pictures
from echo_cli.render.ends import beginning
from echo_cli.render.film import memory_errors, threads_for
from echo_cli.render.job import Job
from echo_cli.render.keepsakes import past_entries
from echo_cli.render.numbering import Numbering
from echo_cli.render.openings import Openings
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.rollout.rollout import BlockResult
from echo_cli.runtime import Runtime


def blocks(job: Job, backend: Backend, runtime: Runtime,
           tell: Callable[[str], None] = lambda text: None) -> Iterator[tuple[BlockResult, np.ndarray]]:
    """Every block with its pictures [picture, height, width, 3] uint8, as far as the film goes; the first one also with
    those that a film which this one continues has not shown."""
    made = 0
    for result, later, before in _behind(job, backend, runtime, tell):
        result.check()
        with memory_errors(job):
            pictures = later.array()
        pictures = np.concatenate((*before, pictures[len(pictures) - job.timeline.pictures_of(result.block):]))
        pictures = pictures[:job.timeline.pictures - made]
        made += len(pictures)
        yield result, pictures


Generated = tuple[BlockResult, Pictures, Sequence[np.ndarray]]


def _behind(job: Job, backend: Backend, runtime: Runtime, tell: Callable[[str], None]) -> Iterator[Generated]:
    """Each block when the next one has been launched. Between two blocks threads and inference mode are as the caller
    had them."""
    steps, before = _generated(job, backend, runtime, tell), None
    while True:
        with torch.inference_mode(), threads_for(backend.spec, runtime), memory_errors(job):
            latest = next(steps, None)
        if before:
            yield before
        if latest is None:
            return
        before = latest


def _generated(job: Job, backend: Backend, runtime: Runtime, tell: Callable[[str], None]) -> Iterator[Generated]:
    """Each block, with the pictures that come before its own."""
    policy = plan_policy(job.policy, job.settings, backend, job.whole)
    begun, state, before = None, None, []
    if job.whole.first:
        begun, state, surplus = beginning(job, backend, runtime, policy, tell)
        before = [surplus]
    past = past_entries(job, backend, policy, begun.blocks if begun else 0)
    numbers, openings = Numbering.of(job.whole), Openings(job, backend, runtime, policy.window - policy.block)
    with Decoder(backend.codec, runtime.decoding, state) as decode:
        for result in film(backend, job.whole, policy, job.seed, job.size, begun=begun, openings=openings, past=past):
            yield numbers.result(result), decode(result), before
            before = []
