"""How a large model is run: the user's choices. No torch here."""

from dataclasses import dataclass
from enum import StrEnum


class Pictures(StrEnum):
    """Which decoder turns latents into pictures."""

    FULL = "full"
    LIGHT = "light"  # the codec with fewer channels
    FAST = "fast"


class Offload(StrEnum):
    """What stays in host memory until the device needs it. Films are the same, but take longer."""

    AUTO = "auto"  # as little as possible
    NONE = "none"
    MEMORY = "memory"  # remembered frames
    LAYERS = "layers"  # the transformer's layers, too


class FastPart(StrEnum):
    """What is computed in eight bits, where a bench measures one part of --fast alone."""

    LINEAR = "linear"
    ATTENTION = "attention"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Running:
    """`pictures` and `fast` change the film; the others only its cost. `compiled` None: on a GPU."""

    pictures: Pictures = Pictures.FULL
    fast: bool = False  # linear layers in eight bits, and attention where it has been measured to be near enough
    offload: Offload = Offload.AUTO
    compiled: bool | None = None
