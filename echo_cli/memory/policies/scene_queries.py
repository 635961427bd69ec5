"""`scene-queries`: learned queries that belong to a scene, kept in the library of scenes and brought back with it.

It joins what echo-infinity learns and what echo-forcing knows about scenes. Inside a scene everything that leaves the
window is absorbed. A smooth transition keeps the queries, the anchors and the last frames; a hard cut begins with an
empty window and the learned initial queries; a recall brings back the queries of the scene as they were when it closed,
beside the one frame folded from it, which fades where it disagrees with the new scene and then leaves.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from echo_cli.layout import Role
from echo_cli.memory import scoring
from echo_cli.memory.entries import FRAMES, RECALL, Frames, SceneEntry
from echo_cli.memory.fading import Fading
from echo_cli.memory.policies.base import Facts, Held, Plan, Transition, held_from, held_state
from echo_cli.memory.policies.echo_infinity import EchoInfinityMemory, EchoInfinityPolicy
from echo_cli.memory.recall import (
    Folding,
    Keepsake,
    SceneLibrary,
    lasting_wanted,
    library_size,
    needed_after,
    still_wanted,
)
from echo_cli.memory.settings import SceneQueriesSettings
from echo_cli.memory.store import CleanPass, KVStore, Placement
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Block

QUERIES = "queries"  # the part that a scene leaves beside its frames
SHARE = "share"  # the number beside it


class SceneQueriesPolicy(EchoInfinityPolicy):
    settings: SceneQueriesSettings

    def __init__(self, name: str, settings: SceneQueriesSettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        self.last_wanted = {recall.scene: index for index, recall in sorted(self.recalls.items())}
        wanted = {Keepsake("queries", scene): last for scene, last in self.last_wanted.items()}
        wanted, self._lasting = lasting_wanted(self, wanted, lambda scene: [Keepsake("queries", scene)],
                                               settings.library)
        self.last_wanted = {keepsake.scene: last for keepsake, last in wanted.items()}
        self.at_once = library_size(wanted, settings, self)
        if settings.recall_frame and not 1 <= settings.clear_after <= self.room // self.block:
            self.refuse(
                f"a recall frame cannot stay for {settings.clear_after} blocks beside the queries "
                f"in a window of {self.window}",
                f"Set clear_after to 1, or more, up to {self.room // self.block}.",
            )

    @property
    def lasting(self) -> frozenset[int]:
        return self._lasting

    def needs_after(self, block: Block) -> frozenset[str]:
        wanted = {Keepsake("queries", scene): last for scene, last in self.last_wanted.items()}
        return needed_after(self, block, wanted)

    def allocate(self, place: Placement) -> "SceneQueriesMemory":
        return SceneQueriesMemory(self, self.new_store(place, slots=self.settings.candidates + 1, fades=1))


class SceneQueriesMemory(EchoInfinityMemory):
    policy: SceneQueriesPolicy
    settings: SceneQueriesSettings

    def __init__(self, policy: SceneQueriesPolicy, store: KVStore) -> None:
        super().__init__(policy, store)
        frames = policy.query_frames + policy.settings.recall_frame
        self.library = SceneLibrary(policy.at_once * frames, store)
        self.folding, self.fading = Folding(policy.settings, store), Fading(store)
        self.recalled: list[Held] = []  # the recall frame, while it stands in the window
        self.shelf: dict[int, Nest] = {}  # shares and counts of the queries of kept scenes

    @property
    def bytes(self) -> int:
        shelved = self.policy.at_once * self.queries.shares.numel() * self.queries.shares.element_size()
        return super().bytes + self.folding.bytes + self.library.bytes + shelved

    @property
    def host_bytes(self) -> int:
        return self.library.bytes

    @property
    def passing_bytes(self) -> int:
        return max(super().passing_bytes, self.folding.passing_bytes if len(self.scenes) > 1 else 0)

    @property
    def absorbing_bytes(self) -> int:
        """When a scene closes, everything in the window is absorbed, besides a copy of the queries as they were."""
        frame = 2 * self.store.frame_values * self.store.keys.element_size()
        queries = len(self.queries.slots)
        return queries * frame + self.queries.passing_bytes(self.window - queries)

    # A scene opens

    def open_scene(self, block: Block) -> Transition:
        scene, kind = block.scene, self.scenes[block.scene].transition
        self.folding.begin(block.frames.start)
        self.recalled = []
        self.fading.end()
        if kind is None:
            return Transition(None)
        if kind.continues:
            anchors, recent = self.past[:self.anchors], self.past[self.anchors:]
            leaving = recent[:max(0, len(recent) - self.settings.kept_last)]
            self.queries.absorb(leaving, Facts())
            self.past = anchors + recent[len(leaving):]
            self.store.keep(self.alive())
            return Transition(kind, carried=len(self.past))
        self.past = []
        self.queries.begin()
        self.store.keep(self.alive())
        if not kind.targeted:
            return Transition(kind)
        source = self.recalls[scene].scene
        self._bring_back(source)
        if self.policy.last_wanted[source] == scene:
            self._forget(source)
        return Transition(
            kind,
            len(self.recalled) + len(self.queries.slots),
            "both" if self.recalled else "queries",
            source,
            self.recalls[scene],
            None,
            self.fading.clear_in or None,
        )

    def _bring_back(self, source: int) -> None:
        for slot, keepsake in zip(self.queries.slots, self._keepsakes(source), strict=True):
            self.store.write([slot], *self.library.get(keepsake))
        self.queries.take_back(self.shelf[source])
        if self.settings.recall_frame:
            slot, = self.store.take(1)
            self.store.write([slot], *self.library.get(Keepsake("recall", source)))
            self.recalled = [Held(slot, source, None, Role.TRANSITION, fade=0)]
            self.fading.begin(slice(0, 1), 1.0, self.settings.clear_after)

    def _forget(self, source: int) -> None:
        for keepsake in self._keepsakes(source):
            self.library.forget(keepsake)
        if self.settings.recall_frame:
            self.library.forget(Keepsake("recall", source))
        del self.shelf[source]

    def _keepsakes(self, scene: int) -> list[Keepsake]:
        return [Keepsake(f"query {index}", scene) for index in range(len(self.queries.slots))]

    # A block takes its place, and is finished

    def standing(self) -> list[Held]:
        return self.recalled + super().standing()

    def expires(self, block: Block) -> int | None:
        return block.index + self.fading.clear_in if self.recalled else None

    def alive(self) -> list[int]:
        return [*{*super().alive(), *(held.slot for held in (*self.folding.candidates, *self.recalled))}]

    def absorb(self, block: Block, clean: CleanPass) -> Facts:
        if block.scene in self.policy.last_wanted:
            self.folding.collect(self.current, clean)
        facts = super().absorb(block, clean)
        if self.recalled:
            self._fade(block, facts)
        return facts

    def _fade(self, block: Block, facts: Facts) -> None:
        """The recall frame loses weight: each token faster, the more it disagrees with the scene's first frame."""
        frame, = self.recalled
        if block.opens:
            self.fading.set_rates(
                scoring.difference_rates(self.store.key(self.current[0].slot), self.store.key(frame.slot),
                                         self.settings.min_rate, self.settings.max_rate), facts)
        self.fading.measure(slice(0, 1), facts)
        if self.fading.pass_block():
            self.recalled = []
            self.store.keep(self.alive())

    def close_scene(self, block: Block) -> None:
        """A scene that will be recalled is kept, after what its window still holds was absorbed. A smooth successor
        continues with the queries as they were before that."""
        scene = block.scene
        if scene not in self.policy.last_wanted:
            return
        with self._closed():
            self._shelve(scene)
        if self.settings.recall_frame:
            self.library.put(Keepsake("recall", scene), *self.folding.fold(self.facts))

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """Inside, the queries have absorbed what the window still holds."""
        before, state = self.queries.keep(), self.queries.state
        self.queries.absorb(self.past, Facts())
        yield
        self.queries.write(state)
        self.queries.take_back(before)

    def _shelve(self, scene: int) -> None:
        """Put the queries as they are into the library, as those of a scene."""
        self.shelf[scene] = self.queries.keep()
        for slot, keepsake in zip(self.queries.slots, self._keepsakes(scene), strict=True):
            self.library.put(keepsake, *self.store.frame(slot))

    # Scenes of other films, and for other films

    def leave(self, block: Block) -> tuple[Mapping[str, Frames], Mapping[str, float]]:
        with self._closed():
            return {QUERIES: self.store.frames(self.queries.slots)}, {SHARE: self.queries.share}

    def take_in(self, scene: int, entry: SceneEntry) -> None:
        """The scene's queries; where it has none, or too few, they absorb its first frames now."""
        if scene not in self.policy.last_wanted:
            return
        self.queries.begin()
        if entry.count(QUERIES) >= len(self.queries.slots):
            for index, slot in enumerate(self.queries.slots):
                self.store.write([slot], *entry.frame(QUERIES, index))
            self.queries.stand_for(scene, entry.numbers.get(SHARE, 1.0))
        else:
            slots = self.store.take(entry.count(FRAMES))
            for index, slot in enumerate(slots):
                self.store.write([slot], *entry.frame(FRAMES, index))
            self.queries.absorb([Held(slot, scene, None) for slot in slots], Facts())
        self._shelve(scene)
        self.queries.begin()
        self.store.keep(self.alive())
        if self.settings.recall_frame:
            self.library.put(Keepsake("recall", scene), *entry.frame(RECALL))

    # Between two blocks

    def state(self) -> Nest:
        return {
            **super().state(),
            "recalled": held_state(self.recalled),
            "fading": self.fading.state(),
            "folding": self.folding.state(),
            "shelf": {str(scene): kept for scene, kept in self.shelf.items()},
            "library": self.library.state(),
        }

    def restore(self, state: Nest) -> None:
        super().restore(state)
        self.recalled = held_from(state["recalled"])
        self.fading.restore(state["fading"])
        self.folding.restore(state["folding"])
        shelf = {int(scene): kept for scene, kept in state["shelf"].items()}
        last_wanted = {keepsake: self.policy.last_wanted[scene] for scene in shelf if scene in self.policy.last_wanted
                       for keepsake in (*self._keepsakes(scene), Keepsake("recall", scene))}
        wanted = still_wanted(self.policy, last_wanted, self.folding.start)
        self.shelf |= {scene: kept for scene, kept in shelf.items() if Keepsake("recall", scene) in wanted}
        self.library.restore(state["library"], wanted)
