"""Several sounds as one: what is heard at the same time is added, a second at a time.

Memory grows neither with the film nor with the count of its sounds. Knows samples, not where they go.
"""

import os
import subprocess
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np

from echo_cli.errors import UsageError
from echo_cli.video import ffmpeg
from echo_cli.video.sound import RAW, SAMPLES, STEREO, WAV, Part, Sound, source


@contextmanager
def feed(sound: Sound) -> Iterator[tuple[list[str], tuple[int, ...]]]:
    """ffmpeg's arguments that make a sound an input, and the file descriptors that ffmpeg inherits for that; to be left
    when ffmpeg has ended. A single sound under the whole film keeps its channels; what is mixed is stereo."""
    if sound.alone:
        yield source(sound.alone), ()
        return
    reading, writing = os.pipe()
    failures: list[Exception] = []
    thread = threading.Thread(target=_pump, args=(sound, writing, failures), daemon=True)
    thread.start()
    try:
        yield [*RAW, "-i", f"pipe:{reading}"], (reading,)
    finally:
        os.close(reading)  # if ffmpeg wanted no more of it, the thread notices now
        thread.join()
    if failures:
        raise failures[0]


def write(sound: Sound, path: Path) -> None:
    """A sound as a WAV, of any length."""
    with feed(sound) as (sounds, inherited):
        done = ffmpeg.run([*sounds, *sound.arguments(0, WAV), "-map_metadata", "-1", "-fflags", "+bitexact", "-rf64",
                           "auto", "-f", "wav", "-y", str(path.absolute())], inherited=inherited)
    if done.returncode:
        raise ffmpeg.failure(done.returncode, done.stderr.decode(errors="replace"), path)


def _pump(sound: Sound, writing: int, failures: list[Exception]) -> None:
    """Send the mixed sound to ffmpeg, as long as it reads."""
    with suppress(BrokenPipeError), os.fdopen(writing, "wb") as pipe:
        try:
            with closing(mixed(sound)) as pieces:
                for piece in pieces:
                    pipe.write(piece.tobytes())
        except BrokenPipeError:
            raise
        except Exception as error:  # raised again where the sound is wanted
            failures.append(error)


def mixed(sound: Sound) -> Generator[np.ndarray]:
    """[sample, 2] float32, a second at a time."""
    waiting, playing, samples = list(sound.parts), list[_Player](), round(sound.seconds * SAMPLES)
    try:
        for start in range(0, samples, SAMPLES):
            piece = np.zeros((min(SAMPLES, samples - start), 2), np.float32)
            while waiting and waiting[0].begins * SAMPLES < start + len(piece):
                playing.append(_Player(waiting.pop(0)))
            for player in playing:
                player.add_to(piece, start)
            for player in [each for each in playing if each.ends <= start + len(piece)]:
                player.stop()
                playing.remove(player)
            yield piece.clip(-1, 1)
    finally:
        for player in playing:
            player.stop()


class _Player:
    """An ffmpeg that decodes one part."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self.begins, self.ends = round(part.begins * SAMPLES), round(part.ends * SAMPLES)
        command = [ffmpeg.executable(), *ffmpeg.QUIET, *source(part.path), "-map", "0:a:0", "-af", STEREO,
                   "-t", f"{part.ends - part.begins:.6f}", *RAW, "pipe:1"]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.DEVNULL)

    def add_to(self, piece: np.ndarray, start: int) -> None:
        """Add what is heard in a piece of the film that begins at sample `start`."""
        assert self._process.stdout is not None
        first, last = max(self.begins - start, 0), min(self.ends - start, len(piece))
        heard = self._process.stdout.read((last - first) * 8)
        samples = np.frombuffer(heard, np.float32, len(heard) // 8 * 2).reshape(-1, 2)
        piece[first:first + len(samples)] += samples
        if len(samples) < last - first and self._process.wait():
            raise UsageError(f"{self._part.path}: ffmpeg can no longer read its sound",
                             "Leave it as it is until the film is made.")

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()
