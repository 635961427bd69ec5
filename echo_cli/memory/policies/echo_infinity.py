"""`echo-infinity`: the film's first frames stay as anchors, learned queries absorb every frame that leaves the window
after them, and the last frames fill the rest of it.

Positions are those of unified relative rotation: the window begins at 0, grows with the film until its newest frame
stands at the last place of the trained window, and stays there. Queries take their places when the first frames leave:
until then nothing is forgotten. A change of prompt changes the text alone, as in `window`.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import torch
from torch import Tensor

from echo_cli.layout import Layout, Role
from echo_cli.memory.policies.base import (
    Facts,
    Held,
    Plan,
    SlidingMemory,
    SlidingPolicy,
    film_frames,
    held_state,
    layout_of,
)
from echo_cli.memory.settings import EchoInfinitySettings, Update
from echo_cli.memory.store import CleanPass, KVStore, Placement
from echo_cli.models.queries.model import FRAMES, SCORES_AT_ONCE, MemoryQueries, QueryState, layers_at_once
from echo_cli.runtime import Later
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Block

COLUMNS = 8  # scenes whose share in the queries is followed one by one; what is older is followed together


class Absorbing:
    """The queries of one run in their slots of the store, and how much of each scene is in them."""

    def __init__(self, learned: MemoryQueries, frames: int, update: Update, store: KVStore) -> None:
        self.learned, self.update, self.store = learned, update, store
        self.slots = store.take(frames)
        self.batch = store.keys.shape[1]
        self.shares = torch.zeros(store.spec.depth, self.batch, frames, store.grid.tokens, COLUMNS, device=store.device)
        self.scenes: list[int | None] = []  # of the columns
        self.absorbed = 0  # times
        self.scene = 0  # the latest that was absorbed
        self.begin()

    def begin(self) -> None:
        """Begin with the learned state, in which nothing has been absorbed."""
        self.write(self.learned.start(self.batch, self.store.grid.tokens))
        self.shares.zero_()
        self.scenes, self.absorbed = [], 0

    @property
    def share(self) -> float:
        """How much of the queries comes from the film; the rest is what they learned in training."""
        return float(self.shares.sum(-1).mean())

    def stand_for(self, scene: int, share: float) -> None:
        """The slots hold what was absorbed in another film; this share of it is from a scene of that film."""
        self.scenes, self.absorbed, self.scene = [scene], 1, scene
        self.shares[..., 0] = share

    @property
    def awake(self) -> bool:
        return self.absorbed > 0

    @property
    def held(self) -> list[Held]:
        return [Held(slot, self.scene, None, Role.QUERY) for slot in self.slots]

    @property
    def bytes(self) -> int:
        learned = sum(part.numel() * part.element_size() for part in self.learned.parameters())
        return learned + self.shares.numel() * self.shares.element_size()

    def passing_bytes(self, leaving: int) -> int:
        """Bytes that absorbing so many frames at once needs temporarily; sums are float32."""
        spec, tokens, queries = self.store.spec, self.store.grid.tokens, len(self.slots)
        values = self.batch * (queries + leaving) * tokens * spec.width  # of a layer
        layers = layers_at_once(spec, values)
        scores = min(SCORES_AT_ONCE, layers * self.batch * spec.heads * queries * leaving * tokens**2)
        return layers * 64 * values + 8 * scores

    def absorb(self, frames: Sequence[Held], facts: Facts) -> None:
        """Absorb frames that leave the window, the oldest first, scene by scene."""
        for scene, run in groupby(frames, key=lambda held: held.scene):
            slots = [held.slot for held in run]
            first, self.scene = not self.absorbed, scene
            self.absorbed += 1
            if self.update == "initial" or (self.update == "frozen" and not first):
                continue
            gate = self._absorb(slots, first)
            self._share(scene, gate)
            facts.gates = Later(gate.mean((0, 1, 3)))

    def _absorb(self, slots: Sequence[int], first: bool) -> Tensor:
        """Absorb what is in these slots; how far the gates were open. Some layers at a time, so that a large model's
        queries are never held twice."""
        store, gates = self.store, []
        if store.kernels and not store.away and not torch.is_grad_enabled():
            store.outdate(self.slots)
            return self.learned.absorb_in_place(store.keys, store.values, self.slots, slots, store.grid, first,
                                                self.update != "ungated")
        spare = (
            None
            if self.update == "ungated"
            else self.learned.spare(
                torch.stack([store.value(slot, slice(layer, layer + 1))[0] for slot in self.slots], 1)
                for layer in range(store.spec.depth)
            )
        )
        frame = self.batch * store.grid.tokens * store.spec.width
        for layers in self.learned.steps(frame * (len(self.slots) + len(slots))):
            held, leaving = (store.frames(which, layers) for which in (self.slots, slots))
            state, gate = self.learned.absorb_in(layers, QueryState(*held), *leaving, store.grid, first, spare)
            self.write(state, layers)
            gates.append(gate)
        return torch.cat(gates)

    @property
    def state(self) -> QueryState:
        return QueryState(*self.store.frames(self.slots))

    def write(self, state: QueryState, layers: slice = slice(None)) -> None:
        """Into the slots; frames beyond them are left out."""
        for index, slot in enumerate(self.slots):
            self.store.write([slot], state.keys[:, :, index], state.values[:, :, index], layers)

    def _share(self, scene: int, gate: Tensor) -> None:
        """What a gate admits is from `scene`; the shares of all others shrink by as much."""
        if scene not in self.scenes:
            if len(self.scenes) == COLUMNS:  # the oldest joins those before it
                self.shares[..., 0] += self.shares[..., 1]
                self.shares[..., 1:-1] = self.shares[..., 2:].clone()
                self.shares[..., -1] = 0
                self.scenes = [None, *self.scenes[2:]]
            self.scenes.append(scene)
        self.shares *= 1 - gate[..., None]
        self.shares[..., self.scenes.index(scene)] += gate

    def report(self, facts: Facts) -> None:
        """How much of each scene the queries hold now; the rest is still the learned initial state."""
        facts.left_scenes = tuple(self.scenes)
        facts.left = Later(self.shares[..., :len(self.scenes)].mean((0, 1, 3)))

    def keep(self) -> Nest:
        """What is kept besides the store: between two blocks, or in the library of scenes."""
        return {
            "shares": self.shares.clone(),
            "scenes": list(self.scenes),
            "absorbed": self.absorbed,
            "scene": self.scene,
        }

    def take_back(self, kept: Nest) -> None:
        """Restore what `keep` returned."""
        self.shares.copy_(kept["shares"])
        self.scenes, self.absorbed, self.scene = list(kept["scenes"]), kept["absorbed"], kept["scene"]


class EchoInfinityPolicy(SlidingPolicy):
    settings: EchoInfinitySettings

    def __init__(self, name: str, settings: EchoInfinitySettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        self.query_frames = settings.query_frames or (plan.queries.frames if plan.queries else FRAMES)
        self.learned = plan.queries if settings.trained else None
        if self.learned and self.query_frames > self.learned.frames:
            self.refuse(f"{self.query_frames} query frames are wanted, but {self.learned.frames} were learned",
                        f"Use at most {self.learned.frames}, or train more: echo-cli train --memory echo-infinity.")
        self.room -= self.query_frames
        if self.room <= self.anchors:
            self.refuse(
                f"{self.query_frames} query frames and {self.anchors} anchor frames leave no room for recent ones in a "
                f"window of {self.window}",
                "Take fewer (query_frames, anchor_frames), or a larger window.",
            )

    def queries(self, device: torch.device) -> MemoryQueries:
        """Those learned for the model, or untrained ones."""
        learned = self.learned or MemoryQueries(self.spec, self.query_frames).requires_grad_(False)
        return learned.to(device)

    def new_store(self, place: Placement, slots: int = 0, fades: int = 0) -> KVStore:
        """With room for some more frames and rows of weights."""
        return KVStore(self.spec, place, self.room + self.block + self.query_frames + slots, self.window, fades)

    def allocate(self, place: Placement) -> "EchoInfinityMemory":
        return EchoInfinityMemory(self, self.new_store(place))


class EchoInfinityMemory(SlidingMemory):
    settings: EchoInfinitySettings

    def __init__(self, policy: EchoInfinityPolicy, store: KVStore) -> None:
        super().__init__(policy, store)
        self.queries = Absorbing(policy.queries(store.device), policy.query_frames, policy.settings.update, store)
        self.facts = Facts()

    @property
    def bytes(self) -> int:
        return self.queries.bytes

    @property
    def passing_bytes(self) -> int:
        return max(super().passing_bytes, self.absorbing_bytes)

    @property
    def absorbing_bytes(self) -> int:
        """Bytes that the queries need temporarily to absorb the most frames that leave at once."""
        return self.queries.passing_bytes(self.block)

    def layout(self, past: Sequence[Held], block: Block, current: Sequence[Held]) -> Layout:
        past = self.standing()
        return layout_of(past, [held.role or Role.RECENT for held in past], block, current, self.store.grid.tokens,
                         expires=self.expires(block))

    def led_in(self, block: Block) -> None:
        self.facts = Facts()  # those of the block before have been handed on
        super().led_in(block)

    def standing(self) -> list[Held]:
        """What the window shows before the block, in its order."""
        anchors = [replace(held, role=Role.ANCHOR) for held in self.past[:self.anchors]]
        return anchors + (self.queries.held if self.queries.awake else []) + self.past[self.anchors:]

    def expires(self, block: Block) -> int | None:
        """The block before which what a transition carried leaves."""
        return None

    def alive(self) -> list[int]:
        """Slots that are still needed."""
        return [*self.queries.slots, *(held.slot for held in self.past)]

    def absorb(self, block: Block, clean: CleanPass) -> Facts:
        self.facts = facts = Facts()
        if self.queries.awake:
            self.queries.report(facts)
        facts.evicted = film_frames(self.slide())
        return facts

    def slide(self) -> list[Held]:
        before = self.past + self.current
        surplus = max(0, len(before) - self.room)
        leaving = before[self.anchors:self.anchors + surplus]
        self.past = before[:self.anchors] + before[self.anchors + surplus:]
        self.queries.absorb(leaving, self.facts)
        self.store.keep(self.alive())
        return leaving

    def state(self) -> Nest:
        return {"past": held_state(self.past), "memory": self.queries.keep(), "slots": list(self.queries.slots)}

    def restore(self, state: Nest) -> None:
        super().restore(state)
        self.queries.slots = tuple(state["slots"])
        self.queries.take_back(state["memory"])
