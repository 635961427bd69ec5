"""Pictures in a small file that gives them back to the last bit. Knows no film, and not what they are kept for."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from echo_cli.errors import Damaged
from echo_cli.files import output_errors, partial, publish
from echo_cli.video import ffmpeg

_STREAM = ("-c:v", "libx264rgb", "-qp", "0", "-preset", "ultrafast", "-threads", "4", "-f", "h264")
_PIECE = 1 << 20  # bytes


def compress(raw: Path, count: int, width: int, height: int, path: Path) -> None:
    """The first `count` pictures of a file of raw RGB, in a new file, which is complete or absent."""
    growing = partial(path)
    with output_errors(path):
        growing.write_bytes(b"")
    if count:
        done = ffmpeg.run(["-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-i",
                           os.path.abspath(raw), "-frames:v", str(count), *_STREAM, "-y", os.path.abspath(growing)])
        if done.returncode:
            growing.unlink(missing_ok=True)
            raise ffmpeg.failure(done.returncode, done.stderr.decode(errors="replace"), path)
    publish(path)


def decompress(path: Path, count: int, width: int, height: int) -> Iterator[bytes]:
    """The first `count` pictures as raw RGB, in pieces; Damaged if the file does not have as many."""
    left = count * width * height * 3
    if not left:
        return
    command = [ffmpeg.executable(), *ffmpeg.QUIET, "-f", "h264", "-i", os.path.abspath(path),
               "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    try:
        while left and (piece := process.stdout.read(min(_PIECE, left))):
            left -= len(piece)
            yield piece
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    if left:
        raise Damaged(f"{path} is damaged or cut short")
