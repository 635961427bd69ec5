"""Frames of the window in eight bits, for many layers in one launch; the plain path is `EightBitWindow.write`."""

import triton
import triton.language as tl
from torch import Tensor

from echo_cli.kernels.rows import block_of, coded


@triton.jit
def _quantise(keys, values, layers, places, mean, key_steps, value_steps, out_keys, out_values, frame_tokens,
              layer_stride, batch_stride, out_row, out_batch, batches, WIDTH: tl.constexpr, HALF: tl.constexpr,
              BLOCK: tl.constexpr):
    number, part, group = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row, batch = group // batches, group % batches
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    token = tl.load(places + number // frame_tokens).to(tl.int64) * frame_tokens + number % frame_tokens
    source = tl.load(layers + row).to(tl.int64) * layer_stride + batch * batch_stride + token * WIDTH
    into = row * out_row + batch * out_batch + token * WIDTH
    if part == 0:
        key = tl.load(keys + source + at, mask=inside, other=0.0).to(tl.float32)
        key -= tl.load(mean + group * WIDTH + at, mask=inside, other=0.0)
        tl.store(out_keys + into + at, coded(key, key_steps, group, at, inside, WIDTH, HALF).to(
            out_keys.dtype.element_ty), mask=inside)
    else:
        value = tl.load(values + source + at, mask=inside, other=0.0).to(tl.float32)
        tl.store(out_values + into + at, coded(value, value_steps, group, at, inside, WIDTH, HALF).to(
            out_values.dtype.element_ty), mask=inside)


def quantise(window: tuple[Tensor, Tensor], layers: Tensor, places: Tensor, frame_tokens: int, mean: Tensor,
             scales: tuple[Tensor, Tensor], out: tuple[Tensor, Tensor]) -> None:
    """Frames in `places` of a window [layer, batch, token, head, dim] into codes [row, batch, token, head, dim], where
    row r is of layer layers[r]: keys less their `mean` [row, batch, head, dim], then each head by its scale [row,
    batch, head]. All but the window's first axis is contiguous."""
    keys, values = window
    rows, batch, _, heads, dim = out[0].shape
    block, warps = block_of(heads * dim)
    _quantise[(len(places) * frame_tokens, 2, rows * batch)](
        keys, values, layers, places, mean, *scales, *out, frame_tokens, keys.stride(0), keys.stride(1),
        out[0].stride(0), out[0].stride(1), batch, WIDTH=heads * dim, HALF=dim // 2, BLOCK=block, num_warps=warps)
