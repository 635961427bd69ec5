"""What comes after the latents: decoding them, encoding the pictures, and a whole film as `generate` renders it.

The encoder gets synthetic pictures, so that its time does not depend on the noise of random weights; the whole
film needs the model's weights.
"""

import math
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import numpy as np
import torch

from echo_cli.bench.footprint import job_for, story
from echo_cli.errors import Interrupted
from echo_cli.models.backend import Backend, Codec
from echo_cli.models.files.loading import stream_into
from echo_cli.models.running import Pictures
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.wan.rehearsal import Random
from echo_cli.render.outputs import outputs_of
from echo_cli.render.prepare import SMALLEST_SIDE
from echo_cli.render.progress import Progress, Step
from echo_cli.render.session import Loaded, Session
from echo_cli.render.signals import Interruption
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import Runtime
from echo_cli.spec import TINY, ModelSpec
from echo_cli.video.encoding import Encoding
from echo_cli.video.writer import FilmWriter

_STREAM = 4  # blocks decoded in a row, the first of which only warms up


@dataclass(frozen=True)
class WholeFilm:
    """A film from storyboard to MP4. Processor seconds are of this process and of the encoder beside it."""

    policy: str
    seconds: float
    pictures: int
    wall_s: float
    first_picture_s: float  # from the beginning of the run, with the model loaded
    own_s: float
    encoder_s: float

    @property
    def pictures_a_second(self) -> float:
        return self.pictures / self.wall_s


@contextmanager
def charged(owner: object, method: str, part: str, watch: Callable[[], Stopwatch]) -> Iterator[None]:
    """Inside, every call of a method is charged to `part` of the stopwatch that `watch` returns at that moment."""
    call: Callable[..., object] = getattr(owner, method)

    def timed(*given: object, **named: object) -> object:
        with watch()(part):
            return call(*given, **named)

    setattr(owner, method, timed)
    try:
        yield
    finally:
        setattr(owner, method, call)


@contextmanager
def children() -> Iterator[Callable[[], float]]:
    """Processor seconds of child processes that have ended."""
    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    before = spent()
    yield lambda: spent() - before


def random_codec(spec: ModelSpec, runtime: Runtime) -> Codec:
    """The model's codec with random weights; it decodes noise, which takes as long."""
    if spec.name == TINY.name:
        torch.manual_seed(0)
        return TinyCodec(spec.channels).to(runtime.device, runtime.dtype).requires_grad_(False).eval()
    from echo_cli.models.wan.codec import WanCodec

    with torch.device("meta"):
        codec = WanCodec()
    stream_into(codec.vae, Random(codec.vae, runtime.dtype, 0), runtime.device, runtime.dtype)
    return codec.to(runtime.device).eval()


def random_fast_decoder(spec: ModelSpec, runtime: Runtime) -> Codec:
    """The decoder of `--decoder fast` with random weights."""
    from echo_cli.models.wan.fast_decoder import FastCodec, FastDecoder

    with torch.device("meta"):
        decoder = FastDecoder(spec.channels)
    stream_into(decoder, Random(decoder, runtime.dtype, 0), runtime.device, runtime.dtype)
    return FastCodec(decoder, lambda: random_codec(spec, runtime))


def decoders(spec: ModelSpec, runtime: Runtime) -> Iterator[tuple[str, Codec]]:
    """What the model's latents can be decoded by, with random weights, by the names of `--decoder`: its codec and, for
    Wan, TAEHV's decoder."""
    yield Pictures.FULL.value, random_codec(spec, runtime)
    if spec.name != TINY.name:
        yield Pictures.FAST.value, random_fast_decoder(spec, runtime)


def decode(codec: Codec, spec: ModelSpec, size: tuple[int, int] | None, runtime: Runtime) -> float:
    """Milliseconds to decode one block, the median of a few in a stream."""
    return statistics.median(decode_times(codec, spec, size, runtime, _STREAM)[1:])


@torch.inference_mode()
def decode_times(codec: Codec, spec: ModelSpec, size: tuple[int, int] | None, runtime: Runtime,
                 blocks: int) -> list[float]:
    """Milliseconds for each block of a stream; the first ones include set-up."""
    grid, times, state = spec.grid(size), [], None
    latents = torch.randn(
        1, spec.block_frames, spec.channels, grid.height, grid.width, device=runtime.device, dtype=runtime.dtype
    )
    for _ in range(blocks):
        began = time.perf_counter()
        pictures, state = codec.decode(latents, state)
        pictures[0, -1, 0, 0, 0].item()
        times.append(1000 * (time.perf_counter() - began))
    return times


