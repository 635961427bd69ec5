"""A film read back: its facts and its pictures, through ffmpeg. For contact sheets, reports and tests."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from echo_cli.errors import UsageError
from echo_cli.video import ffmpeg


@dataclass(frozen=True, slots=True)
class FilmFacts:
    """The facts in the container."""

    width: int
    height: int
    fps: float
    codec: str
    pixel_format: str
    seconds: float


def facts(path: Path) -> FilmFacts:
    """From the header alone; nothing is decoded."""
    # without an output ffmpeg prints what it finds and fails, which is enough here
    seen = subprocess.run([ffmpeg.executable(), "-hide_banner", "-nostdin", "-i", str(path.absolute())],
                          capture_output=True, stdin=subprocess.DEVNULL).stderr.decode(errors="replace")
    stream = re.search(r"Video: (\w+).*?, (\w+)(?:\(.*?\))?, (\d+)x(\d+).*?([\d.]+) fps", seen)
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", seen)
    if not stream or not length:
        raise UsageError(f"{path} is not a film: {ffmpeg.cause(seen)}", "Name an MP4 that echo wrote.")
    codec, pixels, width, height, fps = stream.groups()
    hours, minutes, seconds = length.groups()
    return FilmFacts(int(width), int(height), float(fps), codec, pixels,
                     int(hours) * 3600 + int(minutes) * 60 + float(seconds))


def pictures(path: Path) -> Iterator[np.ndarray]:
    """Every picture [height, width, 3] uint8, one at a time."""
    film = facts(path)
    size = film.width * film.height * 3
    command = [ffmpeg.executable(), *ffmpeg.QUIET, "-i", str(path.absolute()), "-fps_mode", "passthrough",
               "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        while len(raw := process.stdout.read(size)) == size:
            yield np.frombuffer(raw, np.uint8).reshape(film.height, film.width, 3)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
