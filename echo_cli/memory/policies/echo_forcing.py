"""`echo-forcing`: anchors that roll, history chosen by phase, a recent window, recall frames, decay (training-free).

Follows the released method slot for slot, oddities included; the settings at the end of `EchoForcingSettings` turn
them off. The policy decides what each scene begins with and what is kept for later ones; its memory does it.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

from torch import Tensor

from echo_cli.context import BlockContext, Observer
from echo_cli.layout import Layout, Role
from echo_cli.memory import scoring
from echo_cli.memory.entries import FRAMES, RECALL, SceneEntry
from echo_cli.memory.fading import Fading
from echo_cli.memory.history import History, Places
from echo_cli.memory.policies.base import (
    Facts,
    Held,
    Memory,
    Plan,
    Policy,
    Transition,
    film_frames,
    held_block,
    held_from,
    held_state,
    held_stills,
    layout_of,
)
from echo_cli.memory.recall import (
    Folding,
    Keepsake,
    SceneLibrary,
    by_last_scene,
    lasting_wanted,
    library_size,
    most_at_once,
    needed_after,
    still_wanted,
)
from echo_cli.memory.settings import CutSettings, EchoForcingSettings, changed
from echo_cli.memory.store import CleanPass, KVStore, Placement
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Block, Kind

# The state of a scene's clock between two blocks.
PLAIN = (
    "scene_start",
    "offset",
    "scene_timing",
    "tail",
    "end",
    "carried",
)

ROLL = 3  # frames for which one unit of the rolling cycle stands, and the least history unless the settings say less


class EchoForcingPolicy(Policy):
    settings: EchoForcingSettings
    resumes = False  # whether a recalled scene may come back by its keyframes

    def __init__(self, name: str, settings: EchoForcingSettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        self.history_frames = self._history_frames()
        # scene frames that the anchors roll over, a block at a time
        self.wave = max(1, ROLL * settings.rolling_cycle // self.block) * self.block
        if self.wave > self.window:
            self.refuse(f"a rolling cycle of {settings.rolling_cycle} needs {self.wave} frames, more than the window's "
                        f"{self.window}", f"Use a rolling cycle of at most {self.window // ROLL}.")
        self.cuts = {index: self._cut(index) for index in range(1, len(self.scenes))}
        chains = [0]  # for each scene, the one that opened its chain of smooth transitions
        for index, scene in enumerate(self.scenes[1:], start=1):
            chains.append(chains[-1] if scene.transition and scene.transition.continues else index)
        self.wanted = {index: keepsake for index in self.cuts if (keepsake := self._wanted(index, chains))}
        self.last_wanted = {keepsake: index for index, keepsake in self.wanted.items()}
        self.recalled = frozenset(self.last_wanted)  # by the film itself
        self._keep_for_edits(chains)
        self._keep_for_later()
        self.last_needed = by_last_scene(self.last_wanted)
        self.library_size = library_size(self.last_wanted, settings, self)
        self.pictured = any(scene.opening is not None for scene in self.scenes)
        self.uncleared = any(map(self._misaligned, {*self.cuts.values()}))
        self.jumps = {index: self._jump(index) for index in self.cuts}
        self.need_positions(max((jump or 0 for jump in self.jumps.values()), default=0))

    def _history_frames(self) -> int:
        """The window's places for chosen history: as many as the settings say, which must fit, or all that are left."""
        settings = self.settings
        others = settings.anchor_frames + settings.recent_frames + self.block
        left = self.window - others
        history = max(ROLL, left) if settings.history_frames is None else settings.history_frames
        if settings.compression and history != left:
            self.refuse(
                f"{settings.anchor_frames} anchor, {history} history and {settings.recent_frames} recent frames and a "
                f"block of {self.block} are {others + history} frames, but the window has {self.window}",
                f"Choose them so that they add up to {self.window}.")
        return history

    def _cut(self, index: int) -> CutSettings:
        scene = self.scenes[index]
        problems: list[str] = []
        cut = changed(self.settings.cut(scene.transition or Kind.SMOOTH), scene.memory, f"scene '{scene.id}'", problems)
        if problems:
            self.refuse("; ".join(problems), "A scene may override the settings of its own transition.")
        if cut.jump == "similarity" and index not in self.recalls:
            self.refuse(f"scene '{scene.id}' jumps by similarity, but recalls nothing",
                        "Use jump: fixed, or a recall transition.")
        if cut.source == "keyframes" and not (self.resumes and index in self.recalls):
            self.refuse(f"scene '{scene.id}' cannot begin with keyframes",
                        "Use source: keyframes with the memory echo, for a recall.")
        return cut

    def _keep_for_edits(self, chains: Sequence[int]) -> None:
        """Also keep what a smooth transition or a hard cut would need where an edit may insert a scene, unless the
        library is too small."""
        wanted = dict(self.last_wanted)
        for index in sorted(self.plan.open_ends):
            for kind in (Kind.SMOOTH, Kind.HARD_CUT):
                if keepsake := self._carried(kind, self.settings.cut(kind), index, chains):
                    wanted[keepsake] = max(index, wanted.get(keepsake, 0))
        if most_at_once(wanted) <= self.settings.library:
            self.last_wanted = wanted

    def _keep_for_later(self) -> None:
        """Also want what a film that continues this one would need to recall scenes, as far as there is room."""
        source = self.settings.recall.source

        def of(scene: int) -> list[Keepsake]:
            return [] if source in ("none", "resink", "keyframes") else [Keepsake(source, scene)]

        self.last_wanted, self._lasting = lasting_wanted(self, self.last_wanted, of, self.settings.library)

    @property
    def lasting(self) -> frozenset[int]:
        return self._lasting

    def _wanted(self, index: int, chains: Sequence[int]) -> Keepsake | None:
        return self._carried(self.scenes[index].transition or Kind.SMOOTH, self.cuts[index], index, chains)

    def _carried(self, kind: Kind, cut: CutSettings, index: int, chains: Sequence[int]) -> Keepsake | None:
        """What an earlier scene contributes when the scene of this number begins with such a transition."""
        if cut.source in ("none", "resink", "keyframes"):
            return None
        if kind.targeted:
            return Keepsake(cut.source, self.recalls[index].scene)
        chained = kind.continues and not self.settings.nearest_anchor
        return Keepsake(cut.source, chains[index - 1] if chained else index - 1)

    def _jump(self, index: int) -> int | None:
        cut = self.cuts[index]
        if cut.jump == "fixed":
            return cut.jump_value
        recall = self.recalls[index]
        if self.settings.jump_by_gap:
            return scoring.gap_jump(recall.similarity, cut.jump_min, cut.jump_max)
        return scoring.position_jump(
            recall.similarity, [score for _, score in recall.scores], cut.jump_min, cut.jump_max
        )

    def _misaligned(self, cut: CutSettings) -> bool:
        """Whether the window may fill up with a remainder of a block. Rolling then moves frames that lie behind its
        end, so that those of the old scene must not be dropped. A picture may have taken a block of it."""
        most = 0 if cut.source in ("none", "keyframes") else 1
        counts = {count for memory in (0, most) for count in range(memory, memory + cut.recent_frames + 1)}
        return any(
            count % self.block and not 0 < cut.clear_after <= (self.window - count) // self.block - self.pictured
            for count in counts
        )

    def needs_after(self, block: Block) -> frozenset[str]:
        behind = "kept" if self.uncleared else "dropped"
        return needed_after(self, block, self.last_wanted) | {f"a window whose old frames are {behind} as here"}

    @property
    def history_capacity(self) -> int:
        return max(self.settings.history_capacity, self.window)

    def new_store(self, place: Placement) -> KVStore:
        settings = self.settings
        carried = 1 + max((cut.recent_frames for cut in self.cuts.values()), default=0)
        slots = (self.history_capacity + self.wave + self.block + carried  # history, and the scene's beginning
                 + 2 * (self.history_frames + self.block)  # chosen tokens and the block, old and new
                 + self.window * self.uncleared
                 + 2 * settings.candidate_frames // settings.candidate_stride + 3)
        if not settings.compression:
            slots += self.window
        return KVStore(self.spec, place, slots, self.window, carried, settings.forgetting == "suppress")

    def allocate(self, place: Placement) -> "EchoForcingMemory":
        return EchoForcingMemory(self, self.new_store(place))


class EchoForcingMemory(Memory):
    """Places are indices into `window_frames`, a list as long as the window: the first `end` are in use, and the rest
    holds what was there before, as in a buffer that is never cleared."""

    policy: EchoForcingPolicy
    settings: EchoForcingSettings

    def __init__(self, policy: EchoForcingPolicy, store: KVStore) -> None:
        super().__init__(policy, store)
        settings = policy.settings
        self.library = SceneLibrary(policy.library_size, store)
        self.blank = Held(store.take(1)[0], 0, None)
        self.window_frames, self.origins = [self.blank] * self.window, [self.blank] * self.window
        self.history = History(settings, store, policy.history_capacity, self.window)
        self.folding = Folding(settings, store, settings.candidates_from_whole_scene)
        self.fading = Fading(store)

        self.scene_start, self.offset, self.scene_timing = 0, 0, False
        self.tail = False
        self.end = 0
        self.first: Held | None = None  # the first frame that the scene made: `select`
        self.current: list[Held] = []
        self.choice: tuple[list[tuple[int, Held]], Places] | None = None  # what this block chooses from, and for where
        self.carried = 0
        self.jump: int | None = None
        self.facts = Facts()

    @property
    def bytes(self) -> int:
        return self.folding.bytes + self.history.bytes + self.library.bytes

    @property
    def host_bytes(self) -> int:
        return self.library.bytes

    @property
    def passing_bytes(self) -> int:
        return max(super().passing_bytes, self.folding.passing_bytes if self.policy.cuts else 0)

    # A scene opens

    def open_scene(self, block: Block) -> Transition:
        self.scene_start = block.frames.start
        self.folding.begin(self.scene_start)
        if block.scene == 0:
            return Transition(None)
        cut, wanted = self.policy.cuts[block.scene], self.policy.wanted.get(block.scene)
        memory: list[Held] = []
        if wanted:
            slot, = self.store.take(1)
            self.store.write([slot], *self.library.get(wanted))
            memory = [Held(slot, wanted.scene, None)]
        elif cut.source == "resink":
            memory = [self.window_frames[0]]
        recent = self.window_frames[max(0, self.end - cut.recent_frames):self.end]
        carried = memory + recent
        start, stop = {"old_memory": (0, len(carried)), "old_recall": (0, len(memory)),
                       "old_recent": (len(memory), len(carried))}[cut.target]
        clear_after = cut.clear_after if carried else 0  # nothing was carried, so nothing will leave
        self.fading.begin(slice(start, stop), cut.first_weight, clear_after)

        self.carried = self.end = self.offset = len(carried)
        self.window_frames[:self.end] = [
            replace(held, role=Role.TRANSITION, fade=index if start <= index < stop else None)
            for index, held in enumerate(carried)]
        self._blank_behind()
        self.origins = [replace(held, role=Role.TRANSITION, fade=None) for held in carried]
        self.origins += [self.blank] * (self.window - self.end)
        self.history.clear()
        self.scene_timing, self.tail = cut.scene_timing, cut.positions == "tail"
        self.jump = self.policy.jumps[block.scene]
        for keepsake in self.policy.last_needed.get(block.scene, ()):
            self.library.forget(keepsake)
        return Transition(self.scenes[block.scene].transition, self.carried,
                          cut.source if memory else None, memory[0].scene if memory else None,
                          self.recalls.get(block.scene), self.jump, clear_after or None, settings=asdict(cut))

    def lead_in(self, block: Block) -> Layout | None:
        if self.end + 2 * self.block > self.window:
            return None
        self.store.keep(held.slot for held in self._alive())
        self.current = held_stills(block, self.store.take(self.block))
        return layout_of(self.window_frames[:self.end], [self._role(index) for index in range(self.end)], block,
                         self.current, self.store.grid.tokens)

    def led_in(self, block: Block) -> None:
        """The stills are the scene's first frames: its clock continues after them, and its anchors roll over them."""
        stop = self.end + self.block
        self.window_frames[self.end:stop] = self.origins[self.end:stop] = self.current
        self.end, self.offset = stop, self.offset + self.block
        self.scene_timing = self.scene_timing or block.scene == 0
        self.history.resume([*self.history.frames, *self.current], None)

    # A block takes its place

    def scene_position(self, block: Block) -> int:
        """Where the block stands by its scene's clock, or by the film's."""
        return block.frames.start - self.scene_start + self.offset if self.scene_timing else block.frames.start

    def arrange(self, block: Block) -> Layout:
        self.facts, self.choice = Facts(), None
        self.current = held_block(block, self.store.take(self.block))
        position = self.scene_position(block)
        surplus = self.end + self.block - self.window
        before = self.window_frames[:self.end]
        if surplus > 0:
            if self.settings.compression:
                self._roll(surplus, position)
            else:
                kept = min(self.settings.sink_frames, self.end)
                self.window_frames[kept:self.end - surplus] = self.window_frames[kept + surplus:self.end]
            self.end = self.window
        else:
            self.end += self.block
        past = self.end - self.block
        self.window_frames[past:self.end] = self.current
        if self.settings.compression and position + self.block <= self.window:
            self.origins[past:self.end] = self.current
        stay = {held.slot for held in self.window_frames[:past]}
        self.facts.evicted = film_frames(held for held in before if held.slot not in stay)
        last = self.window - self.block
        return layout_of(self.window_frames[:past], [self._role(index) for index in range(past)], block, self.current,
                         self.store.grid.tokens, first=self.window - self.end if self.tail else 0,
                         query=last if self.tail else min(max(position, 0), last), jump=self.jump,
                         expires=block.index + self.fading.clear_in if self.fading.clear_in else None)

    def _role(self, index: int) -> Role:
        role = self.window_frames[index].role
        if role is not None:
            return role
        return Role.ANCHOR if index < self.settings.anchor_frames else Role.RECENT

    def _roll(self, surplus: int, position: int) -> None:
        """Make room in a full window: anchors slide over the scene's beginning, history is chosen again, the last
        frames stay."""
        old, settings = list(self.window_frames), self.settings
        anchors, chosen = settings.anchor_frames, self.policy.history_frames
        if anchors > surplus:
            self.window_frames[:anchors - surplus] = old[surplus:anchors]
        groups = anchors // self.block
        if position >= self.window and groups:
            scene_frames = self._wave_at(position - (self.window - self.policy.wave))
            self.window_frames[self.block * (groups - 1):self.block * groups] = [self.origins[i] for i in scene_frames]
            self.facts.anchors_from = tuple(scene_frames)
        tail, recent = anchors + chosen, settings.recent_frames
        self.window_frames[tail:tail + recent] = old[tail + self.block:tail + self.block + recent]
        eligible = self.history.eligible(self.window_frames[:anchors])
        if self.history.ready and chosen and eligible:
            places = Places(self.store.take(chosen), tuple(held.slot for held in old[anchors:tail]), anchors,
                            anchors + (self.window - self.end if self.tail else 0))
            self.window_frames[anchors:tail] = [
                Held(slot, eligible[-1][1].scene, None, Role.HISTORY) for slot in places.slots
            ]
            self.store.expect(places.slots)
            self.choice = (eligible, places)

    def _wave_at(self, phase: int) -> list[int]:
        """Scene frames for the anchors' newest places: a triangle wave over the first `wave` frames, three at a time,
        backwards first."""
        turn, place = divmod(phase, self.policy.wave)
        if turn % 2:
            left = max(0, self.policy.wave - place - self.block)
            return list(range(left + self.block - 1, left - 1, -1))
        return list(range(place, place + self.block))

    def look(self, block: Block, context: BlockContext) -> Observer | None:
        """History is chosen while the block's first pass asks for it."""
        return self.history.choose(*self.choice, context, self.facts) if self.choice else None

    # A block is finished

    def absorb(self, block: Block, clean: CleanPass) -> Facts:
        if self.settings.compression:
            self.history.absorb(self.current, self.scene_position(block) + self.block, clean, self.facts)
        if Keepsake("recall", block.scene) in self.policy.last_wanted:
            self.folding.collect(self.current, clean)
        if block.opens and block.scene:
            self._set_rates(self.policy.cuts[block.scene])
        self._measure()
        if block.opens:
            self.first = self.current[0]
            if (keepsake := Keepsake("select", block.scene)) in self.policy.last_wanted:
                self.library.put(keepsake, *self.store.frame(self.first.slot))
        if self.fading.pass_block():
            self._clear()
        self.jump = None
        self.store.keep(held.slot for held in self._alive())
        return self.facts

    def _set_rates(self, cut: CutSettings) -> None:
        """Decided once, when the new scene has shown its first frame: fixed, or by how much each token disagrees."""
        rates: Tensor | float = cut.fixed_rate
        if cut.strategy == "diff":
            old = self.first if cut.target == "old_recent" else self.window_frames[0]
            assert old is not None, "a scene follows another, which had a first frame"
            rates = scoring.difference_rates(self.store.key(self.current[0].slot), self.store.key(old.slot),
                                             cut.min_rate, cut.max_rate)
        self.fading.set_rates(rates, self.facts)

    def _measure(self) -> None:
        rows = sorted({held.fade for held in self.window_frames[:self.end] if held.fade is not None})
        if rows:
            self.fading.measure(slice(rows[0], rows[-1] + 1), self.facts)

    def _clear(self) -> None:
        """Remove what the transition carried: by its place in the window, not by its identity, as in the release."""
        count = min(self.carried, self.end)
        gone = self.window_frames[:count]
        self.window_frames[:self.end - count] = self.window_frames[count:self.end]
        self.origins[:self.window - count] = self.origins[count:]
        self.end -= count
        self._blank_behind()
        self.offset = max(0, self.offset - count)
        self.fading.end()
        self.facts.evicted += film_frames(gone)

    def _blank_behind(self) -> None:
        if not self.policy.uncleared:
            self.window_frames[self.end:] = [self.blank] * (self.window - self.end)

    def _alive(self) -> list[Held]:
        pending = self.carried if self.fading.clear_in else 0
        held = [self.blank, *self.window_frames, *self.history.frames, *self.folding.candidates,
                *self.origins[:self.policy.wave + self.block + pending]]
        return held + ([self.first] if self.first else [])

    def close_scene(self, block: Block) -> None:
        keepsake = Keepsake("recall", block.scene)
        if keepsake in self.policy.last_wanted:
            # Frames that are kept only for an edit are not traced.
            facts = self.facts if keepsake in self.policy.recalled else Facts()
            self.library.put(keepsake, *self.folding.fold(facts))

    def take_in(self, scene: int, entry: SceneEntry) -> None:
        for part, keepsake in ((RECALL, Keepsake("recall", scene)), (FRAMES, Keepsake("select", scene))):
            if keepsake in self.policy.last_wanted:
                self.library.put(keepsake, *entry.frame(part))

    # Between two blocks

    def state(self) -> Nest:
        return {
            "clock": {name: getattr(self, name) for name in PLAIN},
            "window": held_state(self.window_frames),
            "origins": held_state(self.origins),
            "first": held_state([self.first] if self.first else []),
            "fading": self.fading.state(),
            "folding": self.folding.state(),
            "history": self.history.state(),
            "library": self.library.state(),
        }

    def restore(self, state: Nest) -> None:
        for name in PLAIN:
            setattr(self, name, state["clock"][name])
        self.window_frames, self.origins = held_from(state["window"]), held_from(state["origins"])
        self.first = next(iter(held_from(state["first"])), None)
        self.fading.restore(state["fading"])
        self.folding.restore(state["folding"])
        self.history.restore(state["history"])
        self.library.restore(state["library"], still_wanted(self.policy, self.policy.last_wanted, self.scene_start))
