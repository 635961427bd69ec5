"""Pictures into a film as they are rendered: raw RGB through a pipe to ffmpeg, from a thread of its own.

Encoding runs in parallel with rendering. The queue between them is short, so memory does not grow when the encoder is
slower: rendering waits. However a film ends, no ffmpeg outlives its writer and nothing unfinished looks finished.
"""

import contextlib
import queue
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from echo_cli.errors import EchoError
from echo_cli.files import output_errors
from echo_cli.video import ffmpeg
from echo_cli.video.encoding import MP4, RGB, Encoding
from echo_cli.video.mixing import feed
from echo_cli.video.sound import Sound
from echo_cli.video.subtitles import Caption, burning
from echo_cli.video.tags import Tags
from echo_cli.video.target import Output, Stdout, Target

WAITING = 3  # writes that may wait for the encoder; a write is a block's pictures


class PictureSink(Protocol):
    """Takes pictures in order and makes a film of them. Leaving the `with` before `publish` leaves no film that looks
    finished."""

    @property
    def pictures(self) -> int:
        """How many it has."""

    def write(self, pictures: np.ndarray) -> None:
        """`pictures` [picture, height, width, 3] uint8."""

    def finish(self) -> Output | None:
        """All pictures are in: the film is whole, but has no name yet."""

    def publish(self) -> None:
        """Give it its name."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class FilmWriter:
    """Takes pictures in order; `close` makes the film final; leaving the `with` by an exception removes it."""

    def __init__(self, target: Target, width: int, height: int, fps: float, encoding: Encoding = Encoding(), *,
                 scale: float = 1, burn: Sequence[Caption] = (), font: Path | None = None, tags: Tags = Tags(),
                 first: int = 0, folder: Path | None = None, sound: Sound | None = None) -> None:
        """`first` is the number of the first picture in the film, by which captions are timed. ffmpeg runs in a folder
        of its own inside `folder`, or in the system's temporary folder."""
        self.target, self.width, self.height, self.pictures = target, width, height, 0
        self._shape = (height, width, 3)
        with output_errors(target.path):
            self._folder = tempfile.TemporaryDirectory(prefix="echo-film-", dir=folder)
            captions = burning(Path(self._folder.name), burn, font) if burn else ""
            target.prepare()
        self._stack = ExitStack()
        sounds, inherited = self._stack.enter_context(feed(sound)) if sound else ([], ())
        heard = ["-map", "0:v", *sound.arguments(1, MP4)] if sound else []
        command = [
            ffmpeg.executable(), *ffmpeg.QUIET, *_raw(width, height, fps), "-i", "pipe:0", *sounds, *heard,
            "-vf", _filters(round(width * scale), round(height * scale), captions, first,
                            RGB if target.encoder else encoding.pixels),
            "-fps_mode", "passthrough", *tags.arguments, *(target.encoder or encoding.encoder()), *target.arguments(),
        ]
        # a session of its own: a Ctrl-C in the terminal is meant for us, and we decide when the encoder stops
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                                         stdout=None if isinstance(target, Stdout) else subprocess.DEVNULL,
                                         cwd=self._folder.name, start_new_session=True, pass_fds=inherited)
        self.process = self._process.pid
        self._queue: queue.Queue[np.ndarray | None] = queue.Queue(WAITING)
        self._broken = threading.Event()
        self._complaint: deque[str] = deque(maxlen=20)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._pump, self._listen)]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "FilmWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def write(self, pictures: np.ndarray) -> None:
        """`pictures` [picture, height, width, 3] uint8; returns at once unless the encoder is far behind."""
        if pictures.dtype != np.uint8 or pictures.shape[1:] != self._shape:
            raise ValueError(f"pictures are {pictures.dtype}{list(pictures.shape)}, not uint8 of {self._shape}")
        while not self._broken.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(np.ascontiguousarray(pictures), timeout=0.1)
                self.pictures += len(pictures)
                return
        raise self._failure()

    def close(self) -> Output | None:
        """Finish the film and give it its final name."""
        output = self.finish()
        self.publish()
        return output

    def finish(self) -> Output | None:
        """Wait for the encoder: the film is complete, but has no final name yet."""
        while not self._broken.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=0.1)
                break
        for thread in self._threads:
            thread.join()
        if self._process.wait() or self._broken.is_set():
            raise self._failure()
        self._stack.close()
        return self.target.finish(self.pictures)

    def publish(self) -> None:
        self.target.publish()

    def abort(self) -> None:
        """Stop the encoder if it still runs, and remove what it wrote; after `close` there is nothing left to do."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        with contextlib.suppress(queue.Full):  # a full queue means that the pump is writing, and the kill has woken it
            self._queue.put_nowait(None)
        for thread in self._threads:
            thread.join()
        with contextlib.suppress(Exception):  # that a sound cannot be read matters only to a film that is finished
            self._stack.close()
        self._folder.cleanup()
        self.target.discard()

    def _failure(self) -> EchoError:
        """The encoder closed its end: read the rest of its messages, then raise the reason."""
        returncode = self._process.wait()
        self._threads[1].join()
        return ffmpeg.failure(returncode, "\n".join(self._complaint), self.target.path)

    def _pump(self) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            while (pictures := self._queue.get()) is not None:
                stdin.write(pictures.data)
            stdin.close()
        except OSError:
            self._broken.set()
            with contextlib.suppress(OSError):
                stdin.close()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            self._complaint.extend(line.decode(errors="replace") for line in lines)


def _raw(width: int, height: int, fps: float) -> list[str]:
    """What the pictures are that come through the pipe."""
    return ["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}",
            "-framerate", str(Fraction(fps).limit_denominator(1001))]


def _filters(width: int, height: int, captions: str, first: int, pixels: str) -> str:
    """Enlarge or reduce, and change colour space with the matrix that is declared, in one step, unless `pixels` are
    RGB; the filter `captions` draws on RGB before, if there is one, with pictures counted from `first`."""
    size = f"scale={width}:{height}:flags=lanczos"
    colours = f"out_color_matrix=bt709:out_range=tv,format={pixels}"
    captions = captions and f",setpts=PTS+{first},{captions},setpts=PTS-{first}"
    if pixels == RGB:
        return f"{size},format=gbrp{captions}"
    return f"{size},format=gbrp{captions},scale={colours}" if captions else f"{size}:{colours}"
