"""What a picture decoder does between its convolutions, a kernel each: biases are added and sums taken where values are
read anyway, and results are written to where the next convolution reads."""

import triton
import triton.language as tl
from torch import Tensor

_NUMBERS = 4096  # that a program of `add` has
_PIXELS = 16  # that a program of `enlarge` has


@triton.jit
def _norm_silu(x, bias, gain, out, rows, CHANNELS: tl.constexpr, SCALE: tl.constexpr, BIAS: tl.constexpr,
               BLOCK: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (channel < CHANNELS)[None, :]
    at = row[:, None] * CHANNELS + channel[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    if BIAS:
        values += tl.load(bias + channel, mask=channel < CHANNELS, other=0.0).to(tl.float32)[None, :]
        values = values.to(x.dtype.element_ty).to(tl.float32)
    length = tl.sqrt(tl.sum(values * values, 1))
    values = (values / tl.maximum(length, 1e-12)[:, None]).to(out.dtype.element_ty).to(tl.float32)
    values *= SCALE * tl.load(gain + channel, mask=channel < CHANNELS, other=0.0).to(tl.float32)[None, :]
    tl.store(out + at, (values * tl.sigmoid(values)).to(out.dtype.element_ty), mask=inside)


def norm_silu(x: Tensor, bias: Tensor | None, gain: Tensor, out: Tensor) -> None:
    """Rows x [..., channel], to which a bias may be added, normalised to length one, times the root of the channels and
    a gain, through SiLU, into `out`; both are contiguous."""
    channels = x.shape[-1]
    block, count = triton.next_power_of_2(channels), x.numel() // channels
    rows = max(1, 4096 // block)
    _norm_silu[(triton.cdiv(count, rows),)](x, gain if bias is None else bias, gain, out, count, CHANNELS=channels,
                                            SCALE=channels**0.5, BIAS=bias is not None, BLOCK=block, ROWS=rows,
                                            num_warps=8)


@triton.jit
def _add(x, bias, other, numbers, CHANNELS: tl.constexpr, OTHER: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < numbers
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32) + tl.load(bias + at % CHANNELS).to(tl.float32)
    values = values.to(x.dtype.element_ty)
    if OTHER:
        values = (values.to(tl.float32) + tl.load(other + at, mask=inside, other=0.0).to(tl.float32))
    tl.store(x + at, values.to(x.dtype.element_ty), mask=inside)


def add(x: Tensor, bias: Tensor, other: Tensor | None = None) -> Tensor:
    """x [..., channel] plus a bias and perhaps `other`, in place; both are contiguous."""
    _add[(triton.cdiv(x.numel(), _NUMBERS),)](x, bias, x if other is None else other, x.numel(), CHANNELS=x.shape[-1],
                                              OTHER=other is not None, BLOCK=_NUMBERS, num_warps=8)
    return x


@triton.jit
def _enlarge(x, bias, out, pixels, rows, columns, CHANNELS: tl.constexpr, TIMES: tl.constexpr, BIAS: tl.constexpr,
          BLOCK: tl.constexpr, PIXELS: tl.constexpr):
    pixel = tl.program_id(0).to(tl.int64) * PIXELS + tl.arange(0, PIXELS)
    time, channel = tl.program_id(1), tl.arange(0, BLOCK)
    inside = (pixel < pixels)[:, None] & (channel < CHANNELS)[None, :]
    part = time * CHANNELS + channel
    values = tl.load(x + pixel[:, None] * (TIMES * CHANNELS) + part[None, :], mask=inside, other=0.0)
    if BIAS:
        values = (values.to(tl.float32) + tl.load(bias + part, mask=channel < CHANNELS, other=0.0).to(tl.float32)[None])
        values = values.to(out.dtype.element_ty)
    frame, row, column = pixel // (rows * columns), pixel // columns % rows, pixel % columns
    corner = ((frame * TIMES + time) * rows * 2 + row * 2) * columns * 2 + column * 2
    to = out + corner[:, None] * CHANNELS + channel[None, :]
    for copy in range(4):
        tl.store(to + (copy // 2 * columns * 2 + copy % 2) * CHANNELS, values, mask=inside)


def enlarge(x: Tensor, bias: Tensor | None, times: int, out: Tensor) -> None:
    """Pixels x [frame, y, x, times * channel], to which a bias may be added, into out [frame * times, 2 * y, 2 * x,
    channel]: each is four, in `times` frames; both are contiguous."""
    frames, rows, columns, wide = x.shape
    channels = wide // times
    _enlarge[(triton.cdiv(frames * rows * columns, _PIXELS), times)](
        x, x if bias is None else bias, out, frames * rows * columns, rows, columns, CHANNELS=channels, TIMES=times,
        BIAS=bias is not None, BLOCK=triton.next_power_of_2(channels), PIXELS=_PIXELS, num_warps=4)
