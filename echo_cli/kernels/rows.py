"""Kernels over rows of a transformer's width: norms, gates, rotation, and eight-bit rows, each with a scale.

A program holds one row in registers, so that a chain of steps reads and writes memory once. Sums and products are
float32 and are rounded where the plain layers round what memory keeps: normalised queries and keys are rounded before
they are rotated, so a frame rotated again from the store has the same bits. Rotation uses no fused multiply-add, for
the same reason.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

LARGEST = tl.constexpr(448.0)  # of float8_e4m3fn
_WARPS = {1024: 2, 2048: 4, 4096: 8, 8192: 8, 16384: 16}


def block_of(width: int) -> tuple[int, int]:
    """How many values a program holds for a row of `width`, and how many warps it has."""
    block = triton.next_power_of_2(width)
    return block, _WARPS.get(block, 1 if block < 1024 else 16)


@triton.jit
def in_steps(values, step):
    """Values in units of a step, within what eight bits hold."""
    return tl.minimum(tl.maximum(values / step, -LARGEST), LARGEST)


@triton.jit
def _write(values, row, out, scale, inside, at, WIDTH: tl.constexpr, EIGHT: tl.constexpr):
    if EIGHT:
        largest = tl.max(tl.where(inside, tl.abs(values), 0.0), 0)
        step = tl.maximum(largest, 1e-12) / LARGEST
        tl.store(scale + row, step)
        values = in_steps(values, step)
    tl.store(out + row * WIDTH + at, values.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _add_norm(x, y, gate, gain, offset, shift, stretch, out, scale, eps, gate_row, mod_row, frame_tokens,
              WIDTH: tl.constexpr, ADD: tl.constexpr, GATE: tl.constexpr, GAIN: tl.constexpr, MODULATE: tl.constexpr,
              NORM: tl.constexpr, EIGHT: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    frame = row // frame_tokens
    values = tl.load(x + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        more = tl.load(y + row * WIDTH + at, mask=inside, other=0.0).to(tl.float32)
        if GATE:
            more *= tl.load(gate + frame * gate_row + at, mask=inside, other=0.0).to(tl.float32)
        values = (values + more).to(x.dtype.element_ty)
        tl.store(x + row * WIDTH + at, values, mask=inside)
        values = values.to(tl.float32)
    if NORM:
        mean = tl.sum(values, 0) / WIDTH
        centred = tl.where(inside, values - mean, 0.0)
        values = centred * tl.rsqrt(tl.sum(centred * centred, 0) / WIDTH + eps)
        if GAIN:
            values = values * tl.load(gain + at, mask=inside, other=0.0).to(tl.float32) \
                + tl.load(offset + at, mask=inside, other=0.0).to(tl.float32)
        if MODULATE:
            values = values * (1.0 + tl.load(stretch + frame * mod_row + at, mask=inside, other=0.0).to(tl.float32)) \
                + tl.load(shift + frame * mod_row + at, mask=inside, other=0.0).to(tl.float32)
        _write(values, row, out, scale, inside, at, WIDTH, EIGHT)


Rows = tuple[Tensor, Tensor | None]  # [row, width], and a scale [row, 1] if they are eight-bit


def _rows_like(x: Tensor, eight: bool) -> tuple[Tensor, Tensor]:
    out = torch.empty_like(x, dtype=torch.float8_e4m3fn if eight else x.dtype)
    return out, torch.empty(len(x), 1, dtype=torch.float32, device=x.device) if eight else out


def add_norm(x: Tensor, eps: float, frame_tokens: int, *, add: Tensor | None = None, gate: Tensor | None = None,
             affine: tuple[Tensor, Tensor] | None = None, modulation: tuple[Tensor, Tensor] | None = None,
             norm: bool = True, eight: bool = False) -> Rows:
    """x [row, width] += add · gate, in place; then its layer norm, with a gain and offset [width] or with the shift and
    stretch [frame, width] of each row's frame. Gate, shift and stretch are views, each with its own stride per
    frame."""
    width = x.shape[1]
    block, warps = block_of(width)
    out, scale = _rows_like(x, eight) if norm else (x, x)
    shift, stretch = modulation or (x, x)
    gain, offset = affine or (x, x)
    _add_norm[(len(x),)](x, x if add is None else add, x if gate is None else gate, gain, offset, shift, stretch, out,
                         scale, eps, 0 if gate is None else gate.stride(0), shift.stride(0), frame_tokens,
                         WIDTH=width, ADD=add is not None, GATE=gate is not None, GAIN=affine is not None,
                         MODULATE=modulation is not None, NORM=norm, EIGHT=eight, BLOCK=block, num_warps=warps)
    return out, scale if eight else None


@triton.jit
def _rms(x, gain, out, eps, x_row, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    values = tl.load(x + row * x_row + at, mask=inside, other=0.0).to(tl.float32)
    values *= tl.rsqrt(tl.sum(values * values, 0) / WIDTH + eps)
    values = values.to(out.dtype.element_ty).to(tl.float32) * tl.load(gain + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + row * WIDTH + at, values.to(out.dtype.element_ty), mask=inside)


def rms(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """RMS norm of rows [row, width]."""
    block, warps = block_of(x.shape[1])
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _rms[(len(x),)](x, gain, out, eps, x.stride(0), WIDTH=x.shape[1], BLOCK=block, num_warps=warps)
    return out


@triton.jit
def _activated(x, at, WIDTH: tl.constexpr, GELU: tl.constexpr):
    values = tl.load(x + at, mask=at < WIDTH, other=0.0).to(tl.float32)
    if GELU:  # the approximation by tanh, which is 2 sigmoid(2x) - 1
        values *= tl.sigmoid(1.5957691216057308 * (values + 0.044715 * values * values * values))
    return values


@triton.jit
def _eight(x, out, scale, WIDTH: tl.constexpr, GELU: tl.constexpr, MAIN: tl.constexpr, REST: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x += row * WIDTH
    out += row * WIDTH
    at = tl.arange(0, MAIN)
    values = _activated(x, at, WIDTH, GELU)
    largest = tl.max(tl.abs(values), 0)
    if REST > 0:  # the width is no power of two
        behind = MAIN + tl.arange(0, REST)
        others = _activated(x, behind, WIDTH, GELU)
        largest = tl.maximum(largest, tl.max(tl.abs(others), 0))
    step = tl.maximum(largest, 1e-12) / LARGEST
    tl.store(scale + row, step)
    tl.store(out + at, in_steps(values, step).to(out.dtype.element_ty), mask=at < WIDTH)
    if REST > 0:
        tl.store(out + behind, in_steps(others, step).to(out.dtype.element_ty), mask=behind < WIDTH)


def lanes_of(width: int) -> tuple[int, int]:
    """Two powers of two that hold a row of `width` with few lanes idle: the greatest within it, and what is left or 0.
    Rows of a wide layer are bound by arithmetic, which idle lanes do too."""
    main = 1 << (width.bit_length() - 1)
    return main, triton.next_power_of_2(width - main) if width > main else 0


def eight_bits(x: Tensor, gelu: bool = False) -> Rows:
    """Rows [row, width] in eight bits, optionally after GELU."""
    width = x.shape[1]
    main, rest = lanes_of(width)
    out, scale = _rows_like(x, True)
    _eight[(len(x),)](x, out, scale, WIDTH=width, GELU=gelu, MAIN=main, REST=rest, num_warps=block_of(main)[1])
    return out, scale


@triton.jit
def turned_row(values, token, rotation, pairs, HALF: tl.constexpr, BLOCK: tl.constexpr):
    """A row rotated pair by pair: rotation [token, HALF, 2] holds cosine and sine, the same for every head."""
    even, odd = tl.split(tl.reshape(values, [BLOCK // 2, 2]))
    at = rotation + (token * HALF + pairs % HALF) * 2
    cosine, sine = tl.load(at), tl.load(at + 1)
    return tl.reshape(tl.join(even * cosine - odd * sine, even * sine + odd * cosine), [BLOCK])


@triton.jit
def _normalised(x, gain, at, inside, eps, WIDTH: tl.constexpr, NORM: tl.constexpr):
    row = tl.load(x + at, mask=inside, other=0.0)
    if NORM:
        wide = row.to(tl.float32)
        wide *= tl.rsqrt(tl.sum(wide * wide, 0) / WIDTH + eps)
        wide = wide.to(row.dtype).to(tl.float32) * tl.load(gain + at, mask=inside, other=0.0).to(tl.float32)
        row = wide.to(row.dtype)
    return row


@triton.jit
def coded(values, steps, batch, at, inside, WIDTH: tl.constexpr, HALF: tl.constexpr):
    """A row [head * dim] in units of its heads' steps [batch, head], within what eight bits hold."""
    step = tl.load(steps + batch * (WIDTH // (2 * HALF)) + at // (2 * HALF), mask=inside, other=1.0)
    return in_steps(values.to(tl.float32), step)


@triton.jit
def _code(values, steps, out, batch, at, inside, WIDTH: tl.constexpr, HALF: tl.constexpr):
    tl.store(out + at, coded(values, steps, batch, at, inside, WIDTH, HALF).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _place(q, k, v, gain_q, gain_k, turn_q, turn_k, places, query, keys, values, raw_query, raw_key, pool_keys,
           pool_values, slots, query_codes, key_codes, value_codes, mean, query_steps, key_steps, value_steps, eps,
           in_row, in_batch, window_batch, pool_batch, tokens, frame_tokens, WIDTH: tl.constexpr, HALF: tl.constexpr,
           KEEP_QUERY: tl.constexpr, KEEP_KEY: tl.constexpr, POOL: tl.constexpr, NORM: tl.constexpr,
           EIGHT: tl.constexpr, BLOCK: tl.constexpr):
    token, part, batch = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2).to(tl.int64)
    at, pairs = tl.arange(0, BLOCK), tl.arange(0, BLOCK // 2)
    source, here = batch * in_batch + token * in_row, (batch * tokens + token) * WIDTH
    place = tl.load(places + token // frame_tokens).to(tl.int64)
    there = batch * window_batch + (place * frame_tokens + token % frame_tokens) * WIDTH
    inside, home = at < WIDTH, there
    if POOL:
        slot = tl.load(slots + token // frame_tokens).to(tl.int64)
        home = batch * pool_batch + (slot * frame_tokens + token % frame_tokens) * WIDTH
    if part == 2:
        value = tl.load(v + source + at, mask=inside)
        tl.store(values + there + at, value, mask=inside)
        if POOL:
            tl.store(pool_values + home + at, value, mask=inside)
        if EIGHT:
            _code(value, value_steps, value_codes + there, batch, at, inside, WIDTH, HALF)
    elif part == 1:
        row = _normalised(k + source, gain_k, at, inside, eps, WIDTH, NORM)
        if KEEP_KEY:
            tl.store(raw_key + here + at, row, mask=inside)
        if POOL:
            tl.store(pool_keys + home + at, row, mask=inside)
        turned = turned_row(row.to(tl.float32), token, turn_k, pairs, HALF, BLOCK).to(keys.dtype.element_ty)
        tl.store(keys + there + at, turned, mask=inside)
        if EIGHT:
            less = turned.to(tl.float32) - tl.load(mean + batch * WIDTH + at, mask=inside, other=0.0)
            _code(less, key_steps, key_codes + there, batch, at, inside, WIDTH, HALF)
    else:
        row = _normalised(q + source, gain_q, at, inside, eps, WIDTH, NORM)
        if KEEP_QUERY:
            tl.store(raw_query + here + at, row, mask=inside)
        turned = turned_row(row.to(tl.float32), token, turn_q, pairs, HALF, BLOCK).to(keys.dtype.element_ty)
        tl.store(query + here + at, turned, mask=inside)
        if EIGHT:
            _code(turned, query_steps, query_codes + here, batch, at, inside, WIDTH, HALF)


# A layer's codes of keys and values [batch, token, head, dim], the mean of its keys [batch, head, dim], and the scales
# of queries, keys and values [batch, head].
Eight = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def place(query: Tensor, key: Tensor, value: Tensor, turn_query: Tensor, turn_key: Tensor, places: Tensor,
          keys: Tensor, values: Tensor, frame_tokens: int, gains: tuple[Tensor, Tensor] | None = None,
          eps: float = 0.0, keep_query: bool = False, keep_key: bool = False,
          pool: tuple[Tensor, Tensor, Tensor] | None = None,
          eight: Eight | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalise (where there are `gains`) and rotate queries and keys, and put keys and values into their frames'
    `places` in a layer's window; → rotated queries, raw queries and keys if they are to be kept, and the codes of
    queries. With a `pool`, raw keys and values are also put into its slots: keys and values [batch, slot, token, head,
    dim], a slot for each frame. With `eight`, codes of all three are written too: those of keys and values beside the
    window, keys less the mean.

    query, key, value [batch, token, head, dim] may be parts of wider rows with the same strides; rotations [token,
    dim/2] are complex; the window's keys and values [batch, token, head, dim] are contiguous."""
    batch, tokens, heads, dim = query.shape
    width = heads * dim
    block, warps = block_of(width)
    turned = torch.empty(query.shape, dtype=query.dtype, device=query.device)
    raw_query, raw_key = (torch.empty_like(turned) if keep else turned for keep in (keep_query, keep_key))
    codes = torch.empty_like(turned, dtype=eight[0].dtype) if eight else turned
    pool_keys, pool_values, slots = pool or (keys, values, places)
    gain_query, gain_key = gains or (turned, turned)
    _place[(tokens, 3, batch)](query, key, value, gain_query, gain_key, torch.view_as_real(turn_query),
                               torch.view_as_real(turn_key), places, turned, keys, values, raw_query, raw_key,
                               pool_keys, pool_values, slots, codes, *(eight or (turned,) * 6), eps, query.stride(1),
                               query.stride(0), keys.stride(0), pool_keys.stride(0), tokens, frame_tokens,
                               WIDTH=width, HALF=dim // 2, KEEP_QUERY=keep_query, KEEP_KEY=keep_key,
                               POOL=pool is not None, NORM=gains is not None, EIGHT=eight is not None, BLOCK=block,
                               num_warps=warps, enable_fp_fusion=False)
    return turned, raw_query, raw_key, codes


@triton.jit
def _turn(x, beside, rotation, out, beside_out, x_group, out_group, x_row, WIDTH: tl.constexpr, HALF: tl.constexpr,
          BLOCK: tl.constexpr):
    token, group, part = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64), tl.program_id(2)
    at, pairs = tl.arange(0, BLOCK), tl.arange(0, BLOCK // 2)
    inside = at < WIDTH
    source, to = group * x_group + token * x_row + at, group * out_group + token * WIDTH + at
    if part == 0:
        row = tl.load(x + source, mask=inside, other=0.0).to(tl.float32)
        turned = turned_row(row, token, rotation, pairs, HALF, BLOCK)
        tl.store(out + to, turned.to(out.dtype.element_ty), mask=inside)
    else:
        tl.store(beside_out + to, tl.load(beside + source, mask=inside, other=0.0), mask=inside)


def turn(x: Tensor, rotation: Tensor) -> Tensor:
    """x [..., token, head, dim] rotated by complex rotation [token, dim/2], all leading axes in one launch."""
    made = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _launch_turn(x, made, rotation)
    return made


def lay(key: Tensor, value: Tensor, rotation: Tensor, keys: Tensor, values: Tensor) -> None:
    """`key`, rotated, into `keys` and `value` into `values`, all [..., token, head, dim], in one launch; each pair lies
    alike."""
    assert key.stride() == value.stride() and keys.stride() == values.stride(), "both have the same strides"
    _launch_turn(key, keys, rotation, (value, values))


def _launch_turn(x: Tensor, out: Tensor, rotation: Tensor, beside: tuple[Tensor, Tensor] | None = None) -> None:
    """x, rotated, into `out`; the first of `beside` as it is into the second."""
    tokens, heads, dim = x.shape[-3:]
    block, warps = block_of(heads * dim)
    rows, into = _grouped(x), _grouped(out)
    others, others_into = map(_grouped, beside or (x, out))
    _turn[(tokens, len(rows), 2 if beside else 1)](
        rows, others, torch.view_as_real(rotation), into, others_into, rows.stride(0), into.stride(0), rows.stride(1),
        WIDTH=heads * dim, HALF=dim // 2, BLOCK=block, num_warps=warps, enable_fp_fusion=False)


def _grouped(x: Tensor) -> Tensor:
    """[..., token, head, dim] as [group, token, head * dim], without a copy where leading axes allow it."""
    return x.flatten(-2).view(-1, x.shape[-3], x.shape[-2] * x.shape[-1]) if x.dim() > 3 else x.flatten(-2)[None]


@triton.jit
def _sums(x, out, rows, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, LENGTHS: tl.constexpr):
    part, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    at, pairs = tl.arange(0, BLOCK), tl.arange(0, BLOCK // 2)
    inside = at < WIDTH
    summed, long = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK // 2], tl.float32)
    for index in range(ROWS):
        row = part * ROWS + index
        values = tl.load(x + (batch * rows + row) * WIDTH + at, mask=inside & (row < rows), other=0.0).to(tl.float32)
        summed += values
        if LENGTHS:
            even, odd = tl.split(tl.reshape(values, [BLOCK // 2, 2]))
            long += tl.sqrt(even * even + odd * odd)
    width = WIDTH + WIDTH // 2 if LENGTHS else WIDTH
    into = out + (batch * tl.num_programs(0) + part) * width
    tl.store(into + at, summed, mask=inside)
    if LENGTHS:
        tl.store(into + WIDTH + pairs, long, mask=pairs < WIDTH // 2)


def sums(x: Tensor, lengths: bool = False, out: Tensor | None = None) -> Tensor:
    """Over the tokens of x [batch, token, head, dim]: the sum [batch, head * dim] and, with `lengths`, then the sum
    of the lengths of its pairs [batch, head * dim/2]; float32, always in the same order; into `out`, if given."""
    batch, tokens, heads, dim = x.shape
    width, rows = heads * dim, 16
    block, warps = block_of(width)
    parts = torch.empty(batch, triton.cdiv(tokens, rows), width + lengths * (width // 2), dtype=torch.float32,
                        device=x.device)
    _sums[(parts.shape[1], batch)](x.contiguous(), parts, tokens, WIDTH=width, BLOCK=block, ROWS=rows, LENGTHS=lengths,
                                   num_warps=warps)
    return torch.sum(parts, 1, out=out)
