"""From a storyboard's file and a command line to a job, checked without loading a model; no torch.

What `generate` does for one storyboard and `batch` for many. Which names the outputs get is the command's business.
"""

from collections.abc import Sequence
from dataclasses import replace

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.memory.settings import settings_type
from echo_cli.render.job import Choices, Job, job_of, read_assignments, with_choices
from echo_cli.render.outputs import Outputs
from echo_cli.render.rules import storyboard_rules
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.nouns import Storyboard
from echo_cli.storyboard.parse import load
from echo_cli.storyboard.timeline import timeline


def chosen_storyboard(
    source: str, assignments: Sequence[str], choices: Choices
) -> tuple[Storyboard, ModelSpec, Choices]:
    """The storyboard with the choices in it, its model's sizes, and the choices with the `--set` assignments read."""
    rules = storyboard_rules(choices.model)
    if choices.memory is not None:
        settings_type(choices.memory)
    written = load(source, rules)
    policy = choices.memory or written.policy or rules.default_policy
    choices = replace(choices, settings=read_assignments(list(assignments), policy))
    board = with_choices(written, choices, rules.default_model)
    if board.model not in rules.models:
        raise UsageError(f"no model is called '{board.model}'{did_you_mean(board.model, tuple(rules.models))}",
                         f"there are {', '.join(rules.models)}")
    spec = rules.models[board.model]
    spec.grid(board.size)
    return board, spec, choices


def job_for(board: Storyboard, spec: ModelSpec, outputs: Outputs, choices: Choices) -> Job:
    """The film of a chosen storyboard."""
    return job_of(board, timeline(board, spec.geometry), board.size or spec.size, outputs, choices)
