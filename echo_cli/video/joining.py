"""Segments of a film into one file: packets as they are, or, for a GIF, pictures again, in colours that all share.

Knows a folder of segments and what the film is to say about itself, not how segments came about.
"""

from collections.abc import Sequence
from pathlib import Path

from echo_cli.files import output_errors
from echo_cli.video import ffmpeg
from echo_cli.video.encoding import CONTAINERS, Encoding
from echo_cli.video.mixing import feed
from echo_cli.video.sound import Sound
from echo_cli.video.tags import Tags, stamp
from echo_cli.video.target import Movie

_LIST, _CHAPTERS, _PALETTE = "segments.txt", "chapters.txt", "palette.png"
_SEGMENTS = ("-f", "concat", "-i", _LIST)


def join(film: Movie, folder: Path, names: Sequence[str], encoding: Encoding, tags: Tags, fps: float,
         sound: Sound | None = None) -> None:
    """Make the film where it grows, in the folder of its segments."""
    with output_errors(film.path):
        (folder / _LIST).write_text("ffconcat version 1.0\n" + "".join(f"file {name}\n" for name in names))
        (folder / _CHAPTERS).write_text(tags.chapter_file(fps), encoding="utf-8")
    container = CONTAINERS[film.suffix]
    end = [*container.flags, "-f", container.muxer, "-y"]
    if film.suffix == ".gif":
        # two passes over the segments, so that memory does not grow with the film
        _run(film, folder, [*_SEGMENTS, "-vf", "palettegen", "-y", _PALETTE])
        _run(film, folder, [*_SEGMENTS, "-i", _PALETTE, "-lavfi", "paletteuse", "-fps_mode", "passthrough",
                            *end, film.grows.name])
    else:
        as_it_is = ["-map", "0:v", "-map_chapters", "1", "-c:v", "copy", *encoding.tag, *tags.arguments]
        chapters = ["-f", "ffmetadata", "-i", _CHAPTERS]
        silent = f"silent{film.suffix}" if sound else film.grows.name
        _run(film, folder, [*_SEGMENTS, *chapters, *as_it_is, *end, silent])
        if sound:
            heard = sound.arguments(2, film.suffix)
            with feed(sound) as (sounds, inherited):
                _run(film, folder, ["-i", silent, *chapters, *sounds, *as_it_is, *heard, *end, film.grows.name],
                     strict=False, inherited=inherited)
    stamp(film.grows, tags)


def _run(film: Movie, folder: Path, arguments: Sequence[str], strict: bool = True,
         inherited: Sequence[int] = ()) -> None:
    """By bare names, in their folder: ffmpeg's rules never apply to a name that a user chose. Unless `strict`, what it
    reports and gets over, such as noise in a sound file, is not a failure."""
    done = ffmpeg.run(arguments, cwd=folder, inherited=inherited)
    if done.returncode or (strict and done.stderr):  # it continues after a packet that does not fit, but reports it
        raise ffmpeg.failure(done.returncode, done.stderr.decode(errors="replace"), film.path)
