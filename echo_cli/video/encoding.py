"""How a film is encoded: the user's choices as ffmpeg arguments, tried out before rendering. Knows no pictures.

A codec is a row of `CODECS`; any other encoder of ffmpeg takes part under its own name, with ffmpeg's own defaults.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.text import listed
from echo_cli.video import ffmpeg

# which colour space the film uses; without it players guess by size, and greens and reds shift
COLOUR = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
RGB = "rgb24"  # the pixels of an encoder that takes pictures as they are


@dataclass(frozen=True, slots=True)
class Codec:
    """One encoder: the qualities and presets that it has, those it gets when nobody chooses, and its kind of pixels."""

    encoder: str
    crf: tuple[int, int] | None = None  # for 8 bits; beyond that x264 takes its own limit without a word
    best: str | None = None  # the crf by default
    presets: Sequence[str] = ()
    preset: str | None = None
    flag: str = "-preset"  # what ffmpeg calls the preset of this encoder
    pixels: str = "yuv420p"
    more: Sequence[str] = ()


_X26 = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
_ONES = tuple(map(str, range(14)))
_PRORES = ("-vendor", "apl0")  # what editors take for Apple's own
CODECS = {
    "libx264": Codec("libx264", (0, 51), "18", _X26, "veryfast"),
    "libx265": Codec("libx265", (0, 51), "20", _X26, "veryfast"),
    "libsvtav1": Codec("libsvtav1", (0, 63), "30", _ONES, "8"),
    "libaom-av1": Codec("libaom-av1", (0, 63), "30", _ONES[:9], "6", "-cpu-used", more=("-b:v", "0")),
    "libvpx-vp9": Codec("libvpx-vp9", (0, 63), "24", _ONES[:9], "4", "-cpu-used", more=("-b:v", "0")),
    "prores": Codec("prores_ks", pixels="yuv422p10le", more=("-profile:v", "3", *_PRORES)),  # 422 HQ
    "prores-422": Codec("prores_ks", pixels="yuv422p10le", more=("-profile:v", "2", *_PRORES)),
    "prores-4444": Codec("prores_ks", pixels="yuv444p10le", more=("-profile:v", "4", *_PRORES)),
    "gif": Codec("libx264rgb", pixels=RGB, more=("-qp", "0", "-preset", "ultrafast")),  # lossless, until it is joined
    "libx264rgb": Codec("libx264rgb", (0, 51)),
    "libvpx": Codec("libvpx", (4, 63)),
}
ALIASES = {"h264": "libx264", "h265": "libx265", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9",
           "prores-422-hq": "prores"}
NAMED = (*ALIASES, "prores-422", "prores-4444")  # for help and completion


def codec_named(name: str) -> str:
    """A codec by the name of its encoder here, whichever of its names was given."""
    return ALIASES.get(name.lower(), name)


def _spoken(codec: str) -> str:
    """The name that people know a codec by."""
    return next((alias for alias, encoder in ALIASES.items() if encoder == codec), codec)


@dataclass(frozen=True, slots=True)
class Container:
    """One kind of film: ffmpeg's muxer, and the codecs that it is known to hold, the default first."""

    muxer: str
    codecs: Sequence[str]
    flags: Sequence[str] = ()


_EXACT = ("-fflags", "+bitexact")  # no random number, and no date
CONTAINERS = {
    ".mp4": Container("mp4", ("libx264", "libx265", "libsvtav1", "libaom-av1", "libvpx-vp9", "libx264rgb"),
                      ("-movflags", "+faststart")),
    ".mov": Container("mov", ("prores", "prores-422", "prores-4444", "libx264", "libx265"),
                      ("-movflags", "+faststart")),
    ".webm": Container("webm", ("libvpx-vp9", "libsvtav1", "libaom-av1", "libvpx"), _EXACT),
    ".mkv": Container("matroska", ("libx264", "libx265", "libsvtav1", "libaom-av1", "libvpx-vp9", "libx264rgb"),
                      _EXACT),
    ".gif": Container("gif", ("gif",), _EXACT),
}
MP4 = ".mp4"


