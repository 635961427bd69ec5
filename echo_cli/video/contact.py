"""A contact sheet: pictures side by side in one PNG, each with an optional label below it.

`python -m echo_cli.video.contact FILM.mp4 SHEET.png` makes one from a whole film. Knows pictures and files, nothing of
models or storyboards.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from echo_cli.files import output_errors
from echo_cli.video import read

PAPER, INK = (250, 249, 246), (40, 40, 44)


def sheet(pictures: Sequence[np.ndarray], columns: int = 4, labels: Sequence[str] = (), gap: int = 8) -> np.ndarray:
    """Pictures [height, width, 3] uint8 of one size, in reading order; `labels` is empty or has one a picture."""
    if labels and len(labels) != len(pictures):
        raise ValueError(f"{len(labels)} labels for {len(pictures)} pictures")
    height, width, _ = pictures[0].shape
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    text = max(10, height // 14)
    strip = text + 6 if labels else 0
    page = Image.new("RGB", (gap + columns * (width + gap), gap + rows * (height + strip + gap)), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(text)
    for number, picture in enumerate(pictures):
        left = gap + number % columns * (width + gap)
        top = gap + number // columns * (height + strip + gap)
        page.paste(Image.fromarray(picture), (left, top))
        if labels:
            draw.text((left + 1, top + height + 3), labels[number], INK, font)
    return np.asarray(page)


def write_sheet(path: Path, pictures: Sequence[np.ndarray], columns: int = 4, labels: Sequence[str] = ()) -> None:
    """The sheet as a PNG."""
    with output_errors(path):
        Image.fromarray(sheet(pictures, columns, labels)).save(path, format="PNG", optimize=True)


def of_film(path: Path, count: int = 12, width: int | None = None) -> tuple[list[np.ndarray], list[str]]:
    """`count` pictures at even intervals, shrunk to `width`, and the second of each. One pass, which holds only what it
    keeps."""
    film = read.facts(path)
    length = round(film.seconds * film.fps)
    count = min(count, length)
    # the middles of `count` equal intervals
    wanted = {(2 * place + 1) * length // (2 * count) for place in range(count)}
    chosen = [(number, shrunk(picture, width or film.width)) for number, picture in enumerate(read.pictures(path))
              if number in wanted]
    return [picture for _, picture in chosen], [f"{number / film.fps:.1f} s" for number, _ in chosen]


def shrunk(picture: np.ndarray, width: int) -> np.ndarray:
    """At most `width` wide, in its own proportions."""
    height, whole, _ = picture.shape
    if whole <= width:
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, round(height * width / whole)), Image.Resampling.LANCZOS))


def main() -> None:
    parser = argparse.ArgumentParser(description="A contact sheet of a film.")
    parser.add_argument("film", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--count", type=int, default=12, help="pictures on the sheet")
    parser.add_argument("--columns", type=int, default=4)
    parser.add_argument("--width", type=int, help="width of one picture on the sheet")
    given = parser.parse_args()
    pictures, labels = of_film(given.film, given.count, given.width)
    write_sheet(given.sheet, pictures, given.columns, labels)


if __name__ == "__main__":
    main()
