"""One film to be made: what the storyboard says, with what the command line said over it, and where it goes.

A job is complete and checked before anything heavy is loaded: no torch here. Making it is `film`; whether it needs to
be made is `manifest`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import yaml

from echo_cli import __version__
from echo_cli.errors import UsageError, did_you_mean
from echo_cli.memory.settings import DEFAULT_POLICY, Window, read_settings, setting_names
from echo_cli.models.running import Pictures, Running
from echo_cli.render.manifest import Identity
from echo_cli.render.outputs import Outputs
from echo_cli.storyboard.canonical import storyboard_hash
from echo_cli.storyboard.nouns import Storyboard, Timeline
from echo_cli.text import listed
from echo_cli.video.encoding import Encoding
from echo_cli.video.subtitles import Caption, Subtitles, check_burning
from echo_cli.video.target import Stdout

# pixels of a film's shorter side that are pleasant on a screen; smaller pictures are enlarged to it
SMALLEST_SIDE = 480
MOST_ENLARGED = 16


@dataclass(frozen=True, slots=True)
class Choices:
    """What the command line may say over the storyboard; None leaves it to the storyboard, or to the default."""

    seed: int | None = None
    model: str | None = None
    memory: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # of the memory policy
    size: tuple[int, int] | None = None
    scale: int | None = None
    subtitles: Subtitles | None = None
    encoding: Encoding = Encoding()
    device: str = "auto"
    dtype: str = "auto"
    running: Running = Running()


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a film depends on but the weights. `storyboard` has the choices in it."""

    storyboard: Storyboard
    timeline: Timeline
    policy: str
    settings: Window
    size: tuple[int, int]  # of the model's pictures; the film's are `scale` times that
    scale: int
    subtitles: Subtitles
    encoding: Encoding
    device: str
    dtype: str
    outputs: Outputs = field(compare=False)
    running: Running = Running()

    @property
    def captions(self) -> tuple[Caption, ...]:
        fps = self.timeline.geometry.fps
        return tuple(Caption(span.pictures.start / fps, span.pictures.stop / fps, span.scene.subtitle)
                     for span in self.timeline.spans if span.scene.subtitle)

    def identity(self, weights: str) -> Identity:
        """`weights` is their sha256."""
        encoding = {} if self.outputs.film.encoder else {"encoding": self.encoding.arguments()}
        fast = {} if self.running.pictures is Pictures.FULL else {"decoder": self.running.pictures.value}
        fast |= {"fast": True} if self.running.fast else {}
        return Identity(storyboard_hash(self.storyboard), weights, self.storyboard.seed,
                        {"model": self.storyboard.model, "memory": {"policy": self.policy, **asdict(self.settings)},
                         "size": list(self.size), "scale": self.scale, "dtype": self.dtype,
                         "subtitles": self.subtitles.value, **encoding, **fast}, __version__)

    def check_tools(self, tell: Callable[[str], None]) -> None:
        """Whether ffmpeg can do what is asked: a moment now instead of a failure after the last block."""
        if not self.outputs.film.encoder:
            self.encoding.check(self.size[0] * self.scale, self.size[1] * self.scale)
        if self.subtitles is Subtitles.BURN and self.captions and (absent := check_burning(self.captions)):
            letters = listed([f"{letter} (U+{ord(letter):04X})" for letter in absent])
            tell(f"warning: no font here has these characters of the subtitles, and boxes are drawn instead: {letters}")


def with_choices(storyboard: Storyboard, choices: Choices, default_model: str) -> Storyboard:
    """The storyboard that is made. Settings that belong to another policy than the chosen one do not come along."""
    policy = choices.memory or storyboard.policy or DEFAULT_POLICY
    kept = storyboard.memory if policy == (storyboard.policy or DEFAULT_POLICY) else {}
    return replace(storyboard, model=choices.model or storyboard.model or default_model, policy=policy,
                   memory=_merged(kept, choices.settings), size=choices.size or storyboard.size,
                   seed=storyboard.seed if choices.seed is None else choices.seed)


def job_of(
    storyboard: Storyboard, timeline: Timeline, size: tuple[int, int], outputs: Outputs, choices: Choices
) -> Job:
    """`storyboard` has its choices already; `size` is the storyboard's, or else the model's own."""
    assert storyboard.policy is not None
    if choices.scale is not None and not 1 <= choices.scale <= MOST_ENLARGED:
        raise UsageError(
            f"--scale {choices.scale}: pictures can be enlarged 1 to {MOST_ENLARGED} times", "try --scale 4"
        )
    scale = choices.scale or max(1, min(MOST_ENLARGED, math.ceil(SMALLEST_SIDE / min(size))))
    return Job(
        storyboard,
        timeline,
        storyboard.policy,
        read_settings(storyboard.policy, storyboard.memory),
        size,
        scale,
        _subtitles(storyboard, outputs, choices.subtitles),
        choices.encoding,
        choices.device,
        choices.dtype,
        outputs,
        choices.running,
    )


def _subtitles(storyboard: Storyboard, outputs: Outputs, chosen: Subtitles | None) -> Subtitles:
    streamed = isinstance(outputs.film, Stdout)
    if chosen is Subtitles.SRT and streamed:
        raise UsageError("a film on standard output has no file beside it for subtitles",
                         "use --subtitles burn, or write to a file with -o")
    if chosen is not None:
        return chosen
    spoken = any(scene.subtitle for scene in storyboard.scenes)
    return Subtitles.SRT if spoken and not streamed else Subtitles.NONE


def read_assignments(assignments: list[str], policy: str) -> dict[str, Any]:
    """`--set memory.recent_frames=3` as nested values; a wrong name is answered with the nearest right one."""
    names = setting_names(policy)
    known = [f"memory.{name}" for name in names]
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        key = key.strip().replace("-", "_")
        if not equals or key not in known:
            near = did_you_mean(key, names, "memory.") if equals else ""
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
