"""The end of a film, written for a film that continues it, and read by that one.

What stands in the file, and whether it may be believed, is `storyboard.ends`; here are the tensors: the state of the
rollout and the decoder after the last block, and the pictures of that block which the film did not show.
"""

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from echo_cli import __version__
from echo_cli.files import open_regular, partial
from echo_cli.memory.policies.base import Policy
from echo_cli.models.backend import Backend
from echo_cli.render.checks import scene_model, unlike
from echo_cli.render.facts import machine
from echo_cli.render.inputs import check_same
from echo_cli.render.job import Job
from echo_cli.render.manifest import differences
from echo_cli.rollout.rollout import Begun, BlockResult
from echo_cli.runtime import Runtime
from echo_cli.state import Nest, moved, pack, unpack
from echo_cli.state_files import DTYPES, bytes_of_tensor, write_tensors
from echo_cli.storyboard.durations import exact
from echo_cli.storyboard.ends import END_FILE, End, EndFacts, metadata, read_end
from echo_cli.storyboard.nouns import CONTINUE, Earlier, Timing

_DTYPES = {name: dtype for dtype, name in DTYPES.items()}


class Beginning(NamedTuple):
    """Where a film that continues another begins: the rollout, the decoder, and the pictures to be shown first."""

    begun: Begun
    decoder: Nest
    pictures: np.ndarray  # [picture, height, width, 3] uint8


def write_end(job: Job, backend: Backend, runtime: Runtime, policy: Policy, result: BlockResult, decoder: Nest,
              pictures: np.ndarray) -> None:
    """Write the state after the last block, with the pictures that were not shown: the file that will be the film's
    end, while it is a `.partial`."""
    path = job.outputs.end
    assert path is not None
    rollout = {name: part for name, part in result.state().items() if name != "recorder"}
    surplus = torch.from_numpy(np.ascontiguousarray(pictures))
    tensors, nest = pack({"rollout": rollout, "decoder": decoder, "pictures": surplus})
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    table = [(name, tensors[name].dtype, tuple(tensors[name].shape)) for name in order]
    digest = hashlib.sha256()
    for name in order:
        digest.update(bytes_of_tensor(tensors[name]))
    identity = job.identity(backend.weights_hash, backend.decoder_hash)
    facts = EndFacts(job.outputs.film.path.name, identity.plain(),
                     scene_model(backend.spec, job.size, backend.weights_hash), asdict(job.settings), __version__,
                     str(runtime.dtype).removeprefix("torch."), machine(job, runtime),
                     tuple(sorted(policy.needs_after(job.whole.blocks[-1]))))
    write_tensors(partial(path), table, (tensors[name] for name in order),
                  metadata(facts, _earlier(job, policy), nest, digest.hexdigest()))


def _earlier(job: Job, policy: Policy) -> Earlier:
    """What a film that continues this one has to know of it."""
    whole, film = job.whole, job.timeline
    geometry = film.geometry
    shown = film.pictures / exact(geometry.fps)
    asked = shown if job.storyboard.timing is Timing.REFERENCE else sum(
        (exact(scene.seconds) for scene in film.scenes), geometry.drift)
    return Earlier(whole.scenes, tuple(len(span.blocks) for span in whole.spans), whole.past, policy.lasting,
                   geometry.pictures(len(film.blocks) * geometry.block_frames) - film.pictures,
                   asked - shown, job.model, job.policy, job.storyboard.memory, job.size, geometry.fps, job.seed)


def beginning(job: Job, backend: Backend, runtime: Runtime, policy: Policy,
              tell: Callable[[str], None]) -> Beginning:
    """Where the film begins that continues another with its memory. A UsageError if that memory is another's."""
    continued = job.storyboard.continued
    assert continued and continued.earlier
    for each in job.inputs:
        if each.what == CONTINUE:
            check_same(each)
    end = read_end(job.storyboard.file(continued.file))
    _check(end, job, backend, runtime, policy)
    if other := differences(dict(end.facts.machine), machine(job, runtime)):
        tell(f"{end.path}: was made on another machine ({', '.join(other)}): from here on, pictures may differ from "
             "those of one film in their last bits")
    nest = _nest(end)
    pictures = nest["pictures"]
    width, height = job.decoded
    if pictures.dtype != torch.uint8 or tuple(pictures.shape) != (continued.earlier.surplus, height, width, 3):
        raise END_FILE.damaged(end.path, "its pictures are not those of the film")
    return Beginning(Begun(len(job.whole.blocks) - len(job.timeline.blocks), nest["rollout"]),
                     moved(nest["decoder"], runtime.decoding), pictures.numpy())


def _check(end: End, job: Job, backend: Backend, runtime: Runtime, policy: Policy) -> None:
    facts, model = end.facts, scene_model(backend.spec, job.size, backend.weights_hash)
    other = [f"{what} was {there}, now {here}" for what, there, here in (
        ("the model", facts.model.described, model.described),
        ("dtype", facts.dtype, str(runtime.dtype).removeprefix("torch."))) if there != here]
    last = job.whole.blocks[job.whole.spans[job.whole.first].blocks.start - 1]
    if lacks := sorted(policy.needs_after(last) - set(facts.needs)):
        other.append(f"it lacks what later scenes need ({', '.join(lacks)})")
    if other:
        raise unlike(end, other)


def _nest(end: End) -> Nest:
    """The state in an end; a UsageError if it is not what was written, or has values that are not finite."""
    tensors: dict[str, Tensor] = {}
    digest = hashlib.sha256()
    with open_regular(end.path) as file:
        for name, place in sorted(end.tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
            file.seek(place.begin)
            data = bytearray(file.read(place.end - place.begin))
            digest.update(data)
            if len(data) != place.end - place.begin:
                raise END_FILE.damaged(end.path, "it is cut short")
            dtype = _DTYPES[place.dtype]
            tensor = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
            tensors[name] = tensor.reshape(place.shape)
            if dtype.is_floating_point and not tensor.isfinite().all():
                raise END_FILE.damaged(end.path, f"{name} holds values that are not finite")
    if digest.hexdigest() != end.digest:
        raise END_FILE.damaged(end.path, "its hash differs")
    return unpack(tensors, end.nest)
