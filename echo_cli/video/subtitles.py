"""Captions of a film: as an SRT file, or drawn into the pictures by ffmpeg's `subtitles` filter.

Knows seconds and words only. Times are floored to milliseconds on both sides, as the filter floors a picture's own
time: a caption covers exactly its pictures.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from echo_cli.errors import MissingError
from echo_cli.video import ffmpeg

# found in the folder where ffmpeg runs, so no name is ever escaped
BURN_FILTER = "subtitles=captions.srt:charenc=UTF-8"


class Subtitles(StrEnum):
    """What becomes of captions."""

    NONE = "none"
    SRT = "srt"
    BURN = "burn"


@dataclass(frozen=True, slots=True)
class Caption:
    """Half-open in time: seen from `start` until just before `stop`."""

    start: float
    stop: float
    text: str


def srt(captions: Sequence[Caption]) -> str:
    """SubRip text; an empty line would end a caption early, so lines without words are dropped."""
    entries = []
    for number, caption in enumerate(captions, 1):
        lines = [line.strip() for line in caption.text.splitlines() if line.strip()]
        entries.append("\n".join([str(number), f"{_clock(caption.start)} --> {_clock(caption.stop)}", *lines, ""]))
    return "\n".join(entries)


def _clock(seconds: float) -> str:
    milliseconds = int(seconds * 1000 + 1e-6)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"


def check_burning() -> None:
    """Draw one word on black and look: a build without the filter, or a machine without fonts, would leave no mark."""
    with tempfile.TemporaryDirectory(prefix="echo-captions-") as folder:
        Path(folder, "captions.srt").write_text(srt([Caption(0, 1, "echo")]), encoding="utf-8")
        drawn = ffmpeg.run(["-f", "lavfi", "-i", "color=black:size=192x128:rate=1:duration=1", "-vf", BURN_FILTER,
                            "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"], cwd=Path(folder))
    if drawn.returncode:
        raise MissingError(f"this ffmpeg cannot draw subtitles: {ffmpeg.cause(drawn.stderr.decode(errors='replace'))}",
                           "use --subtitles srt, or set IMAGEIO_FFMPEG_EXE to an ffmpeg built with libass")
    if not any(drawn.stdout):
        raise MissingError("this machine has no font to draw subtitles with",
                           "install one (for example the package fonts-dejavu-core), or use --subtitles srt")
