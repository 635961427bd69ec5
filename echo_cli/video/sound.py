"""A sound track under a film: any file that ffmpeg can read, cut or padded with silence to the film's length.

Knows a file and a length, not where the sound comes from or what it means.
"""

from dataclasses import dataclass
from pathlib import Path

from echo_cli.errors import UsageError
from echo_cli.video import ffmpeg

# which codec a kind of film has, where players agree on one; a kind that is not here has no sound
CODECS = {".mp4": "aac", ".mov": "aac", ".mkv": "aac", ".webm": "libopus"}
RATE = "192k"  # bits a second


@dataclass(frozen=True, slots=True)
class Sound:
    """The first sound of a file, for a film of so many seconds."""

    path: Path
    seconds: float

    def input(self) -> list[str]:
        return ["-i", str(self.path.absolute())]

    def arguments(self, number: int, suffix: str) -> list[str]:
        """ffmpeg's options for it, as the input of that number, in a film that ends in `suffix`."""
        return ["-map", f"{number}:a:0", "-af", f"aresample=48000,apad,atrim=end={self.seconds:.6f}",
                "-c:a", CODECS[suffix], "-b:a", RATE, "-flags:a", "+bitexact"]


def check(path: Path) -> None:
    """A UsageError for a file without a sound that ffmpeg can read."""
    trial = ffmpeg.run(["-i", str(path.absolute()), "-map", "0:a:0", "-t", "0.1", "-f", "null", "-"])
    if trial.returncode:
        reason = ffmpeg.cause(trial.stderr.decode(errors="replace"))
        raise UsageError(f"--audio {path}: no sound that ffmpeg can read: {reason}",
                         "Name a sound file, or a film that has sound.")
