"""The numbers a model is made of, and nothing that computes.

A `ModelSpec` says everything about a transformer that its weights do not; a `Grid` says how many tokens a latent frame
of a given picture size has. Both refuse impossible values.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

from echo_cli.errors import UsageError
from echo_cli.storyboard.nouns import Geometry


@dataclass(frozen=True)
class Grid:
    """One latent frame: `height` x `width` latents, `rows` x `cols` tokens."""

    height: int
    width: int
    rows: int
    cols: int

    @property
    def tokens(self) -> int:
        return self.rows * self.cols


@dataclass(frozen=True)
class ModelSpec:
    """A model's sizes. `positions` counts the temporal RoPE positions that its weights can handle."""

    name: str
    depth: int
    width: int
    heads: int
    ffn: int
    channels: int = 16
    patch: tuple[int, int, int] = (1, 2, 2)
    text_dim: int = 4096
    text_len: int = 512
    freq_dim: int = 256
    eps: float = 1e-6
    window: int = 21  # latent frames that attention sees, the block itself included
    block_frames: int = 3
    positions: int = 1024
    strides: tuple[int, int, int] = (4, 8, 8)  # pictures, rows and columns of pixels in one latent
    fps: float = 16.0
    size: tuple[int, int] = (832, 480)  # pixels, width x height
    detail: int = 1  # dots that the decoder draws for each side of a pixel
    shift: float = 5.0
    steps: tuple[int, ...] = (1000, 750, 500, 250)
    pooled_text: bool = False  # the prompt also reaches the modulation, not cross-attention alone
    # picture sizes that were inspected and look right: least and greatest width and height; None: any may be tried
    widths: tuple[int, int] | None = None
    heights: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        problems = []
        for field in ("depth", "width", "heads", "ffn", "channels", "text_dim", "text_len", "freq_dim", "window",
                      "block_frames", "positions"):
            if getattr(self, field) < 1:
                problems.append(f"{field} is {getattr(self, field)}, but must be at least 1")
        if not problems:
            if self.width % self.heads:
                problems.append(f"width {self.width} is not divisible by {self.heads} heads")
            elif (self.width // self.heads) % 2 or self.width // self.heads < 6:
                problems.append(f"a head has {self.width // self.heads} dimensions, but rotation in time, height and "
                                "width needs an even number, at least 6")
            if self.freq_dim % 2:
                problems.append(f"freq_dim {self.freq_dim} is odd")
            if self.patch[0] != 1:
                problems.append(f"a patch of {self.patch[0]} latent frames would straddle blocks; it must be 1")
            if self.window <= self.block_frames:
                problems.append(
                    f"a window of {self.window} frames leaves no room beside a block of {self.block_frames}"
                )
            if self.positions < self.window:
                problems.append(f"{self.positions} temporal positions cannot hold a window of {self.window}")
            if not self.steps or any(not 0 < step <= 1000 for step in self.steps):
                problems.append(f"steps {self.steps} must lie between 1 and 1000")
            elif list(self.steps) != sorted(set(self.steps), reverse=True):
                problems.append(f"steps {self.steps} must fall")
        if problems:
            raise UsageError(f"model '{self.name}' cannot be built: " + "; ".join(problems),
                             hint="Correct these numbers in the model's description.")

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @cached_property
    def pairs(self) -> tuple[int, int, int]:
        """How many rotated pairs of a head serve time, height and width."""
        half = self.head_dim // 2
        return half - 2 * (half // 3), half // 3, half // 3

    @property
    def geometry(self) -> Geometry:
        return Geometry(self.block_frames, self.strides[0], self.fps, past=self.window - self.block_frames)

    def grid(self, size: tuple[int, int] | None = None) -> Grid:
        """The grid for pictures of `size` (width, height) pixels; an error names the nearest size that fits."""
        width, height = size or self.size
        step_x, step_y = self.strides[2] * self.patch[2], self.strides[1] * self.patch[1]
        if width < step_x or height < step_y or width % step_x or height % step_y:
            raise UsageError(f"model '{self.name}' cannot make pictures of {width}x{height}: width must be a multiple "
                             f"of {step_x} and height of {step_y}", hint=self.other_size((width, height)))
        return self.grid_of_latents(height // self.strides[1], width // self.strides[2])

    def was_seen(self, size: tuple[int, int]) -> bool:
        """Whether pictures of this size have been inspected, or any size may be tried."""
        return all(sides is None or sides[0] <= side <= sides[1]
                   for side, sides in zip(size, (self.widths, self.heights), strict=True))

    def other_size(self, size: tuple[int, int]) -> str:
        """A hint: the nearest size of the same shape as `size`, or else the nearest size of any shape."""
        steps = self.strides[2] * self.patch[2], self.strides[1] * self.patch[1]
        common = math.gcd(*size)
        shape = size[0] // common, size[1] // common
        unit = math.lcm(*(step // math.gcd(step, side) for step, side in zip(steps, shape, strict=True)))
        most = max(self.widths[1], self.heights[1]) if self.widths and self.heights else 2 * max(size)
        same = ((shape[0] * count, shape[1] * count) for count in range(unit, most // max(shape) + 1, unit))
        if seen := [other for other in same if self.was_seen(other)]:
            width, height = min(seen, key=lambda other: abs(math.log(other[0] / size[0])))
            return f"The nearest size of this shape is {width}x{height}."
        width, height = self._nearest(size, steps)
        return f"No size of this shape ({shape[0]}:{shape[1]}) is possible; the nearest is {width}x{height}."

    def sized(self, aspect: tuple[int, int]) -> tuple[int, int]:
        """The size of a shape (width, height): the model's own, also turned, if that is nearly it; otherwise about as
        many pixels, within the sizes that look right."""
        wanted = math.log(aspect[0] / aspect[1])
        for size in (self.size, self.size[::-1]):
            if abs(math.log(size[0] / size[1]) - wanted) < _NEARLY and self.was_seen(size):
                return size
        steps, most = (self.strides[2] * self.patch[2], self.strides[1] * self.patch[1]), 2 * max(self.size)
        across, down = (range(bounds[0], bounds[1] + 1, step) if bounds else range(step, most + 1, step)
                        for step, bounds in zip(steps, (self.widths, self.heights), strict=True))
        area = math.log(self.size[0] * self.size[1])
        return min(((width, height) for width in across for height in down), key=lambda size: (
            3 * abs(math.log(size[0] / size[1]) - wanted) + abs(math.log(size[0] * size[1]) - area)))

    def _nearest(self, size: tuple[int, int], steps: tuple[int, int]) -> tuple[int, int]:
        """A nearby size, closer in shape than in area."""

        def distance(other: tuple[int, int]) -> float:
            wider, higher = (math.log(side / asked) for side, asked in zip(other, size, strict=True))
            return 3 * abs(wider - higher) + abs(wider + higher)

        across, down = (
            range(bounds[0], bounds[1] + 1, step) if bounds else
            [max(1, asked // step) * step, -(-asked // step) * step]
            for asked, step, bounds in zip(size, steps, (self.widths, self.heights), strict=True))
        return min(((width, height) for width in across for height in down), key=distance)

    def grid_of_latents(self, height: int, width: int) -> Grid:
        return Grid(height, width, height // self.patch[1], width // self.patch[2])


_NEARLY = 0.03  # how much wider, in proportion, a size may be than the shape that was asked for

WAN_1_3B = ModelSpec(name="wan2.1-t2v-1.3b", depth=30, width=1536, heads=12, ffn=8960)
# The same sizes, trained frame by frame.
WAN_1_3B_FRAMEWISE = replace(WAN_1_3B, name=f"{WAN_1_3B.name}-framewise", block_frames=1)

# The embedded model: small enough to ship with the package and to render films on any CPU.
TINY = ModelSpec(name="tiny", depth=6, width=256, heads=4, ffn=768, channels=24, text_dim=128, text_len=16,
                 positions=96, strides=(4, 16, 16), size=(192, 128), detail=2, pooled_text=True,
                 steps=(1000, 750, 500, 250, 120), widths=(64, 320), heights=(96, 160))

# For tests and benches: its weights are random, and its films cost next to nothing.
RANDOM_SMALL = ModelSpec(name="random-small", depth=2, width=24, heads=2, ffn=24, channels=4, text_dim=16, text_len=16,
                         positions=96, strides=(4, 16, 16), size=(96, 64), detail=2, pooled_text=True,
                         steps=(1000, 500))
RANDOM_FRAMEWISE = replace(RANDOM_SMALL, name=f"{RANDOM_SMALL.name}-framewise", block_frames=1)

DEFAULT_MODEL = TINY.name

INDEX = "index.json"  # names the model in a folder of weights
