"""Where frames are in the window from block to block, in plain integers, so that little needs to be moved.

Attention is indifferent to the order of its keys, and only differences of rotations count. So a frame keeps its place
and its position, and the block's rotation is chosen to match: when a window slides, no remembered frame is touched.
Positions then grow from block to block until the table ends, and the window is laid out again from the start. Where the
order of sums must not change (on a CPU, films are compared bit by bit), frames are in window order instead, at the
positions of the layout. Knows no tensor.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Standing(NamedTuple):
    """What a place in the window holds: the frame of a slot, rotated to a position."""

    slot: int
    position: int


class Wanted(NamedTuple):
    """A remembered frame that a block needs; a fading one changes every block, so it is always written again."""

    slot: int
    position: int
    fades: bool


class Arrangement(NamedTuple):
    """The places of the remembered frames and of the block's, the shift of all positions, and which remembered frames
    (by index) stay as they are."""

    past: tuple[int, ...]
    block: tuple[int, ...]
    shift: int
    kept: frozenset[int]


def in_order(standing: Sequence[Standing | None], past: Sequence[Wanted], block: int) -> Arrangement:
    """Window order, and positions as the layout has them."""
    kept = frozenset(index for index, frame in enumerate(past)
                     if not frame.fades and standing[index] == Standing(frame.slot, frame.position))
    return Arrangement(tuple(range(len(past))), tuple(range(len(past), len(past) + block)), 0, kept)


def in_place(standing: Sequence[Standing | None], past: Sequence[Wanted], block: int, span: tuple[int, int],
             positions: int) -> Arrangement:
    """Every frame where it already is, if the shift that suits most of them allows it. `span` is the least and the
    greatest position of the block's keys and queries; the table has `positions`."""
    at = {there.slot: (place, there.position) for place, there in enumerate(standing) if there is not None}
    shifts = Counter(at[frame.slot][1] - frame.position for frame in past if frame.slot in at and not frame.fades)
    shift = min(shifts, key=lambda amount: (-shifts[amount], amount), default=0)
    low = min([span[0], *(frame.position for frame in past)])
    high = max([span[1], *(frame.position for frame in past)])
    if low + shift < 0 or high + shift >= positions:
        shift = 0
    total = len(past) + block
    kept = {index: at[frame.slot][0] for index, frame in enumerate(past)
            if not frame.fades and frame.slot in at and at[frame.slot][1] == frame.position + shift
            and at[frame.slot][0] < total}
    taken = set(kept.values())
    free = iter([place for place in range(total) if place not in taken])
    places = tuple(kept[index] if index in kept else next(free) for index in range(len(past)))
    return Arrangement(places, tuple(free), shift, frozenset(kept))
