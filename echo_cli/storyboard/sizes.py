"""The size of a picture as people write it: `832x480`. Which sizes a model can make is the model's business."""

import re

LARGEST = 16384  # pixels of a side

_SIZE = re.compile(r"(\d{1,5}) ?[xX×] ?(\d{1,5})", re.ASCII)


def read_size(text: str) -> tuple[int, int] | None:
    """(width, height), or None if the text is not a size."""
    match = _SIZE.fullmatch(text.strip())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    return size if all(1 <= side <= LARGEST for side in size) else None
