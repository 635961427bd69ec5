"""Finished scenes: which of them later scenes recall, and the frames that are kept for that.

The plan is made on the host before any frame is generated, so the library holds exactly what the film will ask for, in
tensors allocated once. `scoring.fold` makes a scene's frame; the policy decides when.
"""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from echo_cli.memory import scoring
from echo_cli.memory.eight import packed, unpacked
from echo_cli.memory.policies.base import Facts, Held, Policy, film_frames, held_from, held_state
from echo_cli.memory.settings import RecallSettings
from echo_cli.memory.store import CleanPass, KVStore
from echo_cli.runtime import Later
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Block


class Keepsake(NamedTuple):
    """A frame of a scene that a later scene needs: its recall frame, or its first frame."""

    kind: str  # recall | select
    scene: int


def most_at_once(last_wanted: Mapping[Keepsake, int]) -> int:
    """How many keepsakes are kept at the same time, each from its own scene to the last one that needs it."""
    changes = Counter(keepsake.scene for keepsake in last_wanted)
    changes.subtract(Counter(last_wanted.values()))  # a scene takes out before it puts in
    return max(accumulate(changes[scene] for scene in sorted(changes)), default=0)


def library_size(last_wanted: Mapping[Keepsake, int], settings: RecallSettings, policy: Policy) -> int:
    """Scenes that the library holds at once, or a UsageError if its settings allow fewer."""
    at_once = most_at_once(last_wanted)
    if at_once > settings.library:
        policy.refuse(f"this storyboard needs {at_once} scenes in the library at once, but it holds {settings.library}",
                      f"Set library to {at_once} or more.")
    return at_once


def lasting_wanted(policy: Policy, wanted: Mapping[Keepsake, int], of: Callable[[int], Iterable[Keepsake]],
                   library: int) -> tuple[dict[Keepsake, int], frozenset[int]]:
    """What is wanted, with the keepsakes `of` each scene that is to outlast the film, and which of these scenes there
    is room for in the library: the last ones."""
    after, kept = len(policy.scenes), []
    wanted = dict(wanted)
    for scene in sorted(policy.plan.lasting, reverse=True):
        more = wanted | dict.fromkeys(of(scene), after)
        if most_at_once(more) > library:
            break
        wanted = more
        kept.append(scene)
    return wanted, frozenset(kept)


def by_last_scene(last_wanted: Mapping[Keepsake, int]) -> dict[int, list[Keepsake]]:
    """The keepsakes that are forgotten when a scene opens, by the number of the scene."""
    needed: dict[int, list[Keepsake]] = {}
    for keepsake, last in last_wanted.items():
        needed.setdefault(last, []).append(keepsake)
    return needed


WORDS = {"recall": "the frame folded from", "select": "the first frame of", "keyframes": "the keyframes of",
         "queries": "the queries of"}


def needed_after(policy: Policy, block: Block, last_wanted: Mapping[Keepsake, int]) -> frozenset[str]:
    """The keepsakes of finished scenes that later ones need, and those that the block's own scene is collecting, in
    words. What scenes of other films left is taken in from their files."""
    return frozenset(f"{WORDS[kind]} scene '{policy.scenes[scene].id}'" for (kind, scene), last in last_wanted.items()
                     if 0 <= scene <= block.scene < last)


