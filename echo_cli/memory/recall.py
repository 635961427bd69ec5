"""Finished scenes: which of them a later scene will want back, and the frames kept for it.

The plan is made on the host before any frame is generated, so the library holds exactly what the film will ask for,
in tensors allocated once. What a scene's frame is made of is `scoring.fold`; when it is made is the policy's decision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.storyboard.nouns import AUTO, Kind, Scene


@dataclass(frozen=True, slots=True)
class Recall:
    """The partner of a recalling scene, how similar it is, and every candidate with its score."""

    scene: int
    similarity: float
    scores: tuple[tuple[int, float], ...]


def plan_recalls(scenes: Sequence[Scene], likeness: Sequence[Sequence[float]], pool: int) -> dict[int, Recall]:
    """The partner of every recalling scene: the one it names, else the likest of the last `pool`; the first wins ties."""
    ids = [scene.id for scene in scenes]
    plan = {}
    for index, scene in enumerate(scenes):
        if scene.transition is not Kind.RECALL:
            continue
        if index == 0:
            raise UsageError(f"scene '{scene.id}' opens the film and has nothing to recall",
                             hint="Leave out its transition.")
        scores = tuple((past, likeness[index][past]) for past in range(max(0, index - pool), index))
        if scene.recall in (None, AUTO):
            partner = max(scores, key=lambda entry: entry[1])[0]
        elif scene.recall in ids[:index]:
            partner = ids.index(scene.recall)
        else:
            later = scene.recall in ids
            why = "which is not an earlier scene" if later else f"but no scene has that id{did_you_mean(scene.recall, ids)}"
            raise UsageError(f"scene '{scene.id}': recall of '{scene.recall}', {why}",
                             hint=f"Earlier scenes are: {', '.join(ids[:index])}.")
        plan[index] = Recall(partner, likeness[index][partner], scores)
    return plan


class Keepsake(NamedTuple):
    """A frame of a scene that will be wanted again: its recall frame, or the first frame it made."""

    kind: str  # recall | select
    scene: int


def most_at_once(wanted: Iterable[tuple[Keepsake, int]]) -> int:
    """How many keepsakes live at the same time, each from its own scene to the last scene that wants it."""
    last: dict[Keepsake, int] = {}
    for keepsake, at in wanted:
        last[keepsake] = max(at, last.get(keepsake, 0))
    return max((sum(keepsake.scene <= scene < end for keepsake, end in last.items()) for scene in
                {keepsake.scene for keepsake in last}), default=0)


class SceneLibrary:
    """Bounded pool of keepsakes, on the host: a frame of a large model is hundreds of megabytes."""

    def __init__(self, capacity: int, frame_shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        pin = device.type == "cuda" and capacity > 0
        self._device = device
        self._keys, self._values = (torch.zeros(capacity, *frame_shape, dtype=dtype, pin_memory=pin) for _ in range(2))
        self._places: dict[Keepsake, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

    def __contains__(self, keepsake: Keepsake) -> bool:
        return keepsake in self._places

    @property
    def bytes(self) -> int:
        return 2 * self._keys.numel() * self._keys.element_size()

    def put(self, keepsake: Keepsake, keys: Tensor, values: Tensor) -> None:
        """Store [layer, batch, token, head, dim]; copies run in stream order, and nothing waits for them."""
        place = self._places.setdefault(keepsake, self._free.pop() if keepsake not in self._places else -1)
        self._keys[place].copy_(keys.detach(), non_blocking=True)
        self._values[place].copy_(values.detach(), non_blocking=True)

    def get(self, keepsake: Keepsake) -> tuple[Tensor, Tensor]:
        place = self._places[keepsake]
        return (self._keys[place].to(self._device, non_blocking=True),
                self._values[place].to(self._device, non_blocking=True))

    def forget(self, keepsakes: Iterable[Keepsake]) -> None:
        for keepsake in keepsakes:
            self._free.append(self._places.pop(keepsake))
