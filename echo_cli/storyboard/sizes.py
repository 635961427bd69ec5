"""The size of a picture as people write it: `832x480`, or its shape: `9:16`. Which sizes a model can render is the
model's business."""

import re

LARGEST = 16384  # pixels of a side
MOST_SHAPE = 32  # times as wide as high, or the other way round

_ASPECT = re.compile(r"(\d{1,4}) ?: ?(\d{1,4})", re.ASCII)
_SIZE = re.compile(r"(\d{1,9}) ?[xX×] ?(\d{1,9})", re.ASCII)


def read_aspect(text: str) -> tuple[int, int]:
    """(width, height) of a shape such as 9:16; ValueError says, for the author, why the text is none."""
    match = _ASPECT.fullmatch(text.strip())
    shape = (int(match[1]), int(match[2])) if match else (0, 0)
    if 0 in shape or max(shape) > MOST_SHAPE * min(shape):
        raise ValueError(f"must be WIDTH:HEIGHT, such as 9:16 or 1:1, at most {MOST_SHAPE}:1; {text[:40]!r} is not")
    return shape


def read_size(text: str) -> tuple[int, int]:
    """(width, height); ValueError says, for the author, why the text is not a size."""
    match = _SIZE.fullmatch(text.strip())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if 0 in size:
        raise ValueError(f"must be WIDTHxHEIGHT in pixels, such as 832x480; {text[:40]!r} is not a size")
    if max(size) > LARGEST:
        raise ValueError(f"must have sides of at most {LARGEST:,} pixels, not {max(size):,}")
    return size
