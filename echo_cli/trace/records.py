"""The records of a trace: the header, a record a scene, a record a block, a record a recall frame, the totals.

Every record is frozen and made of plain Python values, and its fields are the keys of the JSON file (`rows` turns one
into the other, `schema.json` describes the result). Nothing here knows a tensor, a file or a terminal.

A block has two parts. What the host decided is known before the block is launched; what the device measured
(`Measured`) arrives about a block later, and the writer waits for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple

from echo_cli.layout import Layout
from echo_cli.storyboard.nouns import SEEDS, Geometry, Kind, Timeline

FORMAT = "echo-trace"
VERSION = 1

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Spread(NamedTuple):
    """Least, mean and greatest of many device values. None stands for a value that was not finite."""

    min: float | None
    mean: float | None
    max: float | None


# ---------------------------------------------------------------- header


@dataclass(frozen=True, slots=True)
class StoryboardFacts:
    title: str
    source: str  # the file's name, or "-" for standard input
    sha256: str


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """`rows` x `cols` is the token grid of one latent frame."""

    name: str
    layers: int
    rows: int
    cols: int


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class PolicyFacts:
    """The memory policy with every setting it ran with, defaults included."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """The film's counts, and the file name of the video when it lies beside the trace. `ahead` is as `Geometry` has it,
    of a film that continues another."""

    width: int
    height: int
    fps: float
    pictures: int
    block_frames: int
    frame_pictures: int
    video: str | None = None
    ahead: int | None = None

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.block_frames, self.frame_pictures, self.fps, self.ahead)

    @property
    def seconds(self) -> float:
        return self.pictures / self.fps


@dataclass(frozen=True, slots=True)
class OpeningFacts:
    """The file that a scene begins with: the key that names it, its path as the storyboard has it, its hash, and a
    small picture of it as a data URI."""

    what: str
    path: str
    sha256: str
    thumbnail: str = ""


@dataclass(frozen=True, slots=True)
class SceneFacts:
    """A scene as the timeline placed it: half-open ranges of blocks and of pictures, and the seconds asked for."""

    id: str
    prompt: str
    blocks: tuple[int, int]
    pictures: tuple[int, int]
    asked: tuple[float, float]
    transition: Kind | None = None
    recall: str | None = None
    opening: OpeningFacts | None = None
    subtitle: str | None = None


def scene_facts(timeline: Timeline, openings: Mapping[str, OpeningFacts] = NOTHING) -> tuple[SceneFacts, ...]:
    """`openings` by the ids of their scenes."""
    return tuple(SceneFacts(span.scene.id, span.scene.prompt, (span.blocks.start, span.blocks.stop),
                            (span.pictures.start, span.pictures.stop), span.asked, span.scene.transition,
                            span.scene.recall, openings.get(span.scene.id), span.scene.subtitle)
                 for span in timeline.spans)


@dataclass(frozen=True, slots=True)
class PastFacts:
    """A scene of another film, which could be recalled. The last of them has the number -1."""

    name: str  # of its series and its id
    prompt: str


@dataclass(frozen=True, slots=True)
class Header:
    """Everything that is known before the first block."""

    tool: str
    tool_version: str
    seed: Annotated[int, SEEDS]
    storyboard: StoryboardFacts
    model: ModelFacts
    device: DeviceFacts
    policy: PolicyFacts
    film: FilmFacts
    timeline: tuple[SceneFacts, ...]
    past: tuple[PastFacts, ...] = ()

    def name_of(self, scene: int) -> str:
        """A scene of the film by its id, one of another film by the name of its series as well."""
        return self.timeline[scene].id if scene >= 0 else self.past[scene].name


# ---------------------------------------------------------------- scenes


class Candidate(NamedTuple):
    """An earlier scene that could have been recalled, and how similar its prompt was."""

    scene: int
    score: float | None


@dataclass(frozen=True, slots=True)
class SceneRecord:
    """How a scene began, written when its first block is about to be made.

    `recalled` is the scene whose memory was brought in (for a smooth transition or a cut that carries memory over,
    the scene it came from; a scene of another film has a negative number); `chosen_by` says in a few words why.
    `settings` are the values of the transition that applied.
    """

    scene: int
    block: int
    transition: Kind | None = None
    recalled: int | None = None
    chosen_by: str | None = None
    candidates: tuple[Candidate, ...] = ()
    jump: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


KEYFRAMES = "keyframes"  # the method of a scene that is remembered by some of its frames as they were


@dataclass(frozen=True, slots=True)
class RecallFrameRecord:
    """How a scene's recall frame was made, or which frames it is remembered by, known when the scene closes. `shares`
    says how much of each frame is in it,
    where that was measured."""

    scene: int
    block: int
    method: str
    frames: tuple[int, ...]
    shares: tuple[float | None, ...] = ()


# ---------------------------------------------------------------- blocks


class Calibration(StrEnum):
    """Whether the query statistics that select history are ready."""

    OFF = "off"
    COLLECTING = "collecting"
    READY = "ready"


@dataclass(frozen=True, slots=True)
class RollingAnchor:
    """The frames of the scene that entered the anchors in this block; `reverse` while the wave runs backwards."""

    frames: tuple[int, ...]
    reverse: bool = False


class Times(NamedTuple):
    """Milliseconds spent in each part of a block."""

    denoise: float
    clean: float
    memory: float
    decode: float


@dataclass(frozen=True, slots=True)
class DecayMap:
    """The rate at which each cell of a remembered frame fades in a block, row by row, mean over layers. A cell that was
    replaced keeps nothing."""

    rows: int
    cols: int
    rates: tuple[float | None, ...]

    def __post_init__(self) -> None:
        if self.rows * self.cols != len(self.rates):
            raise ValueError(f"{len(self.rates)} rates do not fill {self.rows} rows of {self.cols}")

    @property
    def replaces(self) -> bool:
        """Whether each cell stays as it was or was replaced, and none fades."""
        return set(self.rates) == {0.0, 1.0}


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen from history: (source frame, tokens) pairs, mean over layers, and the scores of the chosen."""

    frames: tuple[tuple[int, float], ...]
    scores: Spread


