"""Whether a film has to be made, and whether it may be: asked before anything heavy is loaded, and again when it is.

Knows manifests, locks and what interrupted runs left; no torch.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from echo_cli.errors import EchoError
from echo_cli.files import partial
from echo_cli.render import manifest
from echo_cli.render.job import Job
from echo_cli.render.lock import OneWriter, check_free
from echo_cli.render.manifest import Identity, Standing
from echo_cli.render.outputs import Outputs
from echo_cli.render.resume import Checkpoint, Work


class Weights(Protocol):
    """Whatever knows the hash of a model's weights: the loaded model, or `Told`."""

    @property
    def weights_hash(self) -> str: ...


class Told(NamedTuple):
    """The hash of weights that are not loaded."""

    weights_hash: str


@dataclass(frozen=True, slots=True)
class Keeping:
    """What becomes of interrupted work. `every` so many seconds it is kept (see resume.Cadence); `restart` discards
    what an interrupted run left, which otherwise is gone on with; `tell` hears of it."""

    every: float | None = None
    restart: bool = False
    tell: Callable[[str], None] = lambda text: None


def needed(job: Job, weights: Weights, force: bool = False, keeping: Keeping = Keeping()) -> bool:
    """False when the very film is there and whole. Otherwise an error says why it could not be made: another film has
    its name, another process makes it, what an interrupted run left is of another film, or nothing can be written
    there."""
    identity, outputs = job.identity(weights.weights_hash), job.outputs
    if outputs.base is None:
        job.check_tools(keeping.tell)
        return True
    work = Work(outputs)
    if _finish(work, outputs, identity) or (not force and manifest.standing(outputs, identity) is Standing.DONE):
        _clear(work, identity)
        return False
    check_free(work.lock, work.film)
    left = begun(work, identity, keeping)
    if (
        not force
        and manifest.standing(outputs, identity, begun=left is not None or work.folder.exists()) is Standing.TAKEN
    ):
        raise manifest.refuse(outputs, identity)
    outputs.check_writable()
    job.check_tools(keeping.tell)
    return True


def begun(work: Work, identity: Identity, keeping: Keeping) -> Checkpoint | None:
    """What an interrupted run of this very film left; a UsageError if it is of another one, or not whole."""
    if keeping.restart:
        return None
    left = work.read()
    if left:
        work.check(left, identity)
    return left


def _finish(work: Work, outputs: Outputs, identity: Identity) -> bool:
    """A film that lacked nothing but names has them now."""
    if outputs.manifest is None or not partial(outputs.manifest).exists():
        return False
    with OneWriter(work.lock, work.film):
        return manifest.finish_naming(outputs, identity)


def _clear(work: Work, identity: Identity) -> None:
    """The film is whole: remove what a run that was killed at its end, or that started over, left behind."""
    if not work.folder.exists() and not work.lock.exists():
        return
    with suppress(EchoError), OneWriter(work.lock, work.film):
        left = work.read()
        if left is None or left.identity == identity.plain():
            work.discard()
