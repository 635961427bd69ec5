"""From a request to a job: the storyboard is read; what the request says goes over it, and what the environment and
`echo.toml` say goes under it. No model is loaded; no torch.

Which storyboards are right depends on the models and memory policies that are installed: `storyboard_rules`.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.files import fitted
from echo_cli.memory.settings import changed
from echo_cli.memory.table import DEFAULT_POLICY, POLICIES, read_settings, settings_type
from echo_cli.models.loaders import family_of, locate
from echo_cli.models.registry import check_not_a_file, is_folder, names, spec_named
from echo_cli.render.assignments import merged, read_assignments
from echo_cli.render.checks import check_continued, check_series, refuse_unseen, try_settings
from echo_cli.render.defaults import NONE, Default, Defaults
from echo_cli.render.inputs import continued_film, file_problem, inputs_of
from echo_cli.render.job import Job
from echo_cli.render.outputs import Outputs, outputs_of
from echo_cli.render.request import MOST_ENLARGED, Request
from echo_cli.render.source import read_board
from echo_cli.spec import DEFAULT_MODEL, ModelSpec
from echo_cli.storyboard.canonical import canonical
from echo_cli.storyboard.document import STDIN
from echo_cli.storyboard.ends import ENDING as END
from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.nouns import Kind, Storyboard
from echo_cli.storyboard.parse import parse
from echo_cli.storyboard.rules import Rules
from echo_cli.storyboard.series import ENDING
from echo_cli.storyboard.timeline import joined, timeline
from echo_cli.text import listed
from echo_cli.video.encoding import CONTAINERS
from echo_cli.video.signing import KINDS as SIGNED
from echo_cli.video.sound import CODECS as SOUNDS
from echo_cli.video.sound import WAV
from echo_cli.video.subtitles import Subtitles
from echo_cli.video.target import Movie, Stdout

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
    origins: Mapping[str, str] = field(default_factory=dict)  # who decided what the command line left to others

    def job(self, outputs: Outputs) -> Job:
        outputs = _with_sound(self.request, self.storyboard, _with_scenes(self.request, self.storyboard, outputs))
        outputs = _with_end(self.request, self.storyboard, outputs)
        board, size = self.storyboard, self.storyboard.size or self.spec.size
        film = timeline(board, self.spec.geometry)
        if not self.request.force:
            refuse_unseen(self.spec, size)
        _check_signing(self.request, outputs)
        if not outputs.film.encoder:
            self.request.encoding(outputs.film).check_choices()
        try_settings(self.policy, board.memory, self.spec, joined(film, board))
        generator = Path(self.request.generator) if self.request.generator else None
        located = locate(self.model, generator)
        if refusal := family_of(located).refusal(located, self.request.running):
            raise refusal
        check_series(board, self.model, self.spec, generator)
        check_continued(board, self.model, self.spec, self.policy, generator)
        scale = self.request.scale or max(1, min(MOST_ENLARGED, math.ceil(SMALLEST_SIDE / min(size))))
        return Job(self.request, board, film, self.model, board.seed or 0, self.policy,
                   read_settings(self.policy, board.memory), size, scale, _subtitles(self.request, board, outputs),
                   outputs, (*self.notes, *_unheard(board, outputs)), self.spec.detail, self.origins, inputs_of(board))


def prepare(request: Request, below: Defaults = NONE) -> Job:
    """The film that a request asks for, checked; `below` has the defaults of this person and machine."""
    source = request.storyboard
    stem = "film" if isinstance(source, Storyboard) or source == STDIN else Path(source).stem
    output = None if request.output is None else os.fspath(request.output)
    with _asked_by("output", request.output, below):
        outputs = outputs_of(output, stem)
    if not isinstance(source, Storyboard) and _among(source, outputs.companions):
        raise UsageError(f"{source} has the name of a file that is written beside the film",
                         "Choose another name for the film with -o.")
    return read_storyboard(request, below).job(outputs)


def read_storyboard(request: Request, below: Defaults = NONE) -> Prepared:
    """The request's storyboard, with the request's own choices in it."""
    rules = storyboard_rules(request.model, below)
    if request.memory is not None:
        settings_type(request.memory)
    asked = request.storyboard
    written, notes = (checked(asked, rules), ()) if isinstance(asked, Storyboard) else read_board(
        os.fspath(asked), rules)
    request, origins = completed(request, written, below)
    model = request.model or written.model or DEFAULT_MODEL
    if model not in rules.models:
        check_not_a_file(model)
        raise UsageError(f"no model is called '{model}'{did_you_mean(model, tuple(rules.models))}",
                         f"The models are: {', '.join(rules.models)}.")
    spec = spec_named(model, Path(request.generator) if request.generator else None)
    with _asked_by("size", request.size, below):
        spec.grid(request.size)
    return replace(prepared(request, written, spec), notes=notes, origins=origins)


def checked(storyboard: Storyboard, rules: Rules) -> Storyboard:
    """A storyboard that was made in Python, read as if it were a file: its mistakes are the same."""
    try:
        text = yaml.safe_dump(canonical(storyboard), allow_unicode=True, sort_keys=False)
    except (yaml.YAMLError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"{storyboard.source}: it holds a value that no storyboard can say{_value(error)}",
                         "Use text, numbers, lists and mappings.") from None
    try:
        return parse(text, storyboard.source, rules)
    except StoryboardError as error:
        raise UsageError("\n".join(f"{storyboard.source}: {_unlined(mistake.message)}" for mistake in error.mistakes),
                         error.hint) from None


def _unlined(message: str) -> str:
    """A message without the lines of a text that nobody has seen."""
    message = re.sub(r"the scene on line \d+", "another scene", message)
    return re.sub(r" \((?:[\w ]+ on )?line \d+\)|, on line \d+", "", message)


def _value(error: Exception) -> str:
    """The value that YAML could not represent, where it names it."""
    value = error.args[1] if isinstance(error, yaml.representer.RepresenterError) and len(error.args) > 1 else None
    return "" if value is None else f": {value!r:.60}"


def prepared(request: Request, written: Storyboard, spec: ModelSpec) -> Prepared:
    """Settings that the storyboard gives to another policy than the chosen one do not come along."""
    model = request.model or written.model or DEFAULT_MODEL
    policy = request.memory or written.policy or DEFAULT_POLICY
    kept = written.memory if policy == (written.policy or DEFAULT_POLICY) else {}
    board = replace(written, model=model, policy=policy,
                    memory=merged(kept, read_assignments(tuple(request.settings), policy)),
                    size=request.size or written.size,
                    seed=(written.seed or 0) if request.seed is None else request.seed)
    spec.grid(board.size)
    return Prepared(request, board, spec, model, policy)


def completed(request: Request, written: Storyboard, below: Defaults) -> tuple[Request, dict[str, str]]:
    """The request, completed from `below` where neither it nor the storyboard decides an option; and the source of each
    option that the request does not decide."""
    settings = written.memory or any(scene.memory for scene in written.scenes)
    policy = written.policy or (DEFAULT_POLICY if settings else None)  # settings alone are those of the default memory
    said = {"seed": written.seed, "model": written.model, "memory": policy, "size": written.size}
    origins = {name: written.source for name, value in said.items() if value is not None}
    if written.memory:
        origins["settings"] = written.source
    used = {name: default for name, default in below.items() if name in said and name not in origins}
    for name, default in used.items():
        _check_default(name, default)
    asked = {name: default.value for name, default in used.items() if getattr(request, name) is None}
    origins |= {name: default.source for name, default in used.items()}
    policy = request.memory or policy or asked.get("memory") or DEFAULT_POLICY
    chosen = below["memory"].value if "memory" in below else DEFAULT_POLICY
    # settings belong to a memory, and do not come along to another
    if "settings" in below and policy == (below["settings"].memory or chosen):
        assignments, source, _ = below["settings"]
        with _said_by(source):
            read_settings(policy, read_assignments(assignments, policy, ""))
        asked["settings"] = (*(one for one in assignments if not _says(written.memory, one)), *request.settings)
        origins["settings"] = f"{written.source}, {source}" if written.memory else source
    return replace(request, **asked), origins


def _check_default(name: str, default: Default) -> None:
    """A UsageError that says where a model or a memory that is not here was asked for."""
    with _said_by(default.source):
        if name == "memory":
            settings_type(default.value)
        if name == "model" and default.value not in Models():
            raise UsageError(f"no model is called '{default.value}'{did_you_mean(default.value, names())}",
                             f"The models are: {', '.join(names())}.")


@contextmanager
def _said_by(source: str) -> Iterator[None]:
    """Errors begin with the place that asked for what is wrong."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{source}: {error.message}", error.hint) from None


