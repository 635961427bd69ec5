"""The sound of a film: files that ffmpeg can read, each from its own moment on, cut or padded with silence.

Knows files and times, not where sounds come from or what they mean. Several sounds become one in `mixing`.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from echo_cli.errors import UsageError
from echo_cli.files import open_regular
from echo_cli.video import ffmpeg

WAV = ".wav"  # what lies beside a sequence of pictures
# how a kind of film has sound, where players agree on a codec: MOV is for editors, and not all of them read AAC; a
# kind that is not here has no sound
_RATE = ("-b:a", "192k")
CODECS = {".mp4": ("aac", *_RATE), ".mov": ("pcm_s16le",), ".mkv": ("aac", *_RATE), ".webm": ("libopus", *_RATE),
          WAV: ("pcm_s16le",)}
SAMPLES = 48_000  # a second
_FORMATS = "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,matroska,mov,mp3,mpeg,mpegts,mxf,ogg,tta,w64,wav,wv"
# two channels of any others; a single one is as loud in both as it is alone
STEREO = "pan=stereo|FL<FL+0.7*FC+0.5*BL+0.5*SL|FR<FR+0.7*FC+0.5*BR+0.5*SR"
_NONE = "matches no streams"  # what ffmpeg says of a file that it can read, but in which there is no sound
RAW = ("-f", "f32le", "-ar", str(SAMPLES), "-ac", "2")


@dataclass(frozen=True, slots=True)
class Part:
    """The first sound of a file, from one second of the film up to another."""

    path: Path
    begins: float
    ends: float


@dataclass(frozen=True, slots=True)
class Sound:
    """Everything that is heard in a film of so many seconds; `parts` in the order of their beginnings."""

    parts: tuple[Part, ...]
    seconds: float

    @property
    def alone(self) -> Path | None:
        """The one file that is heard all the time, if that is all."""
        (first, *others) = self.parts
        return first.path if not others and (first.begins, first.ends) == (0.0, self.seconds) else None

    def arguments(self, number: int, suffix: str) -> list[str]:
        """ffmpeg's options for it, as the input of that number, in a file that ends in `suffix`."""
        codec, *options = CODECS[suffix]
        return ["-map", f"{number}:a:0", "-af", f"aresample={SAMPLES},apad,atrim=end={self.seconds:.6f}",
                "-c:a", codec, *options, "-flags:a", "+bitexact"]


def source(path: Path) -> list[str]:
    """Nothing but sounds in files of this machine is opened, never a list that names other files."""
    return ["-protocol_whitelist", "file", "-format_whitelist", _FORMATS, "-i", str(path.absolute())]


def look(path: Path) -> None:
    """An Unusable for a file without a sound that ffmpeg can read."""
    from echo_cli.video.still import Unusable, readable

    with readable(), open_regular(path) as file:
        facts = os.fstat(file.fileno())
    if reason := _reason(path, facts.st_size, facts.st_mtime_ns):
        raise Unusable("has no sound in it" if _NONE in reason else f"has no sound that ffmpeg can read: {reason}")


def check(path: Path) -> None:
    """The same as a UsageError, for the option."""
    from echo_cli.video.still import Unusable

    try:
        look(path)
    except Unusable as error:
        raise UsageError(f"--audio {path}: {str(error).removeprefix('has ')}",
                         "Name a sound file, or a film that has sound.") from None


@lru_cache(maxsize=1024)
def _reason(path: Path, size: int, modified: int) -> str | None:
    """Why ffmpeg reads no sound from a file of this size and time."""
    trial = ffmpeg.run([*source(path), "-map", "0:a:0", "-af", STEREO, "-t", "0.1", "-f", "null", "-"])
    return ffmpeg.cause(trial.stderr.decode(errors="replace")) if trial.returncode else None
