"""The nouns of a film: scenes in a storyboard, blocks in a timeline.

Plain frozen data. How YAML becomes a storyboard is `parse`; how seconds become blocks is `timeline`; neither is known
here, and no model either: a model appears only as `Geometry`, the counts that divide time.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

VERSION = 1  # of the storyboard's format
AUTO = "auto"  # recall:auto, the scene is chosen by matching prompts
LONGEST_ID = 64
SEEDS = (0, 2**63 - 1)  # the least and the greatest seed
SCENE_ID = re.compile(rf"[^\s:/\\]{{1,{LONGEST_ID}}}")


class Carries(Enum):
    """Which earlier scene comes along when a scene begins."""

    CHAIN = "the one that opened the chain of such transitions"
    PREVIOUS = "the previous one, briefly"
    TARGET = "the one that is named after a colon, or matched"


class Kind(StrEnum):
    """How a scene begins: one row for each kind. The first scene of a film has no kind."""

    SMOOTH = "smooth", Carries.CHAIN, ""
    HARD_CUT = "hard cut", Carries.PREVIOUS, "#", ("hardcut", "cut")
    RECALL = "recall", Carries.TARGET, "@"

    carries: Carries
    mark: str  # of the reference implementation's prompt format
    aliases: tuple[str, ...]  # other words that people type; spaces, dashes and underscores are the same

    def __new__(cls, name: str, carries: Carries, mark: str, aliases: tuple[str, ...] = ()) -> "Kind":
        kind = str.__new__(cls, name)
        kind._value_, kind.carries, kind.mark, kind.aliases = name, carries, mark, aliases
        return kind

    @property
    def setting(self) -> str:
        """The name of its settings in policies that have any."""
        return self.value.replace(" ", "_")

    @property
    def continues(self) -> bool:
        """Whether the scene continues the one before it."""
        return self.carries is Carries.CHAIN

    @property
    def targeted(self) -> bool:
        """Whether it names an earlier scene: `recall:rooftop`."""
        return self.carries is Carries.TARGET

    @property
    def breaks(self) -> bool:
        """Whether the scene leaves the one before it behind."""
        return self.carries is Carries.PREVIOUS

    @property
    def spellings(self) -> tuple[str, ...]:
        """How it is written, with placeholders for what it names."""
        return (f"{self.value}:<scene-id>", f"{self.value}:{AUTO}") if self.targeted else (self.value,)


def kind_named(word: str) -> Kind | None:
    """The kind that a word means, in any case and with any separators."""
    plain = re.sub(r"[\s_-]+", " ", word.strip().lower())
    return next((kind for kind in Kind if plain in (kind.value, *kind.aliases)), None)


class Fit(StrEnum):
    """How a picture of another shape fills the film's."""

    COVER = "cover"  # what is outside is cut off
    CONTAIN = "contain"  # what is left over stays black
    STRETCH = "stretch"


CENTRE = (0.5, 0.5)
PICTURE, CLIP, SOUNDTRACK = "picture", "clip", "soundtrack"
CONTINUE = "continue"  # the key that names the film which this one continues


@dataclass(frozen=True, slots=True)
class Opening:
    """What a scene begins with, beside its prompt: a picture, or `seconds` of a clip that start at `begins`. `focus` is
    the point, in shares of width and height, that stays in view when a picture is cut to cover the film's shape."""

    path: str  # as it is written: relative to the storyboard's folder
    fit: Fit = Fit.COVER
    focus: tuple[float, float] = CENTRE
    what: str = PICTURE  # the key that names its file
    begins: float | None = None  # seconds; None for the end of a clip
    seconds: float | None = None  # None for as much as the model's window takes


@dataclass(frozen=True, slots=True)
class Scene:
    """One prompt and its time. `recall` names an earlier scene's id, or AUTO, exactly when `transition` is RECALL."""

    id: str
    prompt: str
    seconds: float
    transition: Kind | None = None
    recall: str | None = None
    subtitle: str | None = None
    seed: int | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    opening: Opening | None = None
    soundtrack: str | None = None  # the path of a file as it is written; its sound begins with the scene
    line: int = 0
    column: int = 0

    @property
    def recalls(self) -> bool:
        return self.transition is not None and self.transition.targeted


@dataclass(frozen=True, slots=True)
class PastScene:
    """A finished scene of another film, in one of the series that a storyboard names."""

    series: str
    id: str
    prompt: str

    @property
    def name(self) -> str:
        """As a storyboard names it: `recall:episode-1/rooftop`."""
        return f"{self.series}/{self.id}"


