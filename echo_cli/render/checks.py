"""What can be said of a film before it is rendered: what would fail, and what would disappoint.

One list for `validate`, `generate`, `batch` and the Python API. Loads no weights. Torch is imported only where a
storyboard has memory settings of its own, which the policy tries on the model, and where a film may need more than this
machine has.
"""

import json
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import category

from echo_cli import __version__
from echo_cli.errors import EchoError, MissingError, UsageError
from echo_cli.files import fitted
from echo_cli.memory.table import POLICIES, read_settings
from echo_cli.models.registry import MODELS
from echo_cli.render import manifest
from echo_cli.render.manifest import differences
from echo_cli.spec import DEFAULT_MODEL, ModelSpec
from echo_cli.storyboard.ends import End, read_end
from echo_cli.storyboard.matching import recalls_in, similarities
from echo_cli.storyboard.nouns import Storyboard, Timeline
from echo_cli.storyboard.series import KEYFRAMES, MOST_KEPT, SceneModel, check_model, read_scenes
from echo_cli.text import DOZEN, listed

if TYPE_CHECKING:
    from echo_cli.models.registry import Family
    from echo_cli.render.job import Job

SMALL = 512  # width of a transformer whose films fit everywhere


def refuse_unseen(spec: ModelSpec, size: tuple[int, int]) -> None:
    """A UsageError for pictures so far from what a model was trained for that they come out as stripes."""
    if spec.was_seen(size):
        return
    assert spec.widths and spec.heights
    bounds = f"{spec.widths[0]}x{spec.heights[0]} to {spec.widths[1]}x{spec.heights[1]}"
    raise UsageError(f"model '{spec.name}' makes stripes of pictures of {size[0]}x{size[1]}: it was trained for "
                     f"{spec.size[0]}x{spec.size[1]}, and sizes from {bounds} have none",
                     f"{spec.other_size(size)} --force renders it anyway.")


def try_settings(policy: str, memory: Mapping[str, Any], spec: ModelSpec, timeline: Timeline) -> None:
    """A UsageError for memory settings that the policy cannot use with this model. The defaults of every policy fit all
    built-in models, which is known without torch."""
    plain = not memory and not any(scene.memory for scene in timeline.scenes)
    if plain and policy in POLICIES.own and any(model.spec == spec for model in MODELS.own.values()):
        return
    from echo_cli.memory.policies import make_policy

    settings = read_settings(policy, memory)
    recalls = recalls_in(timeline, similarities(timeline.prompts), 1)
    make_policy(policy, settings, spec, timeline, recalls)


def scene_model(spec: ModelSpec, size: tuple[int, int] | None, weights: str) -> SceneModel:
    """What the scenes of a film are bound to."""
    grid = spec.grid(size)
    return SceneModel(spec.name, weights, spec.depth, spec.heads, spec.head_dim, grid.rows, grid.cols)


def scene_bits(spec: ModelSpec) -> int:
    """Those of the frames that a film's scenes leave: eight for a large model, whose frames are hundreds of megabytes.
    On `tiny` that costs less than 0.1 dB."""
    return 8 if spec.width > SMALL else 16


def check_series(board: Storyboard, model: str, spec: ModelSpec, generator: Path | None = None) -> None:
    """A UsageError for a series whose scenes are the memory of another model. Weights that only loading the model
    tells are compared when it is loaded."""
    if not board.series:
        return
    here = scene_model(spec, board.size, _weights(model, generator))
    for series in board.series:
        check_model(read_scenes(board.file(series.path)), here)


def _weights(model: str, generator: Path | None) -> str:
    """The hash of a model's weights; empty where only loading it tells."""
    from echo_cli.models.loaders import known_digest

    try:
        return known_digest(model, generator) or ""
    except MissingError:
        return ""


def check_continued(board: Storyboard, model: str, spec: ModelSpec, policy: str,
                    generator: Path | None = None) -> None:
    """A UsageError for the end of a film that was made otherwise than this one, which is to continue it. Weights that
    only loading the model tells are compared when it is loaded."""
    if board.continued is None or board.earlier is None:
        return
    end = read_end(board.file(board.continued.file))
    earlier, here = end.earlier, scene_model(spec, board.size, _weights(model, generator))
    theirs = end.facts.model if here.weights else replace(end.facts.model, weights="")
    width, height = board.size or spec.size
    other = differences(
        {"version": end.facts.version, "the model": theirs.described, "memory": earlier.policy,
         "size": "{}x{}".format(*earlier.size), "fps": earlier.fps},
        {"version": __version__, "the model": here.described, "memory": policy, "size": f"{width}x{height}",
         "fps": spec.geometry.at(board.fps).fps})
    if policy == earlier.policy:
        settings = json.loads(json.dumps(asdict(read_settings(policy, board.memory))))
        other += differences(dict(end.facts.settings), settings, "memory")
    if other:
        raise unlike(end, other)


