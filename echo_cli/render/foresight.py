"""What a run would make of the film that is there already, before a model is loaded and before anything is written.

What only loading the model can tell, or the run itself, is left open.
"""

from typing import NamedTuple

from echo_cli.errors import EchoError, OutputError
from echo_cli.models.registry import spec_named
from echo_cli.render.decide import refusal
from echo_cli.render.job import Job
from echo_cli.render.manifest import Identity, Standing, standing, untouched
from echo_cli.render.resume import Work
from echo_cli.render.session import Session
from echo_cli.render.states import is_edit, open_ends, origin


class Foresight(NamedTuple):
    """What a run would do with the film that is there. `reuse` says that the film would be skipped, or which part of an
    earlier version would be reused; `refusal` is the error that would protect another film. Both are None if no film is
    there, or if only loading the model can tell."""

    reuse: str | None = None
    refusal: OutputError | None = None


def foresee(job: Job, session: Session) -> Foresight:
    outputs, force, film = job.outputs, job.request.force, job.outputs.film.path
    try:
        if outputs.base is None or not (any(outputs.precious()) or outputs.foreign()):
            return Foresight()
        weights = session.weights(job)
        if weights is None:
            return Foresight()
        identity = job.identity(*weights)
        if not force and standing(outputs, identity) is Standing.DONE:
            return Foresight(f"{film} is there already, made from the same storyboard, weights and settings: "
                             "it is skipped")
        if not force and (error := refusal(job, identity)):
            return Foresight(refusal=error)
        if not is_edit(job, identity, untouched(outputs, job.source_name)):
            return Foresight()
        if force or outputs.scenes:
            why = "--force" if force else "a film that keeps its scenes reuses nothing"
            return Foresight(f"{film}: an earlier version is there; it is rendered from its beginning ({why})")
        return Foresight(_reused(job, identity))
    except EchoError:  # said of the model, or when the film is rendered
        return Foresight()


def _reused(job: Job, identity: Identity) -> str | None:
    """What `generate` says of an edit when it begins. The states are not read through. Needs torch, unlike the rest."""
    from echo_cli.render.facts import machine
    from echo_cli.render.film import threads_for
    from echo_cli.render.snapshots import Edit
    from echo_cli.rollout.plan import plan_without_model
    from echo_cli.runtime import Runtime

    runtime, spec, said = Runtime.choose(job.request.device, job.request.dtype), spec_named(job.model), list[str]()
    with threads_for(spec, runtime):
        policy = plan_without_model(job.policy, job.settings, spec, job.whole, open_ends(job),
                                    job.lasting)
        if policy is None:
            return None
        film = origin(job, identity, machine(job, runtime), policy)
    edit = Edit(job, Work(job.outputs), film, policy, said.append)
    if state := edit.find(verified=False):
        return edit.report(*state)
    return said[-1] if said else f"{job.outputs.film.path}: nothing is reused; it is rendered from its beginning"