def still_wanted(policy: Policy, last_wanted: Mapping[Keepsake, int], start: int) -> set[Keepsake]:
    """The keepsakes that scenes after the one which began at frame `start` of the film need."""
    scene = policy.plan.timeline.blocks[start // policy.block].scene
    return {keepsake for keepsake, last in last_wanted.items() if last > scene}


class Folding:
    """What the current scene's recall frame will be folded from: some of its frames and all of its queries."""

    def __init__(self, settings: RecallSettings, store: KVStore, whole_scene: bool = False) -> None:
        self.settings, self.store, self.whole_scene = settings, store, whole_scene
        depth, batch, _, *head = store.frame_shape
        self.query_sum = torch.zeros(depth, batch, *head, device=store.device)
        self.begin(0)

    def begin(self, start: int) -> None:
        """A scene opens at this frame of the film."""
        self.start, self.step, self.query_tokens = start, self.settings.candidate_stride, 0
        self.candidates: list[Held] = []
        self.query_sum.zero_()

    @property
    def bytes(self) -> int:
        return self.query_sum.numel() * self.query_sum.element_size()

    @property
    def passing_bytes(self) -> int:
        """Bytes that folding needs temporarily; sums are float32."""
        return (12 * self.settings.candidates + 5 * self.store.keys.element_size()) * self.store.frame_values

    def collect(self, current: Sequence[Held], clean: CleanPass) -> None:
        """A block of the scene is finished. Candidates come from the scene's beginning or, further apart the longer it
        lasts, from all of it."""
        self.query_sum += clean.query_sum
        self.query_tokens += clean.tokens
        for held in current:
            number = self._number(held)
            if number % self.step == 0 and (self.whole_scene or number < self.settings.candidate_frames):
                self.candidates.append(held)
            if self.whole_scene and len(self.candidates) > self.settings.candidates:
                self.step *= 2
                self.candidates = [old for old in self.candidates if self._number(old) % self.step == 0]

    def _number(self, held: Held) -> int:
        assert held.frame is not None, "a candidate is a frame of the film"
        return held.frame - self.start

    def fold(self, facts: Facts) -> tuple[Tensor, Tensor]:
        """Keys and values of the scene's recall frame."""
        facts.folded = film_frames(self.candidates)
        keys, values, shares = scoring.fold(
            *self.store.frames([held.slot for held in self.candidates]), self.query_sum / self.query_tokens,
            self.settings.base_weight, self.settings.fold == "score_weighted")
        facts.shares = Later(shares.mean((0, 1, 3)))
        return keys, values

    def state(self) -> Nest:
        return {"start": self.start, "step": self.step, "query_tokens": self.query_tokens,
                "candidates": held_state(self.candidates), "query_sum": self.query_sum}

    def restore(self, state: Nest) -> None:
        self.start, self.step, self.query_tokens = (state[name] for name in ("start", "step", "query_tokens"))
        self.candidates = held_from(state["candidates"])
        self.query_sum.copy_(state["query_sum"])


class SceneLibrary:
    """Bounded pool of frames of a store, on the host: a frame of a large model is hundreds of megabytes, and half of
    that in `eight` bits, each channel of a frame on a scale of its own."""

    def __init__(self, capacity: int, store: KVStore, eight: bool = False) -> None:
        frame_shape, device, dtype = store.frame_shape, store.device, store.keys.dtype
        pin = device.type == "cuda" and capacity > 0
        # On the meta device, sizes are counted and nothing is kept.
        home = device if device.type == "meta" else torch.device("cpu")
        self._device, self._dtype, self._eight = device, dtype, eight

        def pool(*shape: int, dtype: torch.dtype) -> Tensor:
            return torch.zeros(capacity, *shape, dtype=dtype, pin_memory=pin, device=home)

        depth, batch, _, *channels = frame_shape
        kept = torch.int8 if eight else dtype
        self._keys, self._values = (pool(*frame_shape, dtype=kept) for _ in range(2))
        scales = (depth, batch, 1, *channels) if eight else (0,)
        self._key_scales, self._value_scales = (pool(*scales, dtype=torch.float32) for _ in range(2))
        self._places: dict[Keepsake, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

    @property
    def _pools(self) -> tuple[Tensor, ...]:
        return self._keys, self._values, self._key_scales, self._value_scales

    @property
    def bytes(self) -> int:
        return sum(pool.numel() * pool.element_size() for pool in self._pools)

    def put(self, keepsake: Keepsake, keys: Tensor, values: Tensor) -> None:
        """Store [layer, batch, token, head, dim]; copies run in stream order, and nothing waits for them."""
        place = self._take(keepsake)
        for frame, home, scales in ((keys, self._keys, self._key_scales), (values, self._values, self._value_scales)):
            if not self._eight:
                home[place].copy_(frame.detach(), non_blocking=True)
                continue
            for layer, each in enumerate(frame.detach()):
                codes, scale = packed(each)
                home[place, layer].copy_(codes, non_blocking=True)
                scales[place, layer].copy_(scale, non_blocking=True)

    def _take(self, keepsake: Keepsake) -> int:
        assert keepsake not in self._places, f"{keepsake} is in the library already"
        place = self._places[keepsake] = self._free.pop()
        return place

    def get(self, keepsake: Keepsake) -> tuple[Tensor, Tensor]:
        place = self._places[keepsake]
        keys, values, *scales = (pool[place].to(self._device, non_blocking=True) for pool in self._pools)
        if not self._eight:
            return keys, values
        key_scales, value_scales = scales
        return self._unpacked(keys, key_scales), self._unpacked(values, value_scales)

    def _unpacked(self, codes: Tensor, scales: Tensor) -> Tensor:
        """A frame in the model's numbers, layer by layer, since one layer in float32 is as large as it gets."""
        frame = torch.empty(codes.shape, dtype=self._dtype, device=codes.device)
        for layer, code, scale in zip(frame, codes, scales, strict=True):
            layer.copy_(unpacked(code, scale))
        return frame

    def kept(self, keepsake: Keepsake) -> tuple[Tensor, Tensor]:
        """Where it lies, on the host, if it is kept as it was."""
        assert not self._eight, "a frame in eight bits has to be unpacked"
        self._arrive()
        place = self._places[keepsake]
        return self._keys[place], self._values[place]

    def _arrive(self) -> None:
        """Frames may still be on their way to the host."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    def forget(self, keepsake: Keepsake) -> None:
        self._free.append(self._places.pop(keepsake))

    def state(self) -> Nest:
        """Everything that is kept."""
        self._arrive()
        places = list(self._places.values())
        return {"kept": [list(keepsake) for keepsake in self._places], "pools": [pool[places] for pool in self._pools]}

    def restore(self, state: Nest, wanted: Container[Keepsake] | None = None) -> None:
        """Restore what `state` returned, beside what is here already, without what is no longer `wanted`."""
        for index, named in enumerate(state["kept"]):
            keepsake = Keepsake(*named)
            if keepsake not in self._places and (wanted is None or keepsake in wanted):
                place = self._take(keepsake)
                for pool, kept in zip(self._pools, state["pools"], strict=True):
                    pool[place].copy_(kept[index])