def unlike(end: End, other: Sequence[str]) -> UsageError:
    """The end of a film that was made otherwise than the one which is to continue it."""
    return UsageError(f"{end.path} cannot be continued by this film: {', '.join(other)}",
                      "Make both films with the same settings, or continue the pictures alone: "
                      "continue: {film: …, state: false}.")


def kept_bytes(job: "Job", spec: ModelSpec) -> int:
    """What the film's scenes take on the disk at least; a memory policy may add to it."""
    frame = scene_bits(spec) // 4 * spec.depth * spec.grid(job.size).tokens * spec.width  # keys and values
    wanted = [index for index, scene in enumerate(job.timeline.scenes) if scene.id in job.kept][-MOST_KEPT:]
    return sum(1 + min(KEYFRAMES, len(job.timeline.frames_of(index))) for index in wanted) * frame


def warnings(board: Storyboard, spec: ModelSpec, policy: str) -> list[str]:
    """What will be rendered otherwise than its author may expect."""
    return [*_size(spec, board.size), *_rate(spec, board.fps), *_recalls(board, policy), *_kept(board),
            *_outdated(board), *_wordless(board), *_contradictions(board)]


def warnings_of(job: "Job") -> list[str]:
    """The same of a film that is about to be rendered, with what was left out of its file and what its model does not
    know."""
    return [*job.notes, *warnings(job.storyboard, job.spec, job.policy),
            *words_warning(job.model, unknown_words(job.storyboard, job.model))]


def unknown_words(board: Storyboard, model: str) -> list[str]:
    """Words of the prompts that the model does not know, each once. Nothing is loaded."""
    family = _family(model)
    return list(dict.fromkeys(word for scene in board.scenes for word in family.unknown_words(scene.prompt)))


def _contradictions(board: Storyboard) -> list[str]:
    """Warnings about prompts that say several things of which the model shows one: often a style says one of them."""
    model = board.model or DEFAULT_MODEL
    family = _family(model)
    scenes: dict[tuple[str, str], list[str]] = {}
    for number, scene in enumerate(board.scenes, start=1):
        for what, words in family.contradictions(scene.prompt):
            scenes.setdefault((what, listed([f"'{word}'" for word in words])), []).append(
                f"'{scene.id}'" if scene.id else str(number))
    said = [f"{model} shows one {what} at a time, and scene{'s' * (len(ids) > 1)} {listed(ids, 3)} "
            f"{'name' if len(ids) > 1 else 'names'} more: {words}" for (what, words), ids in scenes.items()]
    return said if len(said) <= DOZEN else [*said[:DOZEN], f"and {len(said) - DOZEN:,} more such warnings"]


def _family(model: str) -> "Family":
    from echo_cli.models.loaders import family_of
    from echo_cli.models.registry import find

    return family_of(find(model))


def words_warning(model: str, unknown: Sequence[str]) -> list[str]:
    return [f"{model} does not know these words and will not show them: {listed(unknown)}"] if unknown else []


def missing(model: str) -> list[EchoError]:
    """What this machine lacks to render with a model."""
    from echo_cli.video import ffmpeg

    return [*_failing(lambda: _check_model(model)), *_failing(ffmpeg.executable)]


class Machine:
    """What this machine says of films. A question that is the same for several films is asked once. `small` says that
    the memory which a small model's film needs is counted too, for which torch is imported."""

    def __init__(self, small: bool = False) -> None:
        self._small = small
        self._problems: dict[Hashable, list[EchoError]] = {}
        self._memory: dict[Hashable, str | None] = {}

    def problems(self, job: "Job") -> list[EchoError]:
        """Why the film cannot be rendered here; a UsageError for an encoder that cannot do what is asked."""
        request, captions = job.request, job.captions if job.subtitles == "burn" else ()
        encoder = (job.encoding, job.outputs.film.encoder is None, job.size, job.scale, captions, job.font_file)
        return [*self._lacks_model(job),
                *self._once(("device", request.device, request.dtype, _is_large(job)), lambda: _check_device(job)),
                *self._once(("memory", *self._room(job)), lambda: self._count_memory(job)),
                *_failing(job.outputs.check_folder),
                *self._once(("encoder", encoder), lambda: job.check_tools(lambda warning: None))]

    def memory(self, job: "Job") -> str | None:
        """What the film needs of the device's memory, once `problems` were asked; None for little, or if the model or
        the device is not here."""
        return self._memory.get(self._room(job))

    def _lacks_model(self, job: "Job") -> list[EchoError]:
        return self._once(("model", job.model, job.generator_file),
                          lambda: _check_model(job.model, job.generator_file))

    def _room(self, job: "Job") -> tuple[Hashable, ...]:
        """What decides how much memory a film needs."""
        return (job.model, job.generator_file, job.running, job.request.device, job.request.dtype, job.policy,
                repr(job.settings), job.size)

    def _count_memory(self, job: "Job") -> None:
        if (not self._small and not _is_large(job)) or self._lacks_model(job):
            return
        from echo_cli.render import budget
        from echo_cli.runtime import Runtime

        try:
            runtime = Runtime.choose(job.request.device, job.request.dtype)
        except MissingError:
            return
        _, self._memory[self._room(job)] = budget.choose(job, job.spec, runtime, job.running, worth=0)

    def _once(self, question: Hashable, ask: Callable[[], object]) -> list[EchoError]:
        if question not in self._problems:
            self._problems[question] = _failing(ask)
        return self._problems[question]


    def check(self, job: "Job") -> None:
        """The first reason why the film cannot be rendered here is raised."""
        for problem in self.problems(job):
            raise problem


