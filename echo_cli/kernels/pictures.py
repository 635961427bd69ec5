"""A picture decoder's norm and activation in one kernel, written to where the next convolution reads."""

import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _norm_silu(x, gain, out, rows, CHANNELS: tl.constexpr, SCALE: tl.constexpr, BLOCK: tl.constexpr,
               ROWS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, BLOCK)
    inside = (row < rows)[:, None] & (channel < CHANNELS)[None, :]
    at = row[:, None] * CHANNELS + channel[None, :]
    values = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
    length = tl.sqrt(tl.sum(values * values, 1))
    values = (values / tl.maximum(length, 1e-12)[:, None]).to(out.dtype.element_ty).to(tl.float32)
    values *= SCALE * tl.load(gain + channel, mask=channel < CHANNELS, other=0.0).to(tl.float32)[None, :]
    tl.store(out + at, (values * tl.sigmoid(values)).to(out.dtype.element_ty), mask=inside)


def norm_silu(x: Tensor, gain: Tensor, out: Tensor) -> None:
    """Rows x [..., channel] normalised to length one, times the root of the channels and a gain, through SiLU, into
    `out`; both are contiguous."""
    channels = x.shape[-1]
    block, count = triton.next_power_of_2(channels), x.numel() // channels
    rows = max(1, 4096 // block)
    _norm_silu[(triton.cdiv(count, rows),)](x, gain, out, count, CHANNELS=channels, SCALE=channels**0.5, BLOCK=block,
                                            ROWS=rows, num_warps=8)