@dataclass(frozen=True, slots=True)
class Encoding:
    """The user's choices for the encoder of a film that ends in `suffix`; None means the codec's own default."""

    codec: str = "libx264"
    crf: float | None = None
    preset: str | None = None
    suffix: str = MP4

    @property
    def row(self) -> Codec:
        return CODECS.get(self.codec) or Codec(self.codec)

    @property
    def pixels(self) -> str:
        return self.row.pixels

    def arguments(self) -> list[str]:
        """What decides the film's bytes, and so its identity."""
        return [*self._words(), *([] if self.suffix == MP4 else ["-f", CONTAINERS[self.suffix].muxer])]

    def encoder(self) -> list[str]:
        """The encoder's own part of a command line."""
        return [*self._words(), *self.tag, "-pix_fmt", self.pixels, *(() if self.pixels == RGB else COLOUR)]

    def _words(self) -> list[str]:
        row = self.row
        crf = row.best if self.crf is None else f"{self.crf:g}"
        preset = row.preset if self.preset is None else self.preset
        # a fixed number of threads: x264 divides its work by threads, and a film must not depend on the machine's cores
        return ["-c:v", row.encoder, "-threads", "4", *(["-crf", crf] if crf is not None else []),
                *([row.flag, preset] if preset is not None else []), *row.more]

    @property
    def segments(self) -> str:
        """The kind of file that a part of the film is kept in: one that has exact times for every rate of pictures."""
        return self.suffix if self.suffix == ".mov" else MP4

    @property
    def tag(self) -> list[str]:
        """The codec's tag in MP4 and MOV where not every player accepts ffmpeg's choice: Apple's need hvc1."""
        fits = self.suffix in (MP4, ".mov") and ("265" in self.codec or "hevc" in self.codec)
        return ["-tag:v", "hvc1"] if fits else []

    def check_choices(self) -> None:
        """A UsageError for a codec that the kind of film does not hold, and for a quality or a preset that the codec
        does not have, as far as they are known; ffmpeg is not asked."""
        held, row = CONTAINERS[self.suffix].codecs, self.row
        if self.crf is not None and row.crf and not row.crf[0] <= self.crf <= row.crf[1]:
            least, most = row.crf
            raise UsageError(f"--crf {self.crf:g}: {self.codec} takes {least} to {most}, and lower is better",
                             f"Try --crf {row.best or 30}.")
        if self.codec in CODECS and self.codec not in held:
            names = " or ".join(map(_spoken, held))
            raise UsageError(f"a {self.suffix} film cannot hold {_spoken(self.codec)}",
                             f"Use --codec {names}." if self.suffix != ".gif" else "Leave out --codec.")
        if self.preset is not None and row.presets and self.preset not in row.presets:
            raise UsageError(f"--preset {self.preset}: not one of {self.codec}'s"
                             f"{did_you_mean(self.preset, tuple(row.presets))}",
                             f"The presets are {listed(row.presets, len(row.presets))}.")
        for option, value, has in (("crf", self.crf, row.crf), ("preset", self.preset, row.presets)):
            if value is not None and not has and self.codec in held:
                raise UsageError(f"--{option} {value}: {self.codec} has no such setting", f"Leave out --{option}.")

    def check(self, width: int, height: int) -> None:
        """Encode one black picture, so that a wrong name is noticed before anything is rendered."""
        if self.crf is not None and self.codec not in CODECS and not _has_crf(self.codec):
            raise UsageError(f"--crf {self.crf:g}: the encoder {self.codec} has no such setting",
                             f"Leave out --crf, or see `ffmpeg -h encoder={self.codec}`.")
        _try(ffmpeg.executable(), self, width, height)


@cache  # the films of a batch are mostly alike; a failure is tried again, and so is another ffmpeg
def _try(binary: str, encoding: Encoding, width: int, height: int) -> None:
    muxer = "null" if encoding.suffix in (MP4, ".gif") else CONTAINERS[encoding.suffix].muxer
    trial = ffmpeg.run(["-f", "lavfi", "-i", f"color=black:size={width}x{height}:rate=16:duration=0.05",
                        *encoding.encoder(), *(["-movflags", "+frag_keyframe"] if muxer == "mov" else []),
                        "-f", muxer, "-y", os.devnull])
    if trial.returncode:
        complaint = trial.stderr.decode(errors="replace")
        raise UsageError(
            f"ffmpeg cannot encode with {' '.join(encoding.arguments())}: {ffmpeg.cause(complaint)}",
            "Leave out --codec, --crf and --preset, or see `ffmpeg -encoders` and `ffmpeg -h encoder=NAME`.",
        )


def encoding_of(name: str, crf: float | None, preset: str | None) -> Encoding:
    """By any name of a codec, in a kind of film that holds it: MP4 if that does, or if nothing is known of it."""
    codec = codec_named(name)
    suffix = next((suffix for suffix, container in CONTAINERS.items() if codec in container.codecs), MP4)
    return Encoding(codec, crf, preset, suffix)


def _has_crf(codec: str) -> bool:
    """Whether an encoder has the setting; also for one that ffmpeg does not know, which the trial finds out."""
    about = ffmpeg.run(["-h", f"encoder={codec}"]).stdout.decode(errors="replace")
    return " -crf " in about or not about.startswith("Encoder ")
