"""Tones made for tests, and what is heard in a film."""

from pathlib import Path

import numpy as np

from echo_cli.video import ffmpeg

RATE = 8000


def tone(path: Path, hertz: int, seconds: float) -> Path:
    """A file with a tone in it; the name's ending says of which kind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    done = ffmpeg.run(["-f", "lavfi", "-i", f"sine={hertz}:duration={seconds}:sample_rate=44100", "-y",
                       str(path.absolute())])
    assert done.returncode == 0, done.stderr
    return path


def wave(film: Path) -> np.ndarray:
    """The sound of a film, one channel, RATE samples a second."""
    done = ffmpeg.run(["-i", str(film.absolute()), "-map", "0:a", "-ac", "1", "-ar", str(RATE), "-f", "s16le", "-"])
    assert done.returncode == 0, done.stderr
    return np.frombuffer(done.stdout, np.int16).astype(float)


def heard(film: Path, begins: float, ends: float) -> set[int]:
    """The tones, to ten hertz, between two seconds of a film."""
    piece = wave(film)[round(begins * RATE):round(ends * RATE)]
    loud = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) / len(piece)
    return {round(place * RATE / len(piece), -1) for place in np.flatnonzero(loud > 150)}