def _asked_by(name: str, value: Any, below: Defaults) -> AbstractContextManager[None]:
    """Errors about a value that a default decided begin with its place."""
    default = below.get(name)
    return _said_by(default.source) if default and default.value == value else nullcontext()


def _says(memory: Mapping[str, Any], assignment: str) -> bool:
    """Whether a storyboard's memory decides a setting itself."""
    value: Any = memory
    for part in assignment.partition("=")[0].strip().replace("-", "_").split(".")[1:]:
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _with_scenes(request: Request, storyboard: Storyboard, outputs: Outputs) -> Outputs:
    """With the file of scenes, if one is asked for by the request or by the storyboard."""
    if request.scenes is not None:
        path = Path(request.scenes)
        if outputs.base is None:
            raise UsageError("a film on standard output keeps no scenes", "Write the film to a file with -o.")
        if path.suffix != ENDING:
            raise UsageError(f"--scenes {path}: the name does not end in {ENDING}", f"Try --scenes {path}{ENDING}.")
    elif storyboard.kept and outputs.base is not None:
        path = fitted(outputs.base, ENDING)
    else:
        return outputs
    if _among(path, [storyboard.file(series.path) for series in storyboard.series]):
        raise UsageError(f"{path}: the film would overwrite the series that it recalls scenes of",
                         "Keep its own scenes in another file: --scenes FILE.scenes.")
    return replace(outputs, scenes=path)


