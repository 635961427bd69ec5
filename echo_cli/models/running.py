"""How a large model is run: what a person may choose about it. No torch here."""

from dataclasses import dataclass
from enum import StrEnum


class Pictures(StrEnum):
    """Which decoder turns latents into pictures."""

    FULL = "full"
    LIGHT = "light"  # the codec with fewer channels
    FAST = "fast"


class Offload(StrEnum):
    """What waits in the host's memory until the device needs it. Films are the same, and take longer."""

    AUTO = "auto"  # as little as fits
    NONE = "none"
    MEMORY = "memory"  # remembered frames
    LAYERS = "layers"  # the transformer's layers, too


@dataclass(frozen=True, slots=True)
class Running:
    """`pictures` and `fast` change the film; the others only what it costs. `compiled` None: on a GPU."""

    pictures: Pictures = Pictures.FULL
    fast: bool = False  # linear layers in eight bits
    offload: Offload = Offload.AUTO
    compiled: bool | None = None
