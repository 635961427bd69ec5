"""Whether a film has to be rendered, and whether it may be: checked before anything heavy is loaded, and again after.

Knows manifests, locks and what interrupted runs left; no torch.
"""

from contextlib import suppress
from typing import NamedTuple, Protocol

from echo_cli.errors import EchoError, OutputError
from echo_cli.files import output_errors, partial
from echo_cli.render import manifest
from echo_cli.render.job import Job
from echo_cli.render.lock import OneWriter, check_free
from echo_cli.render.manifest import Identity, Standing
from echo_cli.render.outputs import ELSEWHERE, Outputs
from echo_cli.render.resume import Checkpoint, Work
from echo_cli.render.states import is_edit, settle


class Weights(Protocol):
    """Anything that knows the hashes of a model's weights: the loaded model, or `KnownWeights`."""

    @property
    def weights_hash(self) -> str: ...

    @property
    def decoder_hash(self) -> str | None: ...


class KnownWeights(NamedTuple):
    """The hashes of weights that are not loaded."""

    weights_hash: str
    decoder_hash: str | None = None  # of a decoder that stands in for the codec


def needed(job: Job, weights: Weights) -> bool:
    """False if exactly this film is there and complete. An error says why it cannot be made: another film has its name
    (and is not an earlier version of it), another process is making it, an interrupted run of another film left its
    work there, or nothing can be written there."""
    if job.outputs.base is None:
        return True
    identity = job.identity(weights.weights_hash, weights.decoder_hash)
    with output_errors(job.outputs.film.path):
        return _needed(job, identity)


def _needed(job: Job, identity: Identity) -> bool:
    outputs, force = job.outputs, job.request.force
    work = Work(outputs)
    if _finish(work, outputs, identity) or (not force and manifest.standing(outputs, identity) is Standing.DONE):
        _clear(work, job, identity)
        return False
    check_free(work.lock, work.film)
    begun(work, job, identity)
    if not force and (error := refusal(job, identity)):
        raise error
    outputs.check_writable()
    return True


def refusal(job: Job, identity: Identity) -> OutputError | None:
    """Why a run without --force may not begin, if it would overwrite or remove what is not its own."""
    outputs, work = job.outputs, Work(job.outputs)
    if foreign := outputs.foreign():
        return foreign
    taken = manifest.standing(outputs, identity, begun=work.folder.exists()) is Standing.TAKEN
    if taken and not is_edit(job, identity, manifest.untouched(outputs, job.source_name)):
        return manifest.refuse(outputs, identity, job.source_name)
    if path := manifest.unnamed(outputs):
        return OutputError(f"{path} exists", f"Move it away, use --force to overwrite it, or {ELSEWHERE}.")
    return None


def begun(work: Work, job: Job, identity: Identity) -> Checkpoint | None:
    """What an interrupted run of the same film left, if it may be resumed; a UsageError if the checkpoint
    belongs to another film or is damaged."""
    left = work.read() if job.request.resume else None
    if left:
        work.check(left, identity)
    return left


def _finish(work: Work, outputs: Outputs, identity: Identity) -> bool:
    """Renames the files of a film that was complete except for their final names."""
    if outputs.manifest is None or not partial(outputs.manifest).exists():
        return False
    with OneWriter(work.lock, work.film):
        return manifest.finish_naming(outputs, identity)


def _clear(work: Work, job: Job, identity: Identity) -> None:
    """The film is whole: what a run that was killed at its end left for an edit becomes its states, and the rest, or
    what a run left that started over, is removed."""
    if not work.folder.exists() and not work.lock.exists():
        return
    with suppress(EchoError), OneWriter(work.lock, work.film):
        left = work.read()
        if left is None or manifest.same(left.identity, identity.plain()):
            settle(job, manifest.trace_of(job.outputs))
            work.discard()