def _among(path: str | os.PathLike[str], others: Iterable[str | os.PathLike[str]]) -> bool:
    """Whether it is one of these files, also by the name of a link."""
    return os.path.realpath(path) in map(os.path.realpath, others)


def _with_end(request: Request, storyboard: Storyboard, outputs: Outputs) -> Outputs:
    """With the file of the film's end, if it is asked for. A film does not overwrite the one that it continues."""
    continued = storyboard.continued
    before = [] if continued is None else [storyboard.file(path) for path in (continued.path, continued.file)]
    if request.keep_end:
        if outputs.base is None:
            raise UsageError("a film on standard output keeps no end", "Write the film to a file with -o.")
        outputs = replace(outputs, end=fitted(outputs.base, END))
    for path in filter(None, (outputs.film.path if outputs.base else None, outputs.end)):
        if _among(path, before):
            raise UsageError(f"{path}: the film would overwrite the one that it continues",
                             "Choose another name with -o.")
    return outputs


def _with_sound(request: Request, storyboard: Storyboard, outputs: Outputs) -> Outputs:
    """With the file of sound that lies beside a sequence of pictures, if there is any sound."""
    if isinstance(outputs.film, Movie) and outputs.film.suffix not in SOUNDS and request.audio:
        films = [suffix for suffix in CONTAINERS if suffix in SOUNDS]
        raise UsageError(f"--audio: a {outputs.film.suffix} film has no sound",
                         f"Write a film that ends in {', '.join(films)}, or leave out --audio.")
    heard = [storyboard.file(scene.soundtrack) for scene in storyboard.scenes if scene.soundtrack]
    heard += [Path(request.audio)] if request.audio else []
    if not heard or outputs.base is None or not outputs.film.encoder:
        return outputs
    path = fitted(outputs.base, WAV)
    if _among(path, heard):
        raise UsageError(f"{path}: the sound of the film would overwrite a sound that comes into it",
                         "Move it to another folder, or give the pictures another name with -o.")
    return replace(outputs, sound=path)


def _unheard(storyboard: Storyboard, outputs: Outputs) -> list[str]:
    """What is left out of a film without sound."""
    scenes = [f"'{scene.id}'" for scene in storyboard.scenes if scene.soundtrack]
    mute = isinstance(outputs.film, Movie) and outputs.film.suffix not in SOUNDS
    return [f"left out: the soundtrack of {listed(scenes)}, since a {outputs.film.path.suffix} film has no sound"
            ] if mute and scenes else []


def _check_signing(request: Request, outputs: Outputs) -> None:
    if request.sign_cert is None and request.sign_key is None:
        return
    if request.sign_cert is None or request.sign_key is None:
        raise UsageError("--sign and --key need each other",
                         "Name both files, or set ECHO_SIGN_CERT and ECHO_SIGN_KEY.")
    if not isinstance(outputs.film, Movie) or outputs.film.suffix not in SIGNED:
        one = "" if isinstance(outputs.film, Movie) else ", since a signature belongs to one file that is complete"
        raise UsageError(f"--sign: {outputs.film.path} cannot be signed{one}",
                         f"Write a film that ends in {', '.join(SIGNED)}.")


def _subtitles(request: Request, storyboard: Storyboard, outputs: Outputs) -> Subtitles:
    streamed = isinstance(outputs.film, Stdout)
    if request.subtitles == "srt" and streamed:
        raise UsageError("a film on standard output has no file beside it for subtitles",
                         "Use --subtitles burn, or write to a file with -o.")
    if request.subtitles is not None:
        return Subtitles(request.subtitles)
    spoken = any(scene.subtitle for scene in storyboard.scenes)
    return Subtitles.SRT if spoken and not streamed else Subtitles.NONE


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


def storyboard_rules(model: str | None = None, below: Defaults = NONE) -> Rules:
    """The rules of this installation; `model` is the one that will be used whatever the storyboard says, and `below`
    what is used where it says nothing."""
    default_model = below["model"].value if "model" in below else DEFAULT_MODEL
    return Rules(models=Models(), policies=tuple(POLICIES), setting_problems=_setting_problems,
                 file_problem=file_problem, continued=continued_film, default_model=default_model,
                 default_policy=DEFAULT_POLICY, model=model)


def _setting_problems(policy: str, kind: Kind | None, values: Mapping[str, Any]) -> list[str]:
    settings: Any = settings_type(policy)()
    where = f"memory policy '{policy}'"
    problems: list[str] = []
    if kind is not None:
        whole, settings, where = settings, settings.cut(kind), f"a {kind} transition of '{policy}'"
        if settings is None:
            return [f"memory policy '{policy}' has no settings for a single transition"]
        of_film = {item.name for item in fields(whole)} - {item.name for item in fields(settings)}
        problems = [f"'{key}' is a setting of the film; write it under the film's own memory" for key in values
                    if key in of_film]
        values = {key: value for key, value in values.items() if key not in of_film}
    changed(settings, values, where, problems)
    return problems
