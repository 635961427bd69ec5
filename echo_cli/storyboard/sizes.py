"""The size of a picture as people write it: `832x480`. Which sizes a model can make is the model's business."""

import re

LARGEST = 16384  # pixels of a side

_SIZE = re.compile(r"(\d{1,9}) ?[xX×] ?(\d{1,9})", re.ASCII)


def read_size(text: str) -> tuple[int, int]:
    """(width, height); ValueError says, for the author, why the text is not a size."""
    match = _SIZE.fullmatch(text.strip())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if 0 in size:
        raise ValueError(f"must be WIDTHxHEIGHT in pixels, such as 832x480; {text[:40]!r} is not a size")
    if max(size) > LARGEST:
        raise ValueError(f"must have sides of at most {LARGEST:,} pixels, not {max(size):,}")
    return size
