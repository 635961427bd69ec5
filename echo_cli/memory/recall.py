"""Finished scenes: which of them a later scene will want back, and the frames kept for it.

The plan is made on the host before any frame is generated, so the library holds exactly what the film will ask for,
in tensors allocated once. What a scene's frame is made of is `scoring.fold`; when it is made is the policy's decision.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


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
