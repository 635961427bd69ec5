"""`scene-queries`: learned queries that belong to a scene, kept in the library of scenes and brought back with it.

What echo-infinity learns and what echo-forcing knows of scenes, together. Inside a scene everything that leaves the
window is absorbed. A smooth transition keeps the queries, the anchors and the last frames; a hard cut begins with an
empty window and queries that know nothing; a recall brings back the queries of the scene as they were when it closed,
beside the one frame folded from it, which fades where it disagrees with the new scene and then leaves.
"""

import torch

from echo_cli.layout import Role
from echo_cli.memory import scoring
from echo_cli.memory.policies.base import Facts, Held, Plan, Transition, held_from, told_held
from echo_cli.memory.policies.echo_infinity import EchoInfinityPolicy
from echo_cli.memory.recall import Keepsake, SceneLibrary, folding_bytes, most_at_once
from echo_cli.memory.settings import SceneQueriesSettings
from echo_cli.memory.store import CleanPass, KVStore, Placement
from echo_cli.runtime import Later
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Block


class SceneQueriesPolicy(EchoInfinityPolicy):
    settings: SceneQueriesSettings

    def __init__(self, name: str, settings: SceneQueriesSettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        self.last_wanted = {recall.scene: index for index, recall in sorted(self.recalls.items())}
        self.at_once = most_at_once({Keepsake("queries", scene): last for scene, last in self.last_wanted.items()})
        if self.at_once > settings.library:
            self.refuse(
                f"this storyboard needs {self.at_once} scenes in the library at once, but it holds {settings.library}",
                f"Set library to {self.at_once} or more.",
            )
        self.scene_start = 0
        self.candidates: list[Held] = []
        self.query_tokens = 0
        self.recalled: list[Held] = []  # the recall frame, while it stands in the window
        self.clear_in = 0
        self.shelf: dict[int, Nest] = {}  # what the queries of kept scenes consist of

    def allocate(self, place: Placement) -> KVStore:
        settings, spec = self.settings, self.spec
        candidates = -(-settings.candidate_frames // settings.candidate_stride)
        store = self.allocate_for(place, slots=candidates + 1, fades=1)
        if settings.recall_frame and not 1 <= settings.clear_after <= self.room // self.block:
            self.refuse(
                f"a recall frame cannot stay for {settings.clear_after} blocks beside the queries "
                f"in a window of {self.window}",
                f"Set clear_after to 1, or more, up to {self.room // self.block}.",
            )
        frames = len(self.memory.slots) + settings.recall_frame
        frame = (spec.depth, place.batch, place.grid.tokens, spec.heads, spec.head_dim)
        self.library = SceneLibrary(self.at_once * frames, frame, place.device, place.dtype)
        self.scene_query_sum = torch.zeros(spec.depth, place.batch, spec.heads, spec.head_dim, device=place.device)
        return store

    @property
    def bytes(self) -> int:
        own = self.scene_query_sum.numel() * self.scene_query_sum.element_size()
        shares = self.memory.shares
        return super().bytes + own + self.library.bytes + self.at_once * shares.numel() * shares.element_size()

    @property
    def host_bytes(self) -> int:
        return self.library.bytes

    def passing_bytes(self, place: Placement) -> int:
        folding = folding_bytes(self.settings, self.frame_values(place), place) if len(self.scenes) > 1 else 0
        return max(super().passing_bytes(place), folding)

    def absorbing_bytes(self, place: Placement) -> int:
        """All that the window holds is absorbed when a scene closes, and the queries go on as they were before."""
        before = 2 * len(self.memory.slots) * self.frame_values(place) * place.dtype.itemsize
        return before + self.memory.passing_bytes(place, self.window - len(self.memory.slots))

    # A scene opens

    def open_scene(self, block: Block, store: KVStore) -> Transition:
        scene, kind = block.scene, self.scenes[block.scene].transition
        self.scene_start, self.candidates, self.query_tokens = block.frames.start, [], 0
        self.scene_query_sum.zero_()
        self.recalled, self.clear_in = [], 0
        if kind is None:
            return Transition(None)
        if kind.continues:
            anchors, recent = self.past[:self.anchors], self.past[self.anchors:]
            leaving = recent[:max(0, len(recent) - self.settings.kept_last)]
            self.memory.absorb(leaving, Facts())
            self.past = anchors + recent[len(leaving):]
            store.keep(self.alive())
            return Transition(kind, carried=len(self.past))
        self.past = []
        self.memory.begin()
        store.keep(self.alive())
        if not kind.targeted:
            return Transition(kind)
        source = self.recalls[scene].scene
        self._bring_back(source, store)
        if self.last_wanted[source] == scene:
            self._forget(source)
        return Transition(
            kind,
            len(self.recalled) + len(self.memory.slots),
            "both" if self.recalled else "queries",
            source,
            self.recalls[scene],
            None,
            self.clear_in or None,
        )

    def _bring_back(self, source: int, store: KVStore) -> None:
        for slot, keepsake in zip(self.memory.slots, self._keepsakes(source), strict=True):
            store.write([slot], *self.library.get(keepsake))
        self.memory.take_back(self.shelf[source])
        if self.settings.recall_frame:
            slot, = store.take(1)
            store.write([slot], *self.library.get(Keepsake("recall", source)))
            self.recalled, self.clear_in = (
                [Held(slot, source, None, Role.TRANSITION, fade=0)],
                self.settings.clear_after,
            )
            store.fade(slice(0, 1), 1.0)

    def _forget(self, source: int) -> None:
        for keepsake in self._keepsakes(source):
            self.library.forget(keepsake)
        if self.settings.recall_frame:
            self.library.forget(Keepsake("recall", source))
        del self.shelf[source]

    def _keepsakes(self, scene: int) -> list[Keepsake]:
        return [Keepsake(f"query {index}", scene) for index in range(len(self.memory.slots))]

    # A block takes its place, and is finished

    def standing(self) -> list[Held]:
        return self.recalled + super().standing()

    def expires(self, block: Block) -> int | None:
        return block.index + self.clear_in if self.recalled else None

    def alive(self) -> list[int]:
        return [*{*super().alive(), *(held.slot for held in (*self.candidates, *self.recalled))}]

    def absorb(self, block: Block, clean: CleanPass, store: KVStore) -> Facts:
        if block.scene in self.last_wanted:
            self.scene_query_sum += clean.query_sum
            self.query_tokens += clean.tokens
            first, stride = self.scene_start, self.settings.candidate_stride
            self.candidates += [held for held in self.current if held.frame - first < self.settings.candidate_frames
                                and (held.frame - first) % stride == 0]
        facts = super().absorb(block, clean, store)
        if self.recalled:
            self._fade(block, store, facts)
        return facts

    def _fade(self, block: Block, store: KVStore, facts: Facts) -> None:
        """The recall frame loses weight, each token the faster the more it disagrees with the scene's first frame."""
        frame, = self.recalled
        if block.opens:
            rates = scoring.difference_rates(store.key(self.current[0].slot), store.key(frame.slot),
                                             self.settings.min_rate, self.settings.max_rate)
            store.rates[:, :, 0] = rates
            facts.decay_map = Later(rates.mean((0, 1)))
        weights = store.weights[:, :, :1]
        facts.weights = Later(
            torch.stack((weights.amin((0, 1, 3)), weights.mean((0, 1, 3)), weights.amax((0, 1, 3))), -1)
        )
        store.weights[:, :, 0] *= store.rates[:, :, 0]
        self.clear_in -= 1
        if self.clear_in == 0:
            self.recalled = []
            store.keep(self.alive())

    def close_scene(self, block: Block, store: KVStore) -> None:
        """A scene that will be wanted is kept: what its window still holds is absorbed first. A smooth successor goes
        on with the queries as they were."""
        scene = block.scene
        if scene not in self.last_wanted:
            return
        before, state = self.memory.keep(), self.memory.state
        self.memory.absorb(self.past, Facts())
        self.shelf[scene] = self.memory.keep()
        for slot, keepsake in zip(self.memory.slots, self._keepsakes(scene), strict=True):
            self.library.put(keepsake, *store.frame(slot))
        self.memory.write(state)
        self.memory.take_back(before)
        if self.settings.recall_frame:
            self._fold(scene, store)

    def _fold(self, scene: int, store: KVStore) -> None:
        slots = [held.slot for held in self.candidates]
        self.facts.folded = tuple(held.frame for held in self.candidates if held.frame is not None)
        keys, values, shares = scoring.fold(
            *store.frames(slots),
            self.scene_query_sum / self.query_tokens,
            self.settings.base_weight,
            self.settings.fold == "score_weighted",
        )
        self.facts.shares = Later(shares.mean((0, 1, 3)))
        self.library.put(Keepsake("recall", scene), keys, values)

    # Between two blocks

    def state(self) -> Nest:
        return {
            **super().state(),
            "scene_start": self.scene_start,
            "candidates": told_held(self.candidates),
            "query_tokens": self.query_tokens,
            "scene_query_sum": self.scene_query_sum,
            "recalled": told_held(self.recalled),
            "clear_in": self.clear_in,
            "shelf": {str(scene): kept for scene, kept in self.shelf.items()},
            "library": self.library.state(),
        }

    def restore(self, state: Nest) -> None:
        super().restore(state)
        self.scene_start, self.query_tokens, self.clear_in = (
            state[name] for name in ("scene_start", "query_tokens", "clear_in")
        )
        self.candidates, self.recalled = held_from(state["candidates"]), held_from(state["recalled"])
        self.scene_query_sum.copy_(state["scene_query_sum"])
        self.shelf = {int(scene): kept for scene, kept in state["shelf"].items()}
        self.library.restore(state["library"])
