"""Contact sheets: every picture in its place."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echo_cli.video.contact import sheet
from echo_cli.video.target import Movie
from echo_cli.video.writer import FilmWriter

from .pictures import HEIGHT, WIDTH, number_of, picture, pictures


def test_pictures_stand_in_reading_order() -> None:
    page = sheet([picture(10 * number) for number in range(5)], columns=3, gap=4)
    assert page.shape == (4 + 2 * (HEIGHT + 4), 4 + 3 * (WIDTH + 4), 3)
    for number in range(5):
        top, left = 4 + number // 3 * (HEIGHT + 4), 4 + number % 3 * (WIDTH + 4)
        assert (page[top:top + HEIGHT, left:left + WIDTH] == picture(10 * number)).all()


def test_labels_take_room_below_and_must_match() -> None:
    assert sheet([picture(0)], labels=["0.0 s"]).shape[0] > sheet([picture(0)]).shape[0]
    with pytest.raises(ValueError, match="2 labels for 1 pictures"):
        sheet([picture(0)], labels=["a", "b"])


def test_a_sheet_of_a_film_takes_the_middles_of_equal_stretches(tmp_path: Path) -> None:
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        writer.write(pictures(0, 40))
        writer.close()
    subprocess.run([sys.executable, "-m", "echo_cli.video.contact", tmp_path / "film.mp4", tmp_path / "sheet.png",
                    "--count", "4", "--columns", "4"], check=True)
    page = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert [number_of(page[8:8 + HEIGHT, 8 + place * (WIDTH + 8):][:, :WIDTH]) for place in range(4)] == [5, 15, 25, 35]
