"""The contract of a memory policy, and the plain sliding window that most policies are a variation of.

A policy is made for one film. It decides what the film will need before anything is allocated, and knows no tensors;
`allocate` makes its memory for one run. The memory decides in integers: which frames stay, in which order, at which
position, until when. It is called at four moments of a block's life (`open_scene`, `arrange`, `absorb`, `close_scene`)
and may watch the first denoise pass (`look`). It touches tensors only through the store.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from types import MappingProxyType
from typing import Any

from echo_cli.context import BlockContext, Observer
from echo_cli.errors import UsageError
from echo_cli.layout import Layout, Role, Segment
from echo_cli.memory.entries import Frames, SceneEntry
from echo_cli.memory.settings import SinkSettings, WindowSettings
from echo_cli.memory.store import CleanPass, KVStore, Placement
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.runtime import Later
from echo_cli.spec import ModelSpec
from echo_cli.state import Nest
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import Block, Kind, Timeline


@dataclass(frozen=True, slots=True)
class Held:
    """One remembered frame: its slot in the store, where it came from (`frame` None: no single film frame), its role
    if that does not follow from its place in the window, and its row of weights if it fades."""

    slot: int
    scene: int
    frame: int | None
    role: Role | None = None
    fade: int | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """Latents of film frames to be encoded again into their slots, seeing what `layout` shows."""

    frames: tuple[int, ...]
    layout: Layout


@dataclass(frozen=True, slots=True)
class Transition:
    """What a policy decided when a scene opened."""

    kind: Kind | None
    carried: int = 0  # frames of the old window that stay or come back
    source: str | None = None  # what stands for the old scene: recall | select | resink | keyframes
    source_scene: int | None = None
    recall: Recall | None = None
    position_jump: int | None = None
    clear_after: int | None = None
    replay: tuple[Replay, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))  # of this kind of transition


@dataclass(slots=True)
class Facts:
    """What a block did to memory, for the trace. Device values are on their way and read later."""

    evicted: tuple[int, ...] = ()  # film frames that left the window
    anchors_from: tuple[int, ...] = ()  # scene frames that refreshed the anchors
    calibration_tokens: int = 0
    calibrated: bool = False
    similarity: Later | None = None  # [layer]
    gate: Later | None = None  # [layer]
    history_frames: tuple[int | None, ...] = ()  # film frames that could be chosen from; None: of another film
    chosen: Later | None = None  # [layer, token]: index into history_frames x tokens, −1 where nothing was
    scores: Later | None = None  # [layer, 3]: least, mean and greatest score of the chosen
    weights: Later | None = None  # [row, 3]: least, mean, greatest weight of each fading frame during the block
    decay_map: Later | None = None  # [token]: mean rate, when a transition's rates were just decided
    folded: tuple[int, ...] = ()  # film frames that the scene's recall frame was made from, when it just was
    shares: Later | None = None  # [frame]: how much of each is in it
    kept: tuple[int, ...] = ()  # film frames that the scene, which just closed, is remembered by as they were
    gates: Later | None = None  # [query frame]: how far the queries' gates opened for what left
    left: Later | None = None  # [query frame, scene]: how much of each scene was in the queries that the block saw
    left_scenes: tuple[int | None, ...] = ()  # which scenes; None stands for all earlier ones together


@dataclass(frozen=True, slots=True)
class Plan:
    """What is known of a film before its first block. `recalls` gives the earlier scene that each recalling scene was
    matched with, which is a scene of another film if its number is negative; `queries` are those learned for the model,
    if there are any. `open_ends` are the scenes that an edit may replace; one more than there are stands for another
    scene at the end."""

    spec: ModelSpec
    timeline: Timeline
    recalls: Mapping[int, Recall] = field(default_factory=lambda: MappingProxyType({}))
    queries: MemoryQueries | None = None
    open_ends: frozenset[int] = frozenset()
    lasting: tuple[int, ...] = ()  # scenes that a film which continues this one may recall


class Policy(ABC):
    """What is decided about a film's memory before its first block. It is complete when it is made, and a run changes
    nothing in it."""

    def __init__(self, name: str, settings: WindowSettings, plan: Plan) -> None:
        self.name, self.settings, self.plan = name, settings, plan
        self.spec = plan.spec
        self.refused = {index: recall for index, recall in plan.recalls.items() if recall.refused}
        self.recalls = {index: recall for index, recall in plan.recalls.items() if not recall.refused}
        self.scenes = tuple(replace(scene, transition=Kind.HARD_CUT, recall=None) if index in self.refused else scene
                            for index, scene in enumerate(plan.timeline.scenes))
        spec = plan.spec
        self.window = spec.window if settings.window is None else settings.window
        self.block = spec.block_frames
        self.jumps: dict[int, int | None] = {}  # how far a scene's first block leaps, where prompts decide it
        if self.window <= self.block:
            self.refuse(f"a window of {self.window} frames leaves no room beside a block of {self.block}",
                        f"Use a window between {self.block + 1} and {spec.window}.")

    def refuse(self, what: str, hint: str) -> None:
        raise UsageError(f"memory policy '{self.name}' with model '{self.spec.name}': {what}", hint=hint)

    def need_positions(self, jump: int) -> None:
        if self.window + jump > self.spec.positions:
            self.refuse(f"a window of {self.window} frames and a jump of {jump} need {self.window + jump} temporal "
                        f"positions, but the model has {self.spec.positions}", "Make the window or the jump smaller.")

    @property
    def replays(self) -> bool:
        """Whether memory will ask for latents of remembered frames again."""
        return False

    @property
    def lasting(self) -> frozenset[int]:
        """The scenes that a film which continues this one may recall: those in `plan.lasting`, as far as there is room
        for them. For a policy that recalls nothing, nothing has to be kept."""
        return frozenset() if self.settings.recalling else frozenset(self.plan.lasting)

    def needs_after(self, block: Block) -> frozenset[str]:
        """What the scenes after this block, and its own if it continues, need of the film so far that not every film
        keeps, in words. The state of another film that begins alike can be restored here if that film needed no less.
        By default, everything that follows counts; the less is named, the more an edited film can reuse."""
        later = [*self.plan.timeline.spans[block.scene:], block.closes, *sorted(self.recalls.items())]
        return frozenset((f"the same scenes after it ({hashlib.sha256(repr(later).encode()).hexdigest()})",))

    @abstractmethod
    def allocate(self, place: Placement) -> "Memory":
        """The memory of one run: all of its tensors at once."""


class Memory(ABC):
    """What one run remembers. Subclasses override hooks, which are called in the order in which they stand here."""

    def __init__(self, policy: Policy, store: KVStore) -> None:
        self.policy, self.store = policy, store
        self.settings, self.scenes, self.recalls = policy.settings, policy.scenes, policy.recalls
        self.window, self.block = policy.window, policy.block

    @property
    def bytes(self) -> int:
        """Tensor bytes held beside the store."""
        return 0

    @property
    def host_bytes(self) -> int:
        """How many of them are on the host, wherever the device is."""
        return 0

    @property
    def passing_bytes(self) -> int:
        """Bytes that memory needs temporarily besides what is allocated: here, to rotate a frame to its place."""
        return (8 + 3 * self.store.keys.element_size()) * self.store.frame_values

    def take_in(self, scene: int, entry: SceneEntry) -> None:
        """Before the first block: what a scene of another film left. Its number is negative, and this film will recall
        it. A policy that keeps no scenes has no use for it."""
        if self.settings.recalling:
            self.policy.refuse("it cannot recall scenes of other films",
                               "Use --memory echo, echo-forcing or scene-queries.")

    def open_scene(self, block: Block) -> Transition:
        return Transition(self.scenes[block.scene].transition)

    def lead_in(self, block: Block) -> Layout | None:
        """Where a block of stills of the scene's first frame stands, which enters memory before the scene's first block
        and is not part of the film. None if there is no place for one."""
        return None

    def led_in(self, block: Block) -> None:  # noqa: B027 (only for memories that have a place for it)
        """The stills that `lead_in` asked for have been written to their slots."""

    @abstractmethod
    def arrange(self, block: Block) -> Layout:
        """What the block will attend to, and where it stands."""

    def look(self, block: Block, context: BlockContext) -> Observer | None:
        """An observer of the first denoise pass, if memory depends on what the block asks for."""
        return None

    @abstractmethod
    def absorb(self, block: Block, clean: CleanPass) -> Facts:
        """The block is finished: decide what stays, what fades and what leaves."""

    def close_scene(self, block: Block) -> None:  # noqa: B027 (most memories have nothing to do here)
        """The scene's last block has been absorbed."""

    def leave(self, block: Block) -> tuple[Mapping[str, Frames], Mapping[str, float]]:
        """After `close_scene`: the parts and numbers that the scene leaves for other films beside its first frames and
        its recall frame, which every scene leaves."""
        return {}, {}

    @abstractmethod
    def state(self) -> Nest:
        """Between two blocks: everything that later blocks depend on, besides the store, the timeline and the settings.
        Its tensors are copied before the next block begins."""

    @abstractmethod
    def restore(self, state: Nest) -> None:
        """Restore what `state` returned, after `take_in`; its tensors are on the device. It is the state of an equal
        memory, or of one for a film that begins alike and needed no less there (`Policy.needs_after`)."""


