"""The pictures of a clip from a file, as a film can use them: at its rate, in its shape, as many as are asked for.

What comes from outside is not trusted: only containers of films are opened, never lists that name other files or
addresses; sizes and times are limited. Knows ffmpeg, no model and no storyboard.
"""

import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from echo_cli.files import open_regular
from echo_cli.storyboard.nouns import CENTRE, Fit
from echo_cli.video import ffmpeg
from echo_cli.video.still import LEAST_SIDE, MOST_PIXELS, MOST_SHAPE, Unusable, readable

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,gif,ogg,flv,asf,mxf,h264,hevc"
PATIENCE = 10  # seconds for a look at a file
LONG = 60  # seconds for its pictures, and a second more for each that is wanted
EARLY = 1.0  # seconds before the wanted pictures at which reading begins: where ffmpeg lands is not exact


@dataclass(frozen=True, slots=True)
class Look:
    """What a clip's header says; `seconds` None if it does not say how long it lasts."""

    width: int
    height: int
    seconds: float | None


def look(path: Path) -> Look:
    """The facts of a clip; Unusable if it is none that can be used."""
    with readable(), open_regular(path) as file:
        empty = not file.read(1)
    if empty:
        raise Unusable("is empty")
    try:
        # without an output ffmpeg prints what it finds and fails, which is enough here
        done = subprocess.run([ffmpeg.executable(), "-hide_banner", "-nostdin", *_source(path)], capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise Unusable(f"cannot be read within {PATIENCE} seconds") from None
    if done.returncode < 0:
        raise Unusable("makes this ffmpeg crash; an MP4 of it, made elsewhere, may do")
    said = done.stderr.decode(errors="replace")
    stream = re.search(r"Video: (?!.*\(attached pic\)).*?[ ,](\d+)x(\d+)[ ,\n]", said)  # no cover of a sound
    if not stream:
        raise Unusable("has a sound and no pictures" if "Audio:" in said else "is not a clip that ffmpeg can read")
    length = re.search(r"Duration: (\d+):(\d+):([\d.]+)", said)
    seconds = int(length[1]) * 3600 + int(length[2]) * 60 + float(length[3]) if length else None
    return Look(int(stream[1]), int(stream[2]), seconds)


def check(path: Path, begins: float | None = None) -> None:
    """An Unusable if the file is not a clip that can be used from `begins` on (None: its end); one picture is
    decoded."""
    seen = look(path)
    if seen.width * seen.height > MOST_PIXELS:
        raise Unusable(f"has pictures of {seen.width}x{seen.height}, more than {MOST_PIXELS // 10**6} million pixels")
    if min(seen.width, seen.height) < LEAST_SIDE:
        raise Unusable(f"has pictures of {seen.width}x{seen.height}; sides must have at least {LEAST_SIDE} pixels")
    if max(seen.width, seen.height) > MOST_SHAPE * min(seen.width, seen.height):
        raise Unusable(f"has pictures of {seen.width}x{seen.height}, more than {MOST_SHAPE} times as long as their "
                       "shorter side")
    if begins is not None and seen.seconds is not None and begins >= seen.seconds:
        raise Unusable(f"lasts {seen.seconds:g} seconds, so nothing of it begins at {begins:g}")
    filters, wanted = f"scale={LEAST_SIDE}:{LEAST_SIDE}", 3 * LEAST_SIDE**2
    if begins is None:
        start = (seen.seconds or 0.0) - EARLY
        pixels, complaint = _last(path, start, filters, PATIENCE, wanted, "-frames:v", "1")
    else:
        pixels, complaint = _onward(path, begins, filters, PATIENCE, wanted, "-frames:v", "1")
    if not pixels:
        raise Unusable(f"is damaged: {ffmpeg.cause(complaint)}" if complaint else "has no picture there")


def excerpt(path: Path, count: int, fps: float, size: tuple[int, int], begins: float | None = None,
            fit: Fit = Fit.COVER, focus: tuple[float, float] = CENTRE) -> np.ndarray:
    """At most `count` pictures [picture, height, width, 3] uint8 at `fps`, from `begins` on, or the last ones."""
    filters, wanted = f"fps={fps!r},{_fitting(size, fit, focus)}", count * 3 * size[0] * size[1]
    if begins is None:
        start = (look(path).seconds or 0.0) - count / fps - EARLY
        pixels, complaint = _last(path, start, filters, LONG + count, wanted)
    else:
        pixels, complaint = _onward(path, begins, filters, LONG + count, wanted, "-frames:v", str(count))
    whole = len(pixels) // (3 * size[0] * size[1])
    if not whole:
        raise Unusable(f"has no picture there: {ffmpeg.cause(complaint)}" if complaint else "has no picture there")
    made = np.frombuffer(pixels, np.uint8)[:whole * 3 * size[0] * size[1]]
    return made.reshape(whole, size[1], size[0], 3)


def _last(path: Path, start: float, filters: str, patience: float, wanted: int, *output: str) -> tuple[bytes, str]:
    """What `_run` gives of the pictures from `start` on, or from earlier if those are fewer than `wanted` bytes: a file
    may last longer than its pictures."""
    for place in _places(start):
        pixels, complaint = _run(path, place, ["-vf", filters, "-fps_mode", "passthrough", *output], patience, wanted)
        if len(pixels) >= wanted:
            break
    return pixels, complaint


def _onward(path: Path, begins: float, filters: str, patience: float, wanted: int, *output: str) -> tuple[bytes, str]:
    """What `_run` gives of the pictures from `begins` on."""
    place = next(place for place in _places(begins) if place == 0 or _decodes(path, place, begins))
    skipped = f"trim=start={begins - place:.6f},setpts=PTS-{begins - place:.6f}/TB," if place < begins else ""
    return _run(path, place, ["-vf", skipped + filters, *output], patience, wanted)


def _places(start: float) -> Iterator[float]:
    """Seconds from `start` back to the beginning, in steps that double."""
    step = EARLY
    while start > 0:
        yield start
        start, step = start - step, 2 * step
    yield 0.0


def _decodes(path: Path, place: float, begins: float) -> bool:
    """Whether a picture up to `begins` can be decoded from where ffmpeg lands when it seeks `place`: in some containers
    that is anywhere between two keyframes."""
    output = ["-vf", f"trim=end={begins - place + 0.001:.6f}", "-fps_mode", "passthrough", "-frames:v", "1"]
    return bool(_run(path, place, output, PATIENCE, 1, "-noaccurate_seek")[0])


def _source(path: Path) -> Sequence[str]:
    return ("-protocol_whitelist", "file", "-format_whitelist", CONTAINERS, "-i", str(path.absolute()))


def _fitting(size: tuple[int, int], fit: Fit, focus: tuple[float, float]) -> str:
    """The filter that brings pictures into a shape. Pixels that are not square become so."""
    width, height = size
    square = "scale='trunc(iw*max(sar,1/20))':ih,setsar=1"
    if fit is Fit.CONTAIN:
        return (f"{square},scale={width}:{height}:force_original_aspect_ratio=decrease:flags=lanczos,"
                f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2:black")
    if fit is Fit.STRETCH:
        return f"scale={width}:{height}:flags=lanczos,setsar=1"
    x, y = (f"clip({at}*i{side}-o{side}/2,0,i{side}-o{side})" for at, side in zip(focus, "wh", strict=True))
    return (f"{square},crop='min(iw,ih*{width}/{height})':'min(ih,iw*{height}/{width})':'{x}':'{y}':exact=1,"
            f"scale={width}:{height}:flags=lanczos,setsar=1")


def _run(path: Path, start: float, output: Sequence[str], patience: float, keep: int,
         *seeking: str) -> tuple[bytes, str]:
    """The last `keep` bytes of raw pictures that ffmpeg makes of a clip, and what it complained of."""
    seek = [*seeking, "-ss", f"{start:.6f}"] if start else []
    command = [ffmpeg.executable(), *ffmpeg.QUIET, "-threads", "2", *seek, *_source(path), "-map", "0:V:0", *output,
               "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    with tempfile.TemporaryFile() as complaint:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaint)
        late = threading.Timer(patience, process.kill)
        late.start()
        try:
            assert process.stdout is not None
            pixels = _tail(process.stdout, keep)
            if process.wait() < 0:
                raise Unusable("takes too long to decode; make it smaller or shorter")
        finally:
            late.cancel()
            process.kill()
            process.wait()
        complaint.seek(0)
        return pixels, complaint.read(1 << 16).decode(errors="replace")


def _tail(stream: IO[bytes], keep: int) -> bytes:
    """What a stream ends with; no more than twice that is held."""
    held = bytearray()
    while chunk := stream.read(1 << 20):
        held += chunk
        if len(held) > 2 * keep + (1 << 20):
            del held[:len(held) - keep]
    return bytes(held[-keep:])
