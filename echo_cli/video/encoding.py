"""How a film is encoded: the user's choices as ffmpeg arguments, tried out before rendering. Knows no pictures."""

from dataclasses import dataclass

from echo_cli.errors import UsageError
from echo_cli.video import ffmpeg

# which colour space the film uses; without it players guess by size, and greens and reds shift
COLOUR = [
    "-pix_fmt",
    "yuv420p",
    "-colorspace",
    "bt709",
    "-color_primaries",
    "bt709",
    "-color_trc",
    "bt709",
    "-color_range",
    "tv",
]
DEFAULTS = {"libx264": ("18", "veryfast"), "libx265": ("20", "veryfast")}  # codec → crf, preset
# codec → the crf that it takes for 8 bits; beyond that x264 takes its own limit without a word, and ffmpeg allows -1
CRF = {"libx264": (0, 51), "libx264rgb": (0, 51), "libx265": (0, 51), "libvpx": (4, 63), "libvpx-vp9": (0, 63),
       "libaom-av1": (0, 63), "libsvtav1": (0, 63)}


@dataclass(frozen=True, slots=True)
class Encoding:
    """The user's choices for the encoder; None means DEFAULTS, or else the encoder's own default."""

    codec: str = "libx264"
    crf: float | None = None
    preset: str | None = None

    def arguments(self) -> list[str]:
        crf, preset = DEFAULTS.get(self.codec, (None, None))
        crf = crf if self.crf is None else f"{self.crf:g}"
        preset = preset if self.preset is None else self.preset
        # a fixed number of threads: x264 divides its work by threads, and a film must not depend on the machine's cores
        return ["-c:v", self.codec, "-threads", "4", *(["-crf", crf] if crf is not None else []),
                *(["-preset", preset] if preset is not None else [])]

    @property
    def tag(self) -> list[str]:
        """The codec's tag in an MP4 where not every player accepts ffmpeg's choice: Apple's need hvc1."""
        return ["-tag:v", "hvc1"] if "265" in self.codec or "hevc" in self.codec else []

    def check_crf(self) -> None:
        """A UsageError for a quality that the encoder is known not to have; ffmpeg is not asked."""
        bounds = CRF.get(self.codec)
        if self.crf is None or bounds is None or bounds[0] <= self.crf <= bounds[1]:
            return
        raise UsageError(f"--crf {self.crf:g}: {self.codec} takes {bounds[0]} to {bounds[1]}, and lower is better",
                         f"Try --crf {DEFAULTS.get(self.codec, ('30', ''))[0]}.")

    def check(self, width: int, height: int) -> None:
        """Encode one black picture, so that a wrong name is noticed before anything is rendered."""
        if self.crf is not None and self.codec not in CRF and not _has_crf(self.codec):
            raise UsageError(f"--crf {self.crf:g}: the encoder {self.codec} has no such setting",
                             f"Leave out --crf, or see `ffmpeg -h encoder={self.codec}`.")
        trial = ffmpeg.run(["-f", "lavfi", "-i", f"color=black:size={width}x{height}:rate=16:duration=0.05",
                            *self.arguments(), "-pix_fmt", "yuv420p", "-f", "null", "-"])
        if trial.returncode:
            complaint = trial.stderr.decode(errors="replace")
            raise UsageError(
                f"ffmpeg cannot encode with {' '.join(self.arguments())}: {ffmpeg.cause(complaint)}",
                "Leave out --codec, --crf and --preset, or see `ffmpeg -encoders` and `ffmpeg -h encoder=NAME`.",
            )


def _has_crf(codec: str) -> bool:
    """Whether an encoder has the setting; also for one that ffmpeg does not know, which the trial finds out."""
    about = ffmpeg.run(["-h", f"encoder={codec}"]).stdout.decode(errors="replace")
    return " -crf " in about or not about.startswith("Encoder ")
