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
from echo_cli.memory.policies.echo_infinity import EchoInfinityPolicy
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
        self.recalled: list[Held] = []  # the recall frame, while it stands in the window
        self.shelf: dict[int, Nest] = {}  # shares and counts of the queries of kept scenes

    def allocate(self, place: Placement) -> KVStore:
        settings, spec = self.settings, self.spec
        store = self.allocate_for(place, slots=settings.candidates + 1, fades=1)
        if settings.recall_frame and not 1 <= settings.clear_after <= self.room // self.block:
            self.refuse(
                f"a recall frame cannot stay for {settings.clear_after} blocks beside the queries "
                f"in a window of {self.window}",
                f"Set clear_after to 1, or more, up to {self.room // self.block}.",
            )
        frames = len(self.memory.slots) + settings.recall_frame
        frame = (spec.depth, place.batch, place.grid.tokens, spec.heads, spec.head_dim)
        self.library = SceneLibrary(self.at_once * frames, frame, place.device, place.dtype)
        self.folding, self.fading = Folding(settings, spec, place), Fading(store)
        return store

    @property
    def bytes(self) -> int:
        shelved = self.at_once * self.memory.shares.numel() * self.memory.shares.element_size()
        return super().bytes + self.folding.bytes + self.library.bytes + shelved

    @property
    def host_bytes(self) -> int:
        return self.library.bytes

    def passing_bytes(self, place: Placement) -> int:
        if len(self.scenes) == 1:
            return super().passing_bytes(place)
        folding = self.folding.passing_bytes(self.frame_values(place), place.dtype.itemsize)
        return max(super().passing_bytes(place), folding)

    def absorbing_bytes(self, place: Placement) -> int:
        """When a scene closes, everything in the window is absorbed, besides a copy of the queries as they were."""
        before = 2 * len(self.memory.slots) * self.frame_values(place) * place.dtype.itemsize
        return before + self.memory.passing_bytes(place, self.window - len(self.memory.slots))

    # A scene opens

    def open_scene(self, block: Block, store: KVStore) -> Transition:
        scene, kind = block.scene, self.scenes[block.scene].transition
        self.folding.begin(block.frames.start)
        self.recalled = []
        self.fading.end()
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
            self.fading.clear_in or None,
        )

    def _bring_back(self, source: int, store: KVStore) -> None:
        for slot, keepsake in zip(self.memory.slots, self._keepsakes(source), strict=True):
            store.write([slot], *self.library.get(keepsake))
        self.memory.take_back(self.shelf[source])
        if self.settings.recall_frame:
            slot, = store.take(1)
            store.write([slot], *self.library.get(Keepsake("recall", source)))
            self.recalled = [Held(slot, source, None, Role.TRANSITION, fade=0)]
            self.fading.begin(slice(0, 1), 1.0, self.settings.clear_after)

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
        return block.index + self.fading.clear_in if self.recalled else None

    def alive(self) -> list[int]:
        return [*{*super().alive(), *(held.slot for held in (*self.folding.candidates, *self.recalled))}]

    def absorb(self, block: Block, clean: CleanPass, store: KVStore) -> Facts:
        if block.scene in self.last_wanted:
            self.folding.collect(self.current, clean)
        facts = super().absorb(block, clean, store)
        if self.recalled:
            self._fade(block, store, facts)
        return facts

    def _fade(self, block: Block, store: KVStore, facts: Facts) -> None:
        """The recall frame loses weight: each token faster, the more it disagrees with the scene's first frame."""
        frame, = self.recalled
        if block.opens:
            self.fading.set_rates(
                scoring.difference_rates(store.key(self.current[0].slot), store.key(frame.slot),
                                         self.settings.min_rate, self.settings.max_rate), facts)
        self.fading.measure(slice(0, 1), facts)
        if self.fading.pass_block():
            self.recalled = []
            store.keep(self.alive())

    def close_scene(self, block: Block, store: KVStore) -> None:
        """A scene that will be recalled is kept, after what its window still holds was absorbed. A smooth successor
        continues with the queries as they were before that."""
        scene = block.scene
        if scene not in self.last_wanted:
            return
        with self._closed():
            self._shelve(scene, store)
        if self.settings.recall_frame:
            self.library.put(Keepsake("recall", scene), *self.folding.fold(store, self.facts))

    @contextmanager
    def _closed(self) -> Iterator[None]:
        """Inside, the queries have absorbed what the window still holds."""
        before, state = self.memory.keep(), self.memory.state
        self.memory.absorb(self.past, Facts())
        yield
        self.memory.write(state)
        self.memory.take_back(before)

    def _shelve(self, scene: int, store: KVStore) -> None:
        """Put the queries as they are into the library, as those of a scene."""
        self.shelf[scene] = self.memory.keep()
        for slot, keepsake in zip(self.memory.slots, self._keepsakes(scene), strict=True):
            self.library.put(keepsake, *store.frame(slot))

    # Scenes of other films, and for other films

    @property
    def lasting(self) -> frozenset[int]:
        return self._lasting

    def leave(self, block: Block, store: KVStore) -> tuple[Mapping[str, Frames], Mapping[str, float]]:
        with self._closed():
            return {QUERIES: store.frames(self.memory.slots)}, {SHARE: self.memory.share}

    def take_in(self, scene: int, entry: SceneEntry, store: KVStore) -> None:
        """The scene's queries; where it has none, or too few, they absorb its first frames now."""
        if scene not in self.last_wanted:
            return
        self.memory.begin()
        if entry.count(QUERIES) >= len(self.memory.slots):
            for index, slot in enumerate(self.memory.slots):
                store.write([slot], *entry.frame(QUERIES, index))
            self.memory.stand_for(scene, entry.numbers.get(SHARE, 1.0))
        else:
            slots = store.take(entry.count(FRAMES))
            for index, slot in enumerate(slots):
                store.write([slot], *entry.frame(FRAMES, index))
            self.memory.absorb([Held(slot, scene, None) for slot in slots], Facts())
        self._shelve(scene, store)
        self.memory.begin()
        store.keep(self.alive())
        if self.settings.recall_frame:
            self.library.put(Keepsake("recall", scene), *entry.frame(RECALL))

    # Between two blocks

    def needs_after(self, block: Block) -> frozenset[str]:
        return needed_after(block, {Keepsake("queries", scene): last for scene, last in self.last_wanted.items()})

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
        last_wanted = {keepsake: self.last_wanted[scene] for scene in shelf if scene in self.last_wanted
                       for keepsake in (*self._keepsakes(scene), Keepsake("recall", scene))}
        wanted = still_wanted(self, last_wanted, self.folding.start)
        self.shelf |= {scene: kept for scene, kept in shelf.items() if Keepsake("recall", scene) in wanted}
        self.library.restore(state["library"], wanted)
