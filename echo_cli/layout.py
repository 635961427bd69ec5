"""What memory holds, in plain integers: roles, segments, layouts.

Nothing here knows a tensor. A layout is decided on the host before anything is launched, so it can be printed, tested
and traced without a device.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Why a stretch of memory is in the window."""

    ANCHOR = "anchor"
    HISTORY = "history"
    RECENT = "recent"
    TRANSITION = "transition"
    QUERY = "query"
    CURRENT = "current"


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive frames of the window that share a role and a source scene.

    `frames` are the film frames the tokens came from; None stands for one that is not a single film frame (a recall
    frame folded from several, or tokens chosen from the whole history). `position` is the temporal RoPE position of the
    first. `expires` is the block index before which the segment leaves, if that is known. `slots` says where in the
    store each frame lies, and `fades` which row of token weights it carries, None for weight 1.
    """

    role: Role
    scene: int
    frames: tuple[int | None, ...]
    tokens: int
    position: int
    expires: int | None = None
    slots: tuple[int, ...] = ()
    fades: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Layout:
    """All that one block attends to: remembered segments in window order, then the block itself.

    Positions include the jump; `jump` says how far the block leapt, None when it did not.
    """

    segments: tuple[Segment, ...]
    query_position: int
    jump: int | None = None

    @property
    def tokens(self) -> int:
        return sum(segment.tokens for segment in self.segments)

    @property
    def past(self) -> tuple[Segment, ...]:
        return tuple(segment for segment in self.segments if segment.role is not Role.CURRENT)

    @property
    def current(self) -> Segment:
        return self.segments[-1]

    def span(self, role: Role) -> tuple[int, int]:
        """Half-open token range from the first to the last token of `role`; (0, 0) when it is absent."""
        begin = end = offset = 0
        for segment in self.segments:
            if segment.role is role:
                begin = offset if end == 0 else begin
                end = offset + segment.tokens
            offset += segment.tokens
        return begin, end

    def of(self, role: Role) -> Iterator[Segment]:
        return (segment for segment in self.segments if segment.role is role)
