"""Finished scenes: which of them a later scene will want back, and the frames kept for it.

The plan is made on the host before any frame is generated, so the library holds exactly what the film will ask for,
in tensors allocated once. What a scene's frame is made of is `scoring.fold`; when it is made is the policy's decision.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from echo_cli.memory.settings import RecallSettings
from echo_cli.memory.store import Placement
from echo_cli.state import Nest


class Keepsake(NamedTuple):
    """A frame of a scene that will be wanted again: its recall frame, or the first frame it made."""

    kind: str  # recall | select
    scene: int


def most_at_once(last_wanted: Mapping[Keepsake, int]) -> int:
    """How many keepsakes live at the same time, each from its own scene to the last one that wants it."""
    changes = Counter(keepsake.scene for keepsake in last_wanted)
    changes.subtract(Counter(last_wanted.values()))  # a scene takes back before it puts in
    return max(accumulate(changes[scene] for scene in sorted(changes)), default=0)


def folding_bytes(settings: RecallSettings, frame: int, place: Placement) -> int:
    """What it takes for a moment to fold a scene's candidates, of `frame` numbers each; sums are taken in float32."""
    return (12 * settings.candidates + 5 * place.dtype.itemsize) * frame


class SceneLibrary:
    """Bounded pool of keepsakes, on the host: a frame of a large model is hundreds of megabytes."""

    def __init__(self, capacity: int, frame_shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> None:
        pin = device.type == "cuda" and capacity > 0
        home = device if device.type == "meta" else torch.device("cpu")  # who only counts gets nothing
        self._device = device
        self._keys, self._values = (
            torch.zeros(capacity, *frame_shape, dtype=dtype, pin_memory=pin, device=home) for _ in range(2)
        )
        self._places: dict[Keepsake, int] = {}
        self._free = list(range(capacity - 1, -1, -1))

    @property
    def bytes(self) -> int:
        return 2 * self._keys.numel() * self._keys.element_size()

    def put(self, keepsake: Keepsake, keys: Tensor, values: Tensor) -> None:
        """Store [layer, batch, token, head, dim]; copies run in stream order, and nothing waits for them."""
        assert keepsake not in self._places, f"{keepsake} is in the library already"
        place = self._places[keepsake] = self._free.pop()
        self._keys[place].copy_(keys.detach(), non_blocking=True)
        self._values[place].copy_(values.detach(), non_blocking=True)

    def get(self, keepsake: Keepsake) -> tuple[Tensor, Tensor]:
        place = self._places[keepsake]
        return (self._keys[place].to(self._device, non_blocking=True),
                self._values[place].to(self._device, non_blocking=True))

    def forget(self, keepsake: Keepsake) -> None:
        self._free.append(self._places.pop(keepsake))

    def state(self) -> Nest:
        """Everything kept, in the places it has."""
        places = list(self._places.values())
        return {"kept": [list(keepsake) for keepsake in self._places], "places": places, "free": list(self._free),
                "keys": self._keys[places], "values": self._values[places]}

    def restore(self, state: Nest) -> None:
        places = state["places"]
        self._keys[places], self._values[places] = (state[name].to(self._keys.device) for name in ("keys", "values"))
        self._places = {Keepsake(*keepsake): place for keepsake, place in zip(state["kept"], places, strict=True)}
        self._free = list(state["free"])
