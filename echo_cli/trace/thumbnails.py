"""A few small pictures out of a film, as data URIs for a page. Knows times, not scenes."""

import base64
from collections.abc import Iterable
from pathlib import Path

from echo_cli.video import ffmpeg

WIDTH = 192  # twice what the page shows, for dense screens


def thumbnails(video: Path, times: Iterable[float]) -> dict[float, str]:
    """JPEGs at some seconds. A time that cannot be decoded is left out: a page works without a picture."""
    images = {}
    for seconds in dict.fromkeys(times):
        done = ffmpeg.run(["-ss", f"{seconds:.3f}", "-i", str(video.absolute()), "-frames:v", "1", "-vf",
                           f"scale={WIDTH}:-2:flags=area", "-q:v", "5", "-f", "image2pipe", "-c:v", "mjpeg", "pipe:1"])
        if done.returncode == 0 and done.stdout:
            images[seconds] = "data:image/jpeg;base64," + base64.b64encode(done.stdout).decode()
    return images