class Drift(NamedTuple):
    """How similar the current queries are to the calibration, and the gate that follows from it."""

    similarity: float | None
    gate: float | None


@dataclass(frozen=True, slots=True)
class QueryFrame:
    """One frame of memory queries: how much of each scene was in it while the block looked (None: of all earlier ones
    together; the rest, up to one, is what it had learned in training), and how far its gate then opened for what
    left the window, None when nothing left."""

    left: tuple[tuple[int | None, float], ...] = ()
    gate: float | None = None


@dataclass(frozen=True, slots=True)
class LayerMeasured:
    """One layer's share of what `Measured` averages: its drift, and what it chose as (source frame, tokens) pairs."""

    drift: Drift | None = None
    chosen: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """What the device measured: `weights` has one entry a segment of the layout, `layers` one a layer or none."""

    times: Times
    weights: tuple[Spread, ...]
    decay: DecayMap | None = None
    chosen: Chosen | None = None
    drift: Drift | None = None
    layers: tuple[LayerMeasured, ...] = ()
    queries: tuple[QueryFrame, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """One block: half-open ranges of frames and pictures, the memory it attended to, and what happened to memory.

    `bytes` names each part of memory (window, history, scenes, …) and what it held; `evicted` are film frames that
    left the window. The first `given` of its frames came from the file that its scene begins with.
    """

    block: int
    scene: int
    frames: tuple[int, int]
    pictures: tuple[int, int]
    layout: Layout
    calibration: Calibration
    bytes: Mapping[str, int]
    rolling: RollingAnchor | None = None
    evicted: tuple[int, ...] = ()
    measured: Measured | None = None
    given: int = 0


# ---------------------------------------------------------------- totals


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of a whole run. `times` adds up the blocks, in milliseconds."""

    blocks: int
    scenes: int
    pictures: int
    wall_seconds: float
    peak_tokens: int
    peak_bytes: int
    times: Times


Record = SceneRecord | BlockRecord | RecallFrameRecord
KINDS: Mapping[str, type] = MappingProxyType(
    {"scene": SceneRecord, "block": BlockRecord, "recall_frame": RecallFrameRecord})