def film_frames(frames: Iterable[Held]) -> tuple[int, ...]:
    """The frames of the film among remembered ones."""
    return tuple(held.frame for held in frames if held.frame is not None)


def held_state(frames: Sequence[Held]) -> Nest:
    """Remembered frames as plain values, which `held_from` reads."""
    return [[held.slot, held.scene, held.frame, held.role, held.fade] for held in frames]


def held_from(state: Nest) -> list[Held]:
    return [Held(slot, scene, frame, role and Role(role), fade) for slot, scene, frame, role, fade in state]


def held_block(block: Block, slots: Sequence[int]) -> list[Held]:
    return [Held(slot, block.scene, frame) for slot, frame in zip(slots, block.frames, strict=True)]


def held_stills(block: Block, slots: Sequence[int]) -> list[Held]:
    """Stills of a block's first frame."""
    return [Held(slot, block.scene, block.frames.start) for slot in slots]


def layout_of(past: Sequence[Held], roles: Sequence[Role], block: Block, current: Sequence[Held], tokens: int, *,
              first: int = 0, query: int | None = None, jump: int | None = None, expires: int | None = None) -> Layout:
    """A window in slot order from position `first`, and the block after it, leaping by `jump`. Queries stand where
    the block's keys do unless `query` says otherwise; `expires` is for what a transition carried."""
    segments, at = [], first
    for (role, scene), run in groupby(zip(roles, past, strict=True), key=lambda pair: (pair[0], pair[1].scene)):
        held = [item for _, item in run]
        segments.append(Segment(role, scene, tuple(item.frame for item in held), len(held) * tokens, at,
                                expires if role is Role.TRANSITION else None,
                                tuple(item.slot for item in held), tuple(item.fade for item in held)))
        at += len(held)
    leap = jump or 0
    segments.append(
        Segment(
            Role.CURRENT,
            block.scene,
            tuple(item.frame for item in current),
            len(current) * tokens,
            at + leap,
            None,
            tuple(item.slot for item in current),
            (None,) * len(current),
        )
    )
    return Layout(tuple(segments), (at if query is None else query) + leap, jump)


