"""What a finished scene leaves for other films: named tensors and plain numbers.

Every scene leaves the same under every memory policy: its first frames as they were remembered, and the frame that is
folded from them. A policy adds what only it can know (`Policy.leave`) and takes back what it needs (`Policy.take_in`),
so a scene that was rendered under one policy can be recalled under another. Where entries are kept is not known here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from torch import Tensor

FRAMES, RECALL = "frames", "recall"  # the parts that every scene leaves

Frames = tuple[Tensor, Tensor]  # raw keys and values [layer, batch, frame, token, head, dim]


@dataclass(frozen=True, slots=True)
class SceneEntry:
    """What a scene leaves: remembered frames by part (`frames`, its first ones; `recall`, the one folded from them;
    others that a policy adds), plain numbers of the policy, and how its first frames were asked for: the mean of their
    raw queries [layer, batch, head, dim], and of the magnitudes of the queries' pairs [layer, batch, head, dim / 2].
    Tensors are on the host."""

    parts: Mapping[str, Frames]
    calibration: tuple[Tensor, Tensor]
    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def frame(self, part: str, index: int = 0) -> Frames:
        """Keys and values of one frame [layer, batch, token, head, dim]."""
        keys, values = self.parts[part]
        return keys[:, :, index], values[:, :, index]

    def count(self, part: str) -> int:
        """Frames of a part; 0 where there is no such part."""
        return self.parts[part][0].shape[2] if part in self.parts else 0
