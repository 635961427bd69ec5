"""A film's blocks without a file: pictures as they are rendered.

One block behind the generator, as `film` is: the pictures of a block arrive while the next one is being generated.
"""

from collections.abc import Iterator

import numpy as np
import torch

from echo_cli.models.backend import Backend
from echo_cli.render.decoder import Decoder, Pictures
from echo_cli.render.film import memory_errors, threads_for
from echo_cli.render.job import Job
from echo_cli.render.keepsakes import past_entries
from echo_cli.render.openings import Openings
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.rollout.rollout import BlockResult
from echo_cli.runtime import Runtime


def blocks(job: Job, backend: Backend, runtime: Runtime) -> Iterator[tuple[BlockResult, np.ndarray]]:
    """Every block with its pictures [picture, height, width, 3] uint8, as far as the film goes."""
    made = 0
    for result, later in _behind(job, backend, runtime):
        result.check()
        with memory_errors(job):
            pictures = later.array()
            pictures = pictures[len(pictures) - job.timeline.pictures_of(result.block):][:job.timeline.pictures - made]
        made += len(pictures)
        yield result, pictures


def _behind(job: Job, backend: Backend, runtime: Runtime) -> Iterator[tuple[BlockResult, Pictures]]:
    """Each block when the next one has been launched. Between two blocks threads and inference mode are as the caller
    had them."""
    steps, before = _generated(job, backend, runtime), None
    while True:
        with torch.inference_mode(), threads_for(backend.spec, runtime), memory_errors(job):
            latest = next(steps, None)
        if before:
            yield before
        if latest is None:
            return
        before = latest


def _generated(job: Job, backend: Backend, runtime: Runtime) -> Iterator[tuple[BlockResult, Pictures]]:
    policy = plan_policy(job.policy, job.settings, backend, job.timeline)
    past = past_entries(job, backend, policy)
    with Decoder(backend.codec, runtime.decoding) as decode:
        openings = Openings(job, backend, runtime, policy.window - policy.block)
        for result in film(backend, job.timeline, policy, job.seed, job.size, openings=openings, past=past):
            yield result, decode(result)