def encode(spec: ModelSpec, size: tuple[int, int], blocks: int) -> float:
    """Processor milliseconds of the encoder for one block of pictures of `size`, enlarged as films of the model are."""
    scale, block_pictures = max(1, math.ceil(SMALLEST_SIDE / min(size))) / spec.detail, spec.geometry.block_pictures
    decoded = size[0] * spec.detail, size[1] * spec.detail
    film = _moving(decoded, block_pictures * 4)
    with tempfile.TemporaryDirectory(prefix="echo-encode-") as folder, children() as spent:
        target = outputs_of(f"{folder}/film.mp4", "").film
        with FilmWriter(target, *decoded, spec.fps, Encoding(), scale=scale) as writer:
            for block in range(blocks):
                writer.write(film[block % 4 * block_pictures:][:block_pictures])
            writer.finish()
        return 1000 * spent() / blocks


def _moving(size: tuple[int, int], pictures: int) -> np.ndarray:
    """A landscape that moves past under a little grain: [picture, y, x, 3]."""
    width, height = size
    x, y = np.arange(width + pictures), np.arange(height)[:, None] / height
    hills = 0.5 + 0.2 * np.sin(x / 17) + 0.1 * np.sin(x / 5.3 + 1)
    wide = np.stack(((y > hills) * 0.5 + 0.2, 0.6 - 0.3 * y + 0 * x, 0.3 + 0.4 * (y < hills)), -1).astype(np.float32)
    dice, film = np.random.default_rng(1), np.empty((pictures, height, width, 3), np.uint8)
    for at in range(pictures):
        grain = 0.01 * dice.standard_normal((height, width, 3), np.float32)
        film[at] = 255 * (wide[:, at:at + width] + grain).clip(0, 1)
    return film


class _Stopwatch(Progress):
    """Starts at the first block, when everything has been loaded and checked."""

    def __init__(self, encoder: Callable[[], float]) -> None:
        super().__init__()
        self._encoder, self._began = encoder, (0.0, 0.0, 0.0)
        self.first_picture: float | None = None

    def start(self, loaded: Loaded) -> None:
        self._began = time.perf_counter(), time.process_time(), self._encoder()

    def step(self, step: Step) -> None:
        if self.first_picture is None:
            self.first_picture = time.perf_counter() - self._began[0]

    def read(self) -> tuple[float, float, float]:
        """Seconds of wall time, of this process, and of encoders."""
        wall, own, encoder = self._began
        return time.perf_counter() - wall, time.process_time() - own, self._encoder() - encoder


class _Stopping(Progress):
    """Notes when the first picture is there, and asks for an end after some blocks."""

    def __init__(self, interruption: Interruption, blocks: int) -> None:
        super().__init__()
        self._interruption, self._left = interruption, blocks
        self.first_picture: float | None = None

    def step(self, step: Step) -> None:
        self.first_picture = self.first_picture or time.time()
        self._left -= 1
        if self._left <= 0:
            self._interruption.by = "the bench"


def stopped_film(backend: Backend, policy: str, runtime: Runtime, seconds: float, blocks: int, folder: str) -> float:
    """Render, or resume, a film in a folder and stop after some blocks, with a checkpoint; the time of day at which the
    first picture of this run was there."""
    with Interruption(lambda text: None) as interruption:
        watch = _Stopping(interruption, blocks)
        job = job_for(story(seconds), backend, f"{folder}/film.mp4", memory=policy)
        with suppress(Interrupted):
            Session(given=Loaded(backend, runtime)).make(job, watch, interruption)
    assert watch.first_picture, "no block was rendered"
    return watch.first_picture


def whole_film(backend: Backend, policy: str, runtime: Runtime, seconds: float) -> WholeFilm:
    """One film under a policy, into a temporary folder."""
    with (
        tempfile.TemporaryDirectory(prefix="echo-whole-") as folder,
        Interruption() as interruption,
        children() as spent,
    ):
        job, watch = job_for(story(seconds), backend, f"{folder}/film.mp4", memory=policy), _Stopwatch(spent)
        made = Session(given=Loaded(backend, runtime)).make(job, watch, interruption, watch.start)
        assert made, "the folder was empty"
        wall, own, encoder = watch.read()
        return WholeFilm(policy, seconds, made.pictures, wall, watch.first_picture or 0.0, own, encoder)