class SlidingPolicy(Policy):
    """`window` and `sink`: the first `anchors` frames stay, the last ones fill the rest, positions from slot order.

    `window` is the rolling cache of Self-Forcing, whose positions are those of the film; from slot order it can run on
    past the trained length. `sink` is StreamingLLM's attention sink as LongLive uses it for video: three frames there,
    up to half the window in Deep Forcing (`anchor_frames`).
    """

    def __init__(self, name: str, settings: WindowSettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        self.anchors = settings.anchor_frames if isinstance(settings, SinkSettings) else 0
        self.room = self.window - self.block  # remembered frames
        if self.anchors >= self.room:
            self.refuse(f"{self.anchors} anchor frames leave no room for recent ones in a window of {self.window}",
                        f"Use at most {self.room - 1} anchor frames.")
        self.need_positions(0)

    def needs_after(self, block: Block) -> frozenset[str]:
        """A sliding window only looks back."""
        return frozenset()

    def new_store(self, place: Placement) -> KVStore:
        return KVStore(self.spec, place, self.room + self.block, self.room + self.block)

    def allocate(self, place: Placement) -> "SlidingMemory":
        return SlidingMemory(self, self.new_store(place))


class SlidingMemory(Memory):
    """The frames of a sliding window, in its order."""

    def __init__(self, policy: SlidingPolicy, store: KVStore) -> None:
        super().__init__(policy, store)
        self.anchors, self.room = policy.anchors, policy.room
        self.past: list[Held] = []
        self.current: list[Held] = []
        self.jump: int | None = None

    def lead_in(self, block: Block) -> Layout:
        self.current = held_stills(block, self.store.take(self.block))
        return self.layout(self.past, block, self.current)

    def led_in(self, block: Block) -> None:
        self.slide()

    def arrange(self, block: Block) -> Layout:
        self.current = held_block(block, self.store.take(self.block))
        return self.layout(self.past, block, self.current)

    def layout(self, past: Sequence[Held], block: Block, current: Sequence[Held]) -> Layout:
        roles = [Role.ANCHOR if index < self.anchors else Role.RECENT for index in range(len(past))]
        return layout_of(past, roles, block, current, self.store.grid.tokens, jump=self.jump)

    def absorb(self, block: Block, clean: CleanPass) -> Facts:
        self.jump = None
        return Facts(evicted=film_frames(self.slide()))

    def slide(self) -> list[Held]:
        """The current frames join the past; the frames that leave for them."""
        held = self.past + self.current
        recent = held[self.anchors:]
        self.keep_only(held[:self.anchors] + recent[max(0, len(held) - self.room):])
        return [item for item in held if item not in self.past]

    def keep_only(self, held: list[Held]) -> None:
        self.past = held
        self.store.keep(item.slot for item in held)

    def state(self) -> Nest:
        return {"past": held_state(self.past)}

    def restore(self, state: Nest) -> None:
        self.past = held_from(state["past"])