@dataclass(frozen=True, slots=True)
class Series:
    """A file of scenes of other films: `path` is as the storyboard writes it, `name` as it recalls them."""

    path: str
    name: str
    scenes: tuple[PastScene, ...]


@dataclass(frozen=True, slots=True)
class Earlier:
    """What is known of a film that another continues with its memory: its scenes with their numbers of blocks, the
    scenes of yet other films that it could recall, and its choices. The scenes of the numbers in `kept` can be
    recalled. `surplus` pictures of its last block were not shown, and `drift` seconds more were asked for than
    shown."""

    scenes: tuple[Scene, ...]
    counts: tuple[int, ...]
    past: tuple[PastScene, ...]
    kept: frozenset[int]
    surplus: int
    drift: Fraction
    model: str
    policy: str
    memory: Mapping[str, Any]
    size: tuple[int, int]
    fps: float
    seed: int

    def number(self, scene: str) -> int | None:
        """The number of the scene with this id."""
        return next((index for index, each in enumerate(self.scenes) if each.id == scene), None)


@dataclass(frozen=True, slots=True)
class Continued:
    """The film that this one continues: `path` is as the storyboard writes it, `name` as scenes of it are recalled, and
    `file` is the path of what is read. Without `earlier`, its last pictures become this film's past; it lasts `seconds`
    (None: unknown). `state` says whether its memory may be used. One that is not `usable` has been noted as a mistake,
    and what it would allow is not known."""

    path: str
    name: str
    file: str
    seconds: float | None = None
    earlier: Earlier | None = None
    state: bool = True
    usable: bool = True

    @property
    def recallable(self) -> bool:
        """Whether scenes of it can be recalled, as far as is known."""
        return self.earlier is not None or not self.usable


def beside(film: str, ending: str) -> str:
    """The path of a companion of the film at a path, which may be any text: `.` and `/` have no name."""
    path = Path(film)
    return str(path.parent / (path.stem + ending))


class Timing(StrEnum):
    """How seconds become blocks: rounded from the film's beginning, or scene by scene as the reference does."""

    CUMULATIVE = "cumulative"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Storyboard:
    """A film as its author asked for it. Prompts already begin with the style; None leaves a choice open."""

    scenes: Sequence[Scene]
    title: str | None = None
    seed: int | None = None  # 0 where nobody says otherwise
    model: str | None = None
    policy: str | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)  # settings of the policy
    size: tuple[int, int] | None = None  # width, height
    fps: float | None = None
    timing: Timing = Timing.CUMULATIVE
    source: str = "storyboard"  # the file it came from, for messages and for the paths in it
    series: tuple[Series, ...] = ()
    language: str | None = None  # of what is seen and heard, as ISO 639-2 has it
    kept: tuple[str, ...] = ()  # ids of the scenes that later films may recall
    continued: Continued | None = None

    @property
    def past(self) -> tuple[PastScene, ...]:
        """The scenes before its own: those of its series, one after the other, and those of a film that it continues
        with its memory, after those that this film could recall."""
        series = (scene for series in self.series for scene in series.scenes)
        if self.continued is None or (earlier := self.earlier) is None:
            return tuple(series)
        known = {scene.name for scene in earlier.past}
        own = (PastScene(self.continued.name, scene.id, scene.prompt) for scene in earlier.scenes)
        return (*(scene for scene in series if scene.name not in known), *earlier.past, *own)

    @property
    def earlier(self) -> Earlier | None:
        """The film that it continues with its memory."""
        return self.continued.earlier if self.continued else None

    def file(self, path: str) -> Path:
        """The file that a path in the storyboard means."""
        return Path(self.source).parent / path


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a model divides time: latent frames in a block, pictures in a latent frame, pictures in a second.

    The pictures of frame n end `offset` pictures after n * frame_pictures. By default the first frame is one picture
    alone; a film that continues another says otherwise by `ahead`: if negative, the pictures of its first frames are
    those that the other film has shown. `past` is how many of these frames a memory takes, and
    `drift` is how many seconds more than it has shown the other film was asked for."""

    block_frames: int = 3
    frame_pictures: int = 4
    fps: float = 16.0
    ahead: int | None = None
    past: int = 18
    drift: Fraction = Fraction(0)

    @property
    def offset(self) -> int:
        return 1 - self.frame_pictures if self.ahead is None else self.ahead

    @property
    def shown_before(self) -> int:
        """Latent frames at the beginning of a film whose pictures belong to the film that it continues."""
        return max(0, -self.offset // self.frame_pictures)

    def pictures(self, frames: int) -> int:
        """Pictures of the film that come before those of latent frame `frames`."""
        return max(0, self.offset + frames * self.frame_pictures)

    @property
    def block_pictures(self) -> int:
        return self.block_frames * self.frame_pictures

    def at(self, fps: float | None) -> "Geometry":
        """The same with another frame rate; None keeps the model's own."""
        return self if fps is None else replace(self, fps=fps)


