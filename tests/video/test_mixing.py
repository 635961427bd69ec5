"""Several sounds become one, each at its own moment, to the sample."""

import errno
import struct
import wave
from pathlib import Path

import numpy as np
import pytest

from echo_cli.errors import UsageError
from echo_cli.video import mixing
from echo_cli.video.encoding import Encoding
from echo_cli.video.sound import SAMPLES, Part, Sound
from echo_cli.video.target import Movie
from echo_cli.video.writer import FilmWriter
from tests.video.sounds import heard, tone


def level(path: Path, amount: float, seconds: float) -> Path:
    """A sound that stays at one level, so that every sample can be counted."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLES, 0, "NONE", ""))
        file.writeframes(struct.pack("<h", round(amount * 32768)) * round(seconds * SAMPLES))
    return path


def mixed(*parts: Part, seconds: float) -> np.ndarray:
    return np.concatenate(list(mixing.mixed(Sound(parts, seconds))))


def test_a_sound_begins_and_ends_at_its_own_sample(tmp_path: Path) -> None:
    short, long = level(tmp_path / "short.wav", 0.25, 0.5), level(tmp_path / "long.wav", 0.5, 9)
    made = mixed(Part(short, 0.125, 1.0), Part(long, 1.0, 2.25), seconds=3.5)
    assert made.shape == (round(3.5 * SAMPLES), 2) and made.dtype == np.float32
    edges = [round(second * SAMPLES) for second in (0, 0.125, 0.625, 1, 2.25, 3.5)]
    for begins, ends, wanted in zip(edges, edges[1:], (0, 0.25, 0, 0.5, 0), strict=False):
        assert np.allclose(made[begins:ends], wanted, atol=1e-3), (begins, ends)


def test_what_is_heard_together_is_added_and_never_too_loud(tmp_path: Path) -> None:
    loud, quiet = level(tmp_path / "loud.wav", 0.75, 2), level(tmp_path / "quiet.wav", -0.5, 2)
    made = mixed(Part(loud, 0, 1), Part(quiet, 0.5, 1.5), Part(loud, 0.5, 1), seconds=1.5)
    half = SAMPLES // 2
    assert [round(float(made[place, 0]), 2) for place in (half // 2, half + half // 2, 2 * half + half // 2)] == [
        0.75, 1.0, -0.5]


def test_a_wav_has_exactly_the_length_of_the_film_each_time(tmp_path: Path) -> None:
    sound = Sound((Part(tone(tmp_path / "a.mp3", 440, 0.5), 0.25, 0.75),), 1.3)
    for name in ("one.wav", "two.wav"):
        mixing.write(sound, tmp_path / name)
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "two.wav").read_bytes()
    with wave.open(str(tmp_path / "one.wav")) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (round(1.3 * SAMPLES), SAMPLES, 2)
    assert heard(tmp_path / "one.wav", 0.3, 0.7) == {440} and heard(tmp_path / "one.wav", 0.8, 1.3) == set()


def test_a_sound_that_is_gone_when_its_turn_comes_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.wav: ffmpeg can no longer read its sound"):
        mixing.write(Sound((Part(tmp_path / "gone.wav", 0, 1),  Part(tmp_path / "gone.wav", 1, 2)), 2),
                     tmp_path / "film.wav")


def test_a_machine_that_starts_no_more_processes_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(part: Part) -> None:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(mixing, "_Player", fails)
    with pytest.raises(OSError, match="no more processes"):
        mixing.write(Sound((Part(level(tmp_path / "a.wav", 0.5, 2), 0.5, 1),), 2), tmp_path / "film.wav")


def test_a_film_that_is_given_up_leaves_no_sound_waiting(tmp_path: Path) -> None:
    sound = Sound((Part(level(tmp_path / "a.wav", 0.5, 60), 0, 30), Part(tmp_path / "gone.wav", 30, 60)), 60)
    with FilmWriter(Movie(tmp_path / "film.mp4"), 32, 16, 16.0, Encoding(preset="ultrafast"), sound=sound) as film:
        film.write(np.zeros((4, 16, 32, 3), np.uint8))
    assert not list(tmp_path.glob("film*"))
