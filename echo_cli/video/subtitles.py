"""Captions of a film: as an SRT file, or drawn into the pictures by ffmpeg's `subtitles` filter.

Knows seconds and words only; what looks like markup is words too. Times are floored to milliseconds on both sides, as
the filter floors a picture's own time: a caption covers exactly its pictures.
"""

import re
import shutil
import tempfile
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path

from echo_cli.errors import MissingError, UsageError
from echo_cli.text import timestamp
from echo_cli.video import ffmpeg

JOINER = "\N{WORD JOINER}"  # has no width, and keeps players from reading `{\an8}`, `<i>` and `-->` as markup
PLAIN_STYLES = ("Regular", "Book", "Roman", "Normal", "Medium")  # a full name leaves these out

# files in the folder where ffmpeg runs, so that no name needs escaping
_CAPTIONS, _FONTS = "captions.vtt", "fonts"
_MARKUP = re.compile(r"\{(?=\\)|<(?=[/a-zA-Z])|--(?=>)")
_SPLIT = re.compile(rf"(\{{|<|--){JOINER}")
_ABSENT = re.compile(r"failed to find any fallback with glyph 0x([0-9A-F]+)")
_SELECTED = re.compile(r"fontselect: \(.*\) -> /")  # a font of this machine: one from a file has no path


class Subtitles(StrEnum):
    """What happens to captions."""

    NONE = "none"
    SRT = "srt"
    BURN = "burn"


@dataclass(frozen=True, slots=True)
class Caption:
    """Half-open in time: seen from `start` until just before `stop`, in seconds."""

    start: float | Fraction
    stop: float | Fraction
    text: str


def srt(captions: Sequence[Caption]) -> str:
    """SubRip text, which has no escapes: a character without width splits what players would read as markup
    or as the times of a caption."""
    return "\n".join(
        f"{number}\n{_clock(caption.start, ',')} --> {_clock(caption.stop, ',')}\n"
        f"{_lines(_MARKUP.sub(lambda opening: opening[0] + JOINER, caption.text))}"
        for number, caption in enumerate(captions, 1)
    )


def vtt(captions: Sequence[Caption]) -> str:
    """WebVTT text; ffmpeg removes the escapes when it draws it."""
    return "WEBVTT\n\n" + "\n".join(
        f"{_clock(caption.start, '.')} --> {_clock(caption.stop, '.')}\n{_lines(_escaped_markup(caption.text))}"
        for caption in captions
    )


def _escaped_markup(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def without_joiners(text: str) -> str:
    """The text of a caption in SubRip as it was before `srt` wrote it."""
    return _SPLIT.sub(r"\1", text)


def _lines(text: str) -> str:
    """The lines that are not empty; an empty line would end a caption early."""
    return "".join(f"{line.strip()}\n" for line in text.splitlines() if line.strip())


def _clock(seconds: float | Fraction, point: str) -> str:
    return timestamp(int(seconds * 1000 + 1e-6), point)


def burning(folder: Path, captions: Sequence[Caption], font: Path | None = None) -> str:
    """The filter that draws captions, for an ffmpeg that runs in `folder`; its files are written there."""
    (folder / _CAPTIONS).write_text(vtt(captions), encoding="utf-8")
    if font is None:
        return f"subtitles={_CAPTIONS}"
    # escaped for the filter's option, then for the list of filters
    name = re.sub(r"([\\',;\[\]])", r"\\\1", re.sub(r"([\\':])", r"\\\1", font_name(font)))
    (folder / _FONTS).mkdir()
    shutil.copyfile(font, folder / _FONTS / "font")
    return f"subtitles={_CAPTIONS}:fontsdir={_FONTS}:force_style=Fontname={name}"


def font_name(font: Path) -> str:
    """The full name in a font file."""
    from PIL import ImageFont

    try:
        with font.open("rb") as file:
            family, style = ImageFont.truetype(file).getname()
    except OSError as error:
        reason = error.strerror or "it is not a font that can be read"
        raise UsageError(f"--font {font}: {reason}", "Name a TrueType or OpenType file.") from None
    if not family or "," in family:
        raise UsageError(f"--font {font}: the font's name, {family!r}, cannot be used", "Choose another font.")
    return family if not style or style in PLAIN_STYLES else f"{family} {style}"


def check_burning(captions: Sequence[Caption], font: Path | None = None) -> str:
    """Draw every character of the captions on black, and return those that no font here has.

    A build without the filter, or a machine without fonts, draws nothing at all.
    """
    characters = sorted({letter for caption in captions for letter in caption.text if _is_drawn(letter)})
    with tempfile.TemporaryDirectory(prefix="echo-captions-") as folder:
        filters = burning(Path(folder), [Caption(0, 1, "echo " + "".join(characters))], font)
        drawn = ffmpeg.run(["-loglevel", "info", "-f", "lavfi", "-i", "color=black:size=192x128:rate=1:duration=1",
                            "-vf", filters, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"], cwd=Path(folder))
    messages = drawn.stderr.decode(errors="replace")
    if drawn.returncode:
        raise MissingError(f"this ffmpeg cannot draw subtitles: {ffmpeg.cause(messages)}",
                           "Use --subtitles srt, or set IMAGEIO_FFMPEG_EXE to an ffmpeg built with libass.")
    if font and _SELECTED.search(messages):
        raise UsageError(f"--font {font}: ffmpeg does not find the font under its name, '{font_name(font)}'",
                         "Choose another font, or install this one.")
    if not any(drawn.stdout):
        raise MissingError("this machine has no font to draw subtitles with",
                           "Install one (for example the package fonts-dejavu-core), or use --subtitles srt.")
    return "".join(sorted({chr(int(code, 16)) for code in _ABSENT.findall(messages)}))


def _is_drawn(letter: str) -> bool:
    """Whether a character is visible by itself: not a space, a control, or a mark that only changes its neighbour."""
    return (unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zs", "Zl", "Zp")
            and not 0xFE00 <= ord(letter) <= 0xFE0F)
