"""`echo`: Echo-Forcing inside a scene; a recalled scene resumes where its first frames left it.

A scene that will be recalled leaves its keyframes in the library: its first frames, raw and in order. When it is
recalled they are its anchors again, at full weight and for the whole scene, and its clock continues after them, so that
rolling anchors, history and calibration run as if the scene had never been left. A hard cut carries nothing. At a
smooth change the first frame of the place and the last frames stay, unfaded, until the new scene fills the window.

With a `recall_strength` below 1, the cells in which the recalled scene's first frame disagrees with the keyframes the
most become that frame's cells when its block is finished. Nothing is scaled.
"""

from dataclasses import replace

import torch

from echo_cli.memory import scoring
from echo_cli.memory.entries import FRAMES, SceneEntry
from echo_cli.memory.policies.base import Facts, Held, Plan, Transition
from echo_cli.memory.policies.echo_forcing import EchoForcingMemory, EchoForcingPolicy
from echo_cli.memory.recall import Keepsake, SceneLibrary, lasting_wanted, library_size, needed_after, still_wanted
from echo_cli.memory.settings import EchoSettings
from echo_cli.memory.store import CleanPass, KVStore, Placement
from echo_cli.runtime import Later
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Block

LARGE = 10**6  # numbers in the keys of a frame from which on keyframes are kept in eight bits


class EchoPolicy(EchoForcingPolicy):
    settings: EchoSettings
    resumes = True

    def __init__(self, name: str, settings: EchoSettings, plan: Plan) -> None:
        super().__init__(name, settings, plan)
        most = self.window - self.block
        if not 0 < settings.keyframes <= most or settings.keyframes % self.block:
            self.refuse(f"{settings.keyframes} keyframes are not whole blocks within the window",
                        f"Use a multiple of {self.block} up to {most}.")
        self.resumed = {index: self.recalls[index].scene for index, cut in self.cuts.items()
                        if cut.source == "keyframes"}
        self.last_resumed = {scene: index for index, scene in self.resumed.items()}
        wanted = {Keepsake("keyframes", scene): last for scene, last in self.last_resumed.items()}
        if settings.recall.source == "keyframes":
            wanted, self._lasting = lasting_wanted(self, wanted, lambda scene: [Keepsake("keyframes", scene)],
                                                   settings.library)
            self.last_resumed = {keepsake.scene: last for keepsake, last in wanted.items()}
        self.at_once = library_size(wanted, settings, self)

    def needs_after(self, block: Block) -> frozenset[str]:
        wanted = {Keepsake("keyframes", scene): last for scene, last in self.last_resumed.items()}
        return super().needs_after(block) | needed_after(self, block, wanted)

    def allocate(self, place: Placement) -> "EchoMemory":
        return EchoMemory(self, self.new_store(place))