def refuse_here(problems: Sequence[EchoError], here: bool | None, where: str = "") -> list[str]:
    """Problems of this machine as warnings; with `here` as an error, of the kind of the first."""
    messages = [problem.message for problem in problems]
    if here and problems:
        raise type(problems[0])(where + "; ".join(messages), problems[0].hint)
    return messages


def _check_model(model: str, generator: Path | None = None) -> None:
    from echo_cli.models.loaders import family_of
    from echo_cli.models.registry import find

    if not family_of(find(model)).is_here(find(model)):
        raise MissingError(f"model '{model}' is not on this machine",
                           f"Download it with `echo-cli models get {model}`; `echo-cli doctor` says what else is here.")
    if generator and not generator.is_file():
        raise MissingError(f"the generator {generator} is not on this machine", "Copy it there, or name another file.")


def _is_large(job: "Job") -> bool:
    """Whether torch is asked about device and memory: not for a small model on whatever is here."""
    return (job.request.device, job.request.dtype) != ("auto", "auto") or job.spec.width > SMALL


def _check_device(job: "Job") -> None:
    if _is_large(job):
        from echo_cli.runtime import Runtime

        Runtime.choose(job.request.device, job.request.dtype)


def _failing(ask: Callable[[], object]) -> list[EchoError]:
    """The error that a question ends with, if it does; a UsageError is raised."""
    try:
        ask()
    except UsageError:
        raise
    except EchoError as error:
        return [error]
    return []


def _size(spec: ModelSpec, size: tuple[int, int] | None) -> list[str]:
    if size in (None, spec.size):
        return []
    assert size is not None
    wide, high = (f"{side / trained:.3g} times as" if side != trained else "as"
                  for side, trained in zip(size, spec.size, strict=True))
    return [f"pictures of {size[0]}x{size[1]} are {wide} wide and {high} high as those that "
            f"{spec.name} was trained for ({spec.size[0]}x{spec.size[1]}), and may look worse"]


def _rate(spec: ModelSpec, fps: float | None) -> list[str]:
    own = spec.geometry.fps
    if fps in (None, own):
        return []
    assert fps is not None
    return [f"{spec.name} makes {own:g} pictures for a second; shown at {fps:g} a second, everything moves "
            f"{fps / own:.3g} times as fast"]


def _wordless(board: Storyboard) -> list[str]:
    """Scenes whose prompt has neither a letter nor a digit, nor any other sign that means something."""
    scenes = [f"'{scene.id}'" for scene in board.scenes if not any(
        category(sign)[0] in "LN" or category(sign) == "So" for sign in scene.prompt)]
    if not scenes:
        return []
    if len(scenes) == 1:
        return [f"the prompt of scene {scenes[0]} has no words, so what it shows is left to chance"]
    return [f"the prompts of scenes {listed(scenes, 3)} have no words, so what they show is left to chance"]


def _recalls(board: Storyboard, policy: str) -> list[str]:
    if read_settings(policy, board.memory).recalling:
        return []
    scenes = [f"'{scene.id}'" for scene in board.scenes if scene.recalls]
    if not scenes:
        return []
    able = [name for name, row in POLICIES.items() if row.settings().recalling]
    return [f"memory policy '{policy}' keeps no scenes, so nothing is recalled in {listed(scenes)}; "
            f"{', '.join(able[:-1])} and {able[-1]} can recall"]


def _outdated(board: Storyboard) -> list[str]:
    """Files of scenes whose films have been rendered again since, without keeping scenes."""
    said = []
    for series in board.series:
        base = board.file(series.path).with_suffix("")
        outputs = (manifest.read(fitted(base, ".manifest.json")) or {}).get("outputs", {})
        film = outputs.get("film", {}).get("name", "")
        if Path(film).stem == base.name and "scenes" not in outputs:
            said.append(f"{series.path} is of an earlier version of {film}, which keeps no scenes now: what it recalls "
                        "may not be in that film any more")
    return said


def _kept(board: Storyboard) -> list[str]:
    if len(board.kept) <= MOST_KEPT:
        return []
    return [f"{len(board.kept)} scenes are to be kept, and a film keeps the last {MOST_KEPT} of them; list those that "
            "matter under keep_scenes"]