@dataclass(frozen=True, slots=True)
class Block:
    """The unit of generation: `frames` latent frames of one scene, written together."""

    index: int
    scene: int
    number: int  # which block of its scene, from 0
    frames: range  # latent frames of the film
    opens: bool
    closes: bool


@dataclass(frozen=True, slots=True)
class Blocks(Sequence[Block]):
    """The blocks of consecutive scenes. Each is created on demand: a week of film has 800,000."""

    edges: tuple[int, ...]  # the first block of each scene, and how many there are in all
    frames: int  # latent frames of a block

    def __len__(self) -> int:
        return self.edges[-1]

    def __iter__(self) -> Iterator[Block]:
        return map(self._block, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Block: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Block, ...]: ...
    def __getitem__(self, index: int | slice) -> Block | tuple[Block, ...]:
        numbers = range(len(self))[index]
        return self._block(numbers) if isinstance(numbers, int) else tuple(map(self._block, numbers))

    def _block(self, index: int) -> Block:
        scene = bisect_right(self.edges, index) - 1
        begin, end = self.edges[scene:scene + 2]
        frames = range(index * self.frames, (index + 1) * self.frames)
        return Block(index, scene, index - begin, frames, opens=index == begin, closes=index == end - 1)


@dataclass(frozen=True, slots=True)
class SceneSpan:
    """A scene placed in the film: half-open ranges of blocks and of pictures."""

    scene: Scene
    blocks: range
    pictures: range
    asked: tuple[float, float]  # seconds, as the author wrote them


@dataclass(frozen=True)
class Timeline:
    """The film as it will be rendered. `pictures` is its exact length; surplus pictures of the last block are trimmed.
    `past` are the scenes of other films that may be recalled: they have the numbers before 0."""

    spans: tuple[SceneSpan, ...]
    blocks: Blocks
    pictures: int
    geometry: Geometry
    past: tuple[PastScene, ...] = ()
    first: int = 0  # scene that is not yet made: those before it are of a film that this one continues
    gone: frozenset[int] = frozenset()  # numbers of scenes that cannot be recalled any more

    @cached_property
    def scenes(self) -> tuple[Scene, ...]:
        return tuple(span.scene for span in self.spans)

    @cached_property
    def prompts(self) -> list[str]:
        """Those of the past scenes and of the film's own, in the order of their numbers."""
        return [*(scene.prompt for scene in self.past), *(scene.prompt for scene in self.scenes)]

    def pictures_of(self, block: Block) -> int:
        """How many of the pictures that a block decodes to, the last ones, belong to the film, but for its end."""
        return self.geometry.pictures(block.frames.stop) - self.geometry.pictures(block.frames.start)

    def name_of(self, scene: int) -> str:
        """What a storyboard calls a scene of this film, or of another one."""
        return self.scenes[scene].id if scene >= 0 else self.past[scene].name

    def frames_of(self, scene: int) -> range:
        """Latent frames of a scene of this film."""
        blocks, size = self.spans[scene].blocks, self.geometry.block_frames
        return range(blocks.start * size, blocks.stop * size)


def blocks_of(counts: Sequence[int], block_frames: int) -> Blocks:
    """The blocks of consecutive scenes that last `counts` blocks each."""
    return Blocks((0, *accumulate(counts)), block_frames)


def timeline_of(scenes: list[Scene], counts: list[int], geometry: Geometry) -> Timeline:
    """A timeline from block counts, nothing trimmed: for replays and for tests."""
    spans, first = [], 0
    for scene, count in zip(scenes, counts, strict=True):
        blocks = range(first, first + count)
        start, stop = (geometry.pictures(edge * geometry.block_frames) for edge in (blocks.start, blocks.stop))
        spans.append(SceneSpan(scene, blocks, range(start, stop), (start / geometry.fps, stop / geometry.fps)))
        first += count
    return Timeline(tuple(spans), blocks_of(counts, geometry.block_frames),
                    geometry.pictures(first * geometry.block_frames), geometry)
