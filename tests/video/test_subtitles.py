"""SRT text, and the check that a machine can draw it."""

from pathlib import Path

import numpy as np
import pytest

from echo_cli.errors import MissingError, UsageError
from echo_cli.video import read
from echo_cli.video.encoding import Encoding
from echo_cli.video.subtitles import Caption, check_burning, srt
from echo_cli.video.target import Movie
from echo_cli.video.writer import FilmWriter

DEJAVU = Path("/usr/share/fonts/truetype/dejavu")


def test_srt_counts_from_one_and_floors_to_milliseconds() -> None:
    text = srt([Caption(0, 161 / 16, "Rooftop"), Caption(3661.9999, 90000, "Two\n\n\r\nlines")])
    assert text == ("1\n00:00:00,000 --> 00:00:10,062\nRooftop\n\n"
                    "2\n01:01:01,999 --> 25:00:00,000\nTwo\nlines\n")


def test_whole_milliseconds_are_not_lost_to_floating_point() -> None:
    assert "00:00:00,290" in srt([Caption(0.29, 0.57, "x")]) and "00:00:00,570" in srt([Caption(0.29, 0.57, "x")])


def test_markup_is_text_in_an_srt() -> None:
    written = srt([Caption(0, 1, "{\\an8}up <i>a</i> {x} 1 < 2")])
    assert "{\\an8}" not in written and "<i>" not in written and "</i>" not in written
    assert written.replace("\u2060", "").splitlines()[2] == "{\\an8}up <i>a</i> {x} 1 < 2"
    assert "{x} 1 < 2" in written


def drawn(folder: Path, text: str, font: Path | None = None) -> np.ndarray:
    """Where a caption leaves a mark [row, column]."""
    folder.mkdir()
    with FilmWriter(Movie(folder / "film.mp4"), 384, 192, 1, Encoding(crf=1), burn=[Caption(0, 1, text)],
                    font=font) as writer:
        writer.write(np.zeros((1, 192, 384, 3), np.uint8))
        writer.close()
    return next(read.pictures(folder / "film.mp4")).max(-1) > 100


def test_lines_and_override_codes_are_drawn_as_they_are_written(tmp_path: Path) -> None:
    one, two = drawn(tmp_path / "one", "up"), drawn(tmp_path / "two", "up\nup")
    assert two.any(1).sum() > 1.8 * one.any(1).sum()
    assert abs(int(two.any(0).sum()) - int(one.any(0).sum())) <= 2  # as wide, but for the edges of letters
    code = drawn(tmp_path / "code", "{\\an8}up")
    assert code.sum() > 2 * one.sum() and not code[:96].any()  # at the bottom, longer by what it says
    slashes = drawn(tmp_path / "slashes", "C:\\new <i>& {y:i}up</i>")
    eaten = drawn(tmp_path / "eaten", "C: new & up")  # what would be left if any of it were markup
    assert slashes.any(1).sum() < 30 and slashes.sum() > 1.5 * eaten.sum()


def test_a_font_from_a_file_is_the_one_that_is_drawn_with(tmp_path: Path) -> None:
    bold = DEJAVU / "DejaVuSans-Bold.ttf"
    if not bold.exists():
        pytest.skip("needs the package fonts-dejavu-core")
    assert check_burning([Caption(0, 1, "echo")], bold) == ""
    assert drawn(tmp_path / "bold", "echo", bold).sum() > 1.2 * drawn(tmp_path / "plain", "echo").sum()
    for name, why in (("none.ttf", "No such file"), ("text.ttf", "not a font")):
        (tmp_path / "text.ttf").write_text("echo")
        with pytest.raises(UsageError, match=why):
            check_burning([Caption(0, 1, "echo")], tmp_path / name)


def test_characters_that_no_font_here_has_are_named() -> None:
    assert check_burning([Caption(0, 1, "plain é"), Caption(1, 2, "a \U0001FAE8\ufe0f b \u133f")]) == "\u133f\U0001FAE8"


def test_a_machine_without_fonts_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_burning([Caption(0, 1, "echo")]) == ""
    (tmp_path / "fonts.conf").write_text(f'<?xml version="1.0"?><fontconfig><dir>{tmp_path}</dir></fontconfig>')
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    with pytest.raises(MissingError, match="no font"):
        check_burning([Caption(0, 1, "echo")])
