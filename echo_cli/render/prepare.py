"""From a request to a job: the storyboard is read, and what the request says over it is put into it. No model is
loaded; no torch.

Which storyboards are right depends on the models and memory policies that are installed: `storyboard_rules`.
"""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.memory.settings import changed
from echo_cli.memory.table import DEFAULT_POLICY, POLICIES, read_settings, setting_names, settings_type
from echo_cli.models.registry import check_not_a_file, is_folder, names, spec_named
from echo_cli.render.checks import refuse_unseen, try_settings
from echo_cli.render.job import Job
from echo_cli.render.outputs import Outputs, outputs_of
from echo_cli.render.request import MOST_ENLARGED, Request
from echo_cli.render.source import read_board
from echo_cli.spec import DEFAULT_MODEL, ModelSpec
from echo_cli.storyboard.canonical import canonical
from echo_cli.storyboard.document import STDIN
from echo_cli.storyboard.nouns import Kind, Storyboard
from echo_cli.storyboard.parse import parse
from echo_cli.storyboard.rules import Rules
from echo_cli.storyboard.timeline import timeline
from echo_cli.video.subtitles import Subtitles
from echo_cli.video.target import Stdout

SMALLEST_SIDE = 480  # pixels; smaller pictures are enlarged to it by default


@dataclass(frozen=True, slots=True)
class Prepared:
    """A storyboard as it will be made, on a model of known sizes; where the film goes may still be open."""

    request: Request
    storyboard: Storyboard
    spec: ModelSpec
    model: str
    policy: str
    notes: tuple[str, ...] = ()  # what was left out of an imported file

    def job(self, outputs: Outputs) -> Job:
        board, size = self.storyboard, self.storyboard.size or self.spec.size
        film = timeline(board, self.spec.geometry)
        if not self.request.force:
            refuse_unseen(self.spec, size)
        if not outputs.film.encoder:
            self.request.encoding.check_crf()
        try_settings(self.policy, board.memory, self.spec, film)
        scale = self.request.scale or max(1, min(MOST_ENLARGED, math.ceil(SMALLEST_SIDE / min(size))))
        return Job(self.request, board, film, self.model, board.seed, self.policy,
                   read_settings(self.policy, board.memory), size, scale, _subtitles(self.request, board, outputs),
                   outputs, self.notes, self.spec.detail)


def prepare(request: Request) -> Job:
    """The film that a request asks for, checked."""
    source = request.storyboard
    stem = "film" if isinstance(source, Storyboard) or source == STDIN else Path(source).stem
    output = None if request.output is None else os.fspath(request.output)
    outputs = outputs_of(output, stem)
    if not isinstance(source, Storyboard) and os.path.abspath(source) in map(os.path.abspath, outputs.companions):
        raise UsageError(f"{source} has the name of a file that is written beside the film",
                         "Choose another name for the film with -o.")
    return read_storyboard(request).job(outputs)


def read_storyboard(request: Request) -> Prepared:
    """The request's storyboard, with the request's own choices in it."""
    rules = storyboard_rules(request.model)
    if request.memory is not None:
        settings_type(request.memory)
    asked = request.storyboard
    written, notes = (checked(asked, rules), ()) if isinstance(asked, Storyboard) else read_board(
        os.fspath(asked), rules)
    model = request.model or written.model or DEFAULT_MODEL
    if model not in rules.models:
        check_not_a_file(model)
        raise UsageError(f"no model is called '{model}'{did_you_mean(model, tuple(rules.models))}",
                         f"The models are: {', '.join(rules.models)}.")
    return replace(prepared(request, written, spec_named(model)), notes=notes)


def checked(storyboard: Storyboard, rules: Rules) -> Storyboard:
    """A storyboard that was made in Python, read as if it were a file: its mistakes are the same."""
    try:
        text = yaml.safe_dump(canonical(storyboard), allow_unicode=True, sort_keys=False)
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{storyboard.source}: cannot be written down as a storyboard: {reason}",
                         "Use text, numbers, lists and mappings.") from None
    return parse(text, storyboard.source, rules)


def prepared(request: Request, written: Storyboard, spec: ModelSpec) -> Prepared:
    """Settings that the storyboard gives to another policy than the chosen one do not come along."""
    model = request.model or written.model or DEFAULT_MODEL
    policy = request.memory or written.policy or DEFAULT_POLICY
    kept = written.memory if policy == (written.policy or DEFAULT_POLICY) else {}
    board = replace(written, model=model, policy=policy,
                    memory=_merged(kept, read_assignments(tuple(request.settings), policy)),
                    size=request.size or written.size,
                    seed=written.seed if request.seed is None else request.seed)
    spec.grid(board.size)
    return Prepared(request, board, spec, model, policy)


def _subtitles(request: Request, storyboard: Storyboard, outputs: Outputs) -> Subtitles:
    streamed = isinstance(outputs.film, Stdout)
    if request.subtitles == "srt" and streamed:
        raise UsageError("a film on standard output has no file beside it for subtitles",
                         "Use --subtitles burn, or write to a file with -o.")
    if request.subtitles is not None:
        return Subtitles(request.subtitles)
    spoken = any(scene.subtitle for scene in storyboard.scenes)
    return Subtitles.SRT if spoken and not streamed else Subtitles.NONE


# Settings of the memory


def read_assignments(assignments: Sequence[str], policy: str) -> dict[str, Any]:
    """`memory.recent_frames=3` as nested values; a wrong name is answered with the nearest right one."""
    settings = setting_names(policy)
    known = [f"memory.{name}" for name in settings]
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key not in known:
            near = did_you_mean(key, settings, "memory.") if equals else ""
            what = f"there is no setting '{key}' of {policy}{near}" if equals else "it has no '='"
            groups = dict.fromkeys(name if name.count(".") == 1 else f"{name.rpartition('.')[0]}.…" for name in known)
            raise UsageError(
                f"--set {assignment}: {what}",
                "Write NAME=VALUE" + ("." if near else f"; settings are {', '.join(groups)}."),
            )
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        for part in reversed(key.split(".")[1:]):
            value = {part: value}
        values = _merged(values, value)
    return values


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return merged


# What a storyboard may ask for here


class Models(Mapping[str, ModelSpec]):
    """Every model by its name, and any folder of weights by its path."""

    def __getitem__(self, model: str) -> ModelSpec:
        if is_folder(model) or model in names(hidden=True):
            return spec_named(model)
        raise KeyError(model)

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())


def storyboard_rules(model: str | None = None) -> Rules:
    """The rules of this installation; `model` is the one that will be used whatever the storyboard says."""
    return Rules(models=Models(), policies=tuple(POLICIES), setting_problems=_setting_problems,
                 default_model=DEFAULT_MODEL, default_policy=DEFAULT_POLICY, model=model)


def _setting_problems(policy: str, kind: Kind | None, values: Mapping[str, Any]) -> list[str]:
    settings: Any = settings_type(policy)()
    where = f"memory policy '{policy}'"
    if kind is not None:
        settings, where = settings.cut(kind), f"a {kind} transition of '{policy}'"
        if settings is None:
            return [f"memory policy '{policy}' has no settings for a single transition"]
    problems: list[str] = []
    changed(settings, values, where, problems)
    return problems
