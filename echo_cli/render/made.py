"""What a run produced, in plain values; no torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from echo_cli.trace.records import Times
from echo_cli.video.target import Output


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept in one sitting: how many checkpoints, how large the largest was and could have become, and how many
    seconds the film waited for them."""

    checkpoints: int = 0
    bytes: int = 0
    bound: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Made:
    """What a run produced. `times` are milliseconds by part of a block, and `wall_seconds` the seconds, of all
    `sittings` that it took and of the blocks that were reused; `sitting_seconds`, `loading_seconds` (part of them) and
    `kept` are of the last sitting."""

    outputs: Mapping[str, Output]
    pictures: int
    seconds: float
    wall_seconds: float
    sitting_seconds: float
    loading_seconds: float
    times: Times
    sittings: int = 1
    kept: Kept = Kept()
    reused: int = 0  # blocks that came from an earlier version of the film
