"""Where the pictures of a film go: one file, a numbered sequence of images, or standard output.

A target gives ffmpeg's arguments for the output, and says how that output becomes final or is removed. It knows neither
the pictures nor the process that writes them.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from echo_cli.files import flush, output_errors, partial, publish, sha256
from echo_cli.video.encoding import CONTAINERS
from echo_cli.video.tags import stamp_picture

JPEG = ["-c:v", "mjpeg", "-q:v", "2", "-pix_fmt", "yuvj444p"]
SUFFIXES = {".png": ["-c:v", "png", "-pix_fmt", "rgb24"], ".jpg": JPEG, ".jpeg": JPEG,
            ".webp": ["-c:v", "libwebp", "-quality", "90", "-pix_fmt", "yuv420p"]}
NUMBER = re.compile(r"%(0?\d+)?d")


@dataclass(frozen=True, slots=True)
class Output:
    """A finished output as the manifest names it: a file, or a sequence hashed as if it were one file."""

    path: Path
    sha256: str
    bytes: int


class Target(Protocol):
    """What FilmWriter needs of a place to write to."""

    @property
    def path(self) -> Path: ...

    @property
    def encoder(self) -> list[str] | None:
        """How images are encoded, or None for a film, whose encoding is the user's choice."""

    def arguments(self) -> list[str]:
        """The end of ffmpeg's command line."""

    def existing(self) -> list[Path]:
        """Files that writing here would replace."""

    def prepare(self) -> None:
        """Make the folder that ffmpeg writes to."""

    def finish(self, pictures: int) -> Output | None:
        """The finished output, once ffmpeg has written everything; None for a stream."""

    def publish(self) -> None:
        """Give it its final name."""

    def discard(self) -> None:
        """Leave nothing that looks finished."""


@dataclass(frozen=True, slots=True)
class Movie:
    """One file of a kind of `CONTAINERS`, whole or absent. It grows at `growing`, by default beside its final name."""

    path: Path
    growing: Path | None = None
    encoder = None

    @property
    def suffix(self) -> str:
        """Its kind."""
        return self.path.suffix.lower()

    @property
    def grows(self) -> Path:
        return self.growing or partial(self.path)

    def arguments(self) -> list[str]:
        container = CONTAINERS[self.suffix]
        return [*container.flags, "-f", container.muxer, "-y", os.path.abspath(self.grows)]

    def existing(self) -> list[Path]:
        return [self.path] if os.path.lexists(self.path) else []

    def prepare(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def finish(self, pictures: int) -> Output:
        with output_errors(self.path):
            return Output(self.path, sha256(self.grows), self.grows.stat().st_size)

    def publish(self) -> None:
        publish(self.path, self.grows)

    def discard(self) -> None:
        self.grows.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Images:
    """Numbered images from 0, the numbers of trace and timeline. Each gets its final name soon after it is complete
    (`collect`); the manifest says that the sequence is complete. A part of the sequence begins with number `first`.
    Pictures grow in the folder `growing`, by default beside their final names: an encoder that outlives its killed run
    never touches another one's pictures."""

    path: Path  # with one %d or %06d in its name
    first: int = 0
    growing: Path | None = None

    @property
    def encoder(self) -> list[str]:
        return SUFFIXES[self.path.suffix.lower()]

    @property
    def grows(self) -> Path:
        return self.growing or partial(self.path)

    def arguments(self) -> list[str]:
        folder = os.path.abspath(self.grows).replace("%", "%%")
        return ["-f", "image2", "-atomic_writing", "1", "-start_number", str(self.first), "-y",
                os.path.join(folder, self.path.name)]

    def picture(self, number: int) -> Path:
        return self.path.with_name(self.path.name % number)

    def numbered(self) -> Iterator[tuple[int, Path]]:
        """The existing pictures and their numbers, in no order."""
        before, after = (re.escape(part) for part in NUMBER.split(self.path.name)[::2])
        pattern = re.compile(f"{before}(\\d+){after}")
        if self.path.parent.is_dir():
            for path in self.path.parent.iterdir():
                if (match := pattern.fullmatch(path.name)) and self.picture(int(match[1])) == path:
                    yield int(match[1]), path

    def existing(self) -> list[Path]:
        return [path for _, path in sorted(self.numbered())]

    def prepare(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.grows.mkdir(parents=True, exist_ok=True)

    def collect(self) -> None:
        """Give the pictures that are complete by now their final names."""
        with output_errors(self.path):
            for number, path in list(Images(self.grows / self.path.name).numbered()):
                stamp_picture(path)
                path.replace(self.picture(number))

    def finish(self, pictures: int) -> Output:
        self.collect()
        with output_errors(self.path):
            paths = [self.picture(number) for number in range(self.first, self.first + pictures)]
            for path in paths:
                flush(path)
            flush(self.path.parent)
            return Output(self.path, sha256(*paths), sum(path.stat().st_size for path in paths))

    def trim(self, pictures: int) -> None:
        """Remove what a longer film left under names that this one replaces."""
        with output_errors(self.path):
            for number, path in list(self.numbered()):
                if number >= pictures:
                    path.unlink()

    def publish(self) -> None:
        """Every picture has its final name already."""

    def discard(self) -> None:
        """Pictures with final names stay: each is complete, and without a manifest the sequence is not."""
        shutil.rmtree(self.grows, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Stdout:
    """Fragmented MP4, playable while it streams: a fragment a second. Its header waits for the first of them, which
    knows when each stream begins."""

    path = Path("standard output")
    encoder = None

    def arguments(self) -> list[str]:
        return ["-movflags", "+delay_moov+default_base_moof", "-frag_duration", "1000000", "-flush_packets", "1",
                "-f", "mp4", "pipe:1"]

    def existing(self) -> list[Path]:
        return []

    def prepare(self) -> None:
        pass

    def finish(self, pictures: int) -> None:
        return None

    def publish(self) -> None:
        pass

    def discard(self) -> None:
        pass
