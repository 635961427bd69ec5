"""SRT text, and the check that a machine can draw it."""

from pathlib import Path

import pytest

from echo_cli.errors import MissingError
from echo_cli.video.subtitles import Caption, check_burning, srt


def test_srt_counts_from_one_and_floors_to_milliseconds() -> None:
    text = srt([Caption(0, 161 / 16, "Rooftop"), Caption(3661.9999, 90000, "Two\n\n\r\nlines")])
    assert text == ("1\n00:00:00,000 --> 00:00:10,062\nRooftop\n\n"
                    "2\n01:01:01,999 --> 25:00:00,000\nTwo\nlines\n")


def test_whole_milliseconds_are_not_lost_to_floating_point() -> None:
    assert "00:00:00,290" in srt([Caption(0.29, 0.57, "x")]) and "00:00:00,570" in srt([Caption(0.29, 0.57, "x")])


def test_a_machine_without_fonts_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_burning()
    (tmp_path / "fonts.conf").write_text(f'<?xml version="1.0"?><fontconfig><dir>{tmp_path}</dir></fontconfig>')
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "fonts.conf"))
    with pytest.raises(MissingError, match="no font"):
        check_burning()