class EchoMemory(EchoForcingMemory):
    policy: EchoPolicy
    settings: EchoSettings

    def __init__(self, policy: EchoPolicy, store: KVStore) -> None:
        super().__init__(policy, store)
        eight = policy.settings.eight_bits
        if eight is None:
            eight = store.frame_values >= LARGE * store.frame_shape[1]
        self.keyframes = SceneLibrary(policy.at_once * policy.settings.keyframes, store, eight)
        # For each scene in the library: the film frames of its keyframes, and the calibration after them.
        self.kept: dict[int, list[int | None]] = {}
        self.calibrations: dict[int, Nest] = {}

    @property
    def bytes(self) -> int:
        calibration = sum(each.numel() * each.element_size() for each in
                          (self.history.query_sum, self.history.query_abs))
        return super().bytes + self.keyframes.bytes + self.policy.at_once * calibration

    @property
    def host_bytes(self) -> int:
        return super().host_bytes + self.keyframes.bytes

    # A scene is recalled

    def open_scene(self, block: Block) -> Transition:
        transition = super().open_scene(block)
        if (source := self.policy.resumed.get(block.scene)) is None:
            return transition
        held = self._bring_back(source)
        self.window_frames[:len(held)] = self.origins[:len(held)] = held
        self.end = self.offset = len(held)
        self.history.resume(held, self.calibrations.get(source))
        if self.policy.last_resumed[source] == block.scene:
            self._forget(source)
        self._keep(block.scene, held)
        return replace(transition, carried=len(held), source="keyframes", source_scene=source)

    def _bring_back(self, scene: int) -> list[Held]:
        """The keyframes of a scene, in slots that the old window has left."""
        self.window_frames = [self.blank] * self.window
        self.store.keep(held.slot for held in self._alive())
        frames = self.kept[scene]
        slots = self.store.take(len(frames))
        for index, slot in enumerate(slots):
            self.store.write([slot], *self.keyframes.get(_keepsake(index, scene)))
        return [Held(slot, scene, frame) for slot, frame in zip(slots, frames, strict=True)]

    # A scene is remembered

    def absorb(self, block: Block, clean: CleanPass) -> Facts:
        if block.opens and block.scene in self.policy.resumed and self.settings.recall_strength < 1:
            self._replace(self.window_frames[:self.end - self.block], self.current[0])
        facts = super().absorb(block, clean)
        self._keep(block.scene, self.current)
        return facts

    def _replace(self, keyframes: list[Held], new: Held) -> None:
        """The cells that disagree the most with the scene's new first frame become its own, up to half of them; in all
        layers and keyframes the same ones."""
        keys, values = self.store.frame(new.slot)
        count = round((1 - self.settings.recall_strength) / 2 * self.store.grid.tokens)
        old = [self.store.frame(held.slot) for held in keyframes]
        gone = scoring.disagreeing(keys, [frame for frame, _ in old], count)
        for held, (key, value) in zip(keyframes, old, strict=True):
            self.store.write([held.slot], torch.where(gone, keys, key), torch.where(gone, values, value))
        self.facts.decay_map = Later(1 - gone.float().mean((0, 1, 3, 4)))

    def close_scene(self, block: Block) -> None:
        super().close_scene(block)
        self.facts.kept = tuple(frame for frame in self.kept.get(block.scene, ()) if frame is not None)

    def _keep(self, scene: int, frames: list[Held]) -> None:
        """These frames are the scene's next: into the library, if they are wanted and it has too few."""
        if scene not in self.policy.last_resumed:
            return
        kept = self.kept.setdefault(scene, [])
        new = frames[:self.settings.keyframes - len(kept)]
        for held in new:
            self.keyframes.put(_keepsake(len(kept), scene), *self.store.frame(held.slot))
            kept.append(held.frame)
        if new:
            self.calibrations[scene] = self.history.calibration()

    def _forget(self, scene: int) -> None:
        for index in range(len(self.kept.pop(scene))):
            self.keyframes.forget(_keepsake(index, scene))
        self.calibrations.pop(scene, None)

    def take_in(self, scene: int, entry: SceneEntry) -> None:
        super().take_in(scene, entry)
        if scene not in self.policy.last_resumed:
            return
        count = min(entry.count(FRAMES), self.settings.keyframes)
        for index in range(count):
            self.keyframes.put(_keepsake(index, scene), *entry.frame(FRAMES, index))
        self.kept[scene] = [None] * count
        tokens = count * self.store.grid.tokens
        mean, magnitude = (part.to(self.store.device).float() * tokens for part in entry.calibration)
        self.calibrations[scene] = {"query_sum": mean, "query_abs": magnitude, "tokens": tokens}

    # Between two blocks

    def state(self) -> Nest:
        return {**super().state(), "kept": {str(scene): frames for scene, frames in self.kept.items()},
                "calibrations": {str(scene): each for scene, each in self.calibrations.items()},
                "keyframes": self.keyframes.state()}

    def restore(self, state: Nest) -> None:
        super().restore(state)
        kept = {int(scene): list(frames) for scene, frames in state["kept"].items()}
        last_wanted = {_keepsake(index, scene): last for scene, last in self.policy.last_resumed.items()
                       for index in range(len(kept.get(scene, ())))}
        wanted = still_wanted(self.policy, last_wanted, self.scene_start)
        self.kept |= {scene: frames for scene, frames in kept.items() if _keepsake(0, scene) in wanted}
        self.calibrations |= {int(scene): each for scene, each in state["calibrations"].items()
                              if int(scene) in self.kept}
        self.keyframes.restore(state["keyframes"], wanted)


def _keepsake(index: int, scene: int) -> Keepsake:
    return Keepsake(f"key {index}", scene)
