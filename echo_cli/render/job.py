"""One film to be made: what the storyboard says, with what the request said over it, and where it goes.

A job is complete and checked before anything heavy is loaded: no torch here. How it comes about is `prepare`, making
it is `film`, and whether it needs to be made is `decide`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from echo_cli import __version__
from echo_cli.memory.settings import WindowSettings
from echo_cli.models.files.eight_bits import measured
from echo_cli.models.registry import find, spec_named
from echo_cli.models.running import Running
from echo_cli.render.inputs import Input, identity_of
from echo_cli.render.manifest import Identity
from echo_cli.render.options import Decides
from echo_cli.render.outputs import Outputs, readable_name
from echo_cli.render.request import Request
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.canonical import story_hash, storyboard_hash
from echo_cli.storyboard.nouns import Block, Storyboard, Timeline
from echo_cli.storyboard.timeline import joined
from echo_cli.text import listed
from echo_cli.video.encoding import Encoding
from echo_cli.video.signing import Credentials
from echo_cli.video.sound import CODECS, Part, Sound
from echo_cli.video.sound import check as check_sound
from echo_cli.video.subtitles import Caption, Subtitles, check_burning
from echo_cli.video.tags import Chapter, Tags
from echo_cli.video.target import Movie


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that a film depends on except the weights. What the request left open is decided here, by the names of
    its options; `storyboard` says the same."""

    request: Request
    storyboard: Storyboard
    timeline: Timeline
    model: str
    seed: int
    policy: str
    settings: WindowSettings  # of the policy
    size: tuple[int, int]  # of the pictures that the model composes; the film's are `scale` times that
    scale: int
    subtitles: Subtitles
    outputs: Outputs = field(compare=False)
    notes: tuple[str, ...] = field(default=(), compare=False)  # what was left out of an imported file
    detail: int = 1  # how many times as large they are decoded
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)  # who decided what the request left open
    inputs: tuple[Input, ...] = ()  # the files that come into it

    @property
    def whole(self) -> Timeline:
        """The film with the one before it, if it continues one with its memory: as memory counts both."""
        return joined(self.timeline, self.storyboard)

    def as_counted(self, block: Block) -> Block:
        """A block of the film, as memory counts it."""
        whole = self.whole
        return whole.blocks[whole.spans[whole.first].blocks.start + block.index]

    @property
    def lasting(self) -> tuple[int, ...]:
        """The scenes, as memory counts them, that a film which continues this one may recall."""
        whole = self.whole
        if self.outputs.end is None:
            return ()
        return tuple(index for index, scene in enumerate(whole.scenes) if index not in whole.gone and (
            index < whole.first or not self.storyboard.kept or scene.id in self.storyboard.kept))

    @property
    def kept(self) -> tuple[str, ...]:
        """The ids of the scenes that later films may recall."""
        if self.outputs.scenes is None:
            return ()
        return self.storyboard.kept or tuple(scene.id for scene in self.storyboard.scenes)

    @property
    def source_name(self) -> str:
        """The name of the storyboard's file."""
        return Path(readable_name(self.storyboard.source)).name

    @property
    def keep_states(self) -> Literal["none", "last", "all"]:
        """A film that keeps its scenes keeps no states for an edit: what its scenes left would be missing there."""
        return "none" if self.outputs.scenes else self.request.keep_states

    @property
    def memory(self) -> dict[str, Any]:
        """The policy with all its settings, in plain values."""
        return {"policy": self.policy, **asdict(self.settings)}

    @property
    def decoded(self) -> tuple[int, int]:
        """The size of the pictures that the model's decoder draws."""
        return self.size[0] * self.detail, self.size[1] * self.detail

    @property
    def enlarged(self) -> float:
        """How many times as large as those the film's pictures are."""
        return self.scale / self.detail

    @property
    def encoding(self) -> Encoding:
        return self.request.encoding(self.outputs.film)

    @property
    def running(self) -> Running:
        return self.request.running

    @property
    def captions(self) -> tuple[Caption, ...]:
        fps = self.timeline.geometry.fps
        return tuple(Caption(span.pictures.start / fps, span.pictures.stop / fps, span.scene.subtitle)
                     for span in self.timeline.spans if span.scene.subtitle)

    @property
    def tags(self) -> Tags:
        """What the film says about itself: a chapter a scene, by its first subtitle line or its id."""
        return Tags(self.storyboard.title, tuple(
            Chapter((span.scene.subtitle or span.scene.id).splitlines()[0], span.pictures.start, span.pictures.stop)
            for span in self.timeline.spans
        ), self.storyboard.language)

    @property
    def options(self) -> Iterator[tuple[str, Any]]:
        """Every option of the request with its value, as it was decided if it was left open."""
        for option, asked in self.request.values():
            if option.name not in ("storyboard", "output", "settings"):
                yield option.name, getattr(self, option.name, asked)

    def identity(self, weights: str, decoder: str | None = None) -> Identity:
        """`weights` is their sha256, `decoder` that of a decoder that stands in for the codec."""
        decided, settings = dict(self.options), {}
        for option, asked in self.request.values():
            decides = option.option.decides
            if decides is Decides.FILM or (decides is Decides.FILM_IF_CHANGED and asked != option.default):
                settings[option.name] = option.option.identify(decided[option.name])
            elif decides is Decides.ENCODING and not self.outputs.film.encoder:
                settings["encoding"] = self.encoding.arguments()
        if decoder:
            settings["decoder"] = {"name": self.request.decoder, "weights": decoder}
        if self.running.fast and (near := measured(find(self.model).folder, self.spec.depth, weights)) and near.layers:
            settings["attention_in_eight_bits"] = list(near.layers)
        if self.inputs:
            settings["inputs"] = identity_of(self.inputs)
        return Identity(storyboard_hash(self.storyboard), weights, self.seed, settings, __version__,
                        story_hash(self.storyboard))

    def resuming(self) -> "Job":
        """The same, whatever was to become of older work: this process has begun it."""
        return replace(self, request=replace(self.request, resume=True))

    @property
    def spec(self) -> ModelSpec:
        """The sizes of its model."""
        return spec_named(self.model, self.generator_file)

    @property
    def generator_file(self) -> Path | None:
        """The file of the generator that takes the place of the model's own."""
        return Path(self.request.generator) if self.request.generator else None

    @property
    def font_file(self) -> Path | None:
        """The file of the font that captions are drawn with; None leaves it to the machine."""
        return Path(self.request.font) if self.request.font else None

    @property
    def sound(self) -> Sound | None:
        """What is heard: the track under the film, and those of its scenes; None in a film that cannot have sound."""
        film, fps = self.outputs.film, self.timeline.geometry.fps
        if isinstance(film, Movie) and film.suffix not in CODECS:
            return None
        seconds, files = self.timeline.pictures / fps, {each.path: each.file for each in self.inputs}
        under = [Part(Path(self.request.audio), 0.0, seconds)] if self.request.audio else []
        scenes = [Part(files[span.scene.soundtrack], span.pictures.start / fps, span.pictures.stop / fps)
                  for span in self.timeline.spans if span.scene.soundtrack]
        return Sound((*under, *scenes), seconds) if under or scenes else None

    @property
    def credentials(self) -> Credentials | None:
        """What the film is signed with."""
        certificates, key = self.request.sign_cert, self.request.sign_key
        return Credentials(Path(certificates), Path(key)) if certificates and key else None

    def check_tools(self, tell: Callable[[str], None]) -> None:
        """Whether ffmpeg can do what is asked: a moment now instead of a failure after the last block."""
        if not self.outputs.film.encoder:
            self.encoding.check(self.size[0] * self.scale, self.size[1] * self.scale)
        if self.credentials:
            self.credentials.check()
        if self.request.audio:
            check_sound(Path(self.request.audio))
        burned = self.captions if self.subtitles is Subtitles.BURN else ()
        if burned and (absent := check_burning(burned, self.font_file)):
            letters = listed([f"{letter} (U+{ord(letter):04X})" for letter in absent])
            tell("warning: no font here has these characters of the subtitles, and boxes are drawn instead: "
                 f"{letters}; --font FILE names one that has them")
