"""What memory queries do with frames that leave: read them, compare, and take a share; a launch each, for many layers.

Frames are read where they lie, in slots of a pool [layer, batch, slot, token, head, dim]; queries are changed there.
Reading is attention from cells to cells that favours near ones. The kernel computes the distance from the cells'
numbers, so it reads no table of distances. A program has the queries of a patch of cells, and leaves out cells that are
too far away to matter: less than e^-16 of any sum.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

PATCH = 8  # rows and columns of cells whose queries a program has
NEAR_ROWS, NEAR_COLUMNS = 4, 8  # of cells that it reads at a time
NEAR_WARPS, NEAR_STAGES = 4, 3  # a warp has 16 of the 64 queries; more warps would compute the same rows twice


class Slots(NamedTuple):
    """Frames in some slots of a pool [layer, batch, slot, token, head, dim], whose last three axes are contiguous."""

    pool: Tensor
    slots: Tensor  # [frame], int32

    @classmethod
    def of(cls, frames: Tensor) -> "Slots":
        """Frames that lie one after another: [layer, batch, frame, token, head, dim]."""
        return cls(frames, torch.arange(frames.shape[2], dtype=torch.int32, device=frames.device))

    @property
    def strides(self) -> tuple[int, int, int]:
        """Of a layer, a film of the batch and a slot."""
        layer, batch, slot, *_ = self.pool.stride()
        return layer, batch, slot

@triton.jit
def _lengths(x, slots, out, layer_step, batch_step, slot_step, batch, frames, tokens, HEADS: tl.constexpr,
             DIM: tl.constexpr, HEADS_BLOCK: tl.constexpr, DIM_BLOCK: tl.constexpr):
    token, frame, group = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2).to(tl.int64)
    head, dim = tl.arange(0, HEADS_BLOCK), tl.arange(0, DIM_BLOCK)
    slot = tl.load(slots + frame).to(tl.int64)
    at = group // batch * layer_step + group % batch * batch_step + slot * slot_step + token * HEADS * DIM
    inside = (head < HEADS)[:, None] & (dim < DIM)[None, :]
    row = tl.load(x + at + head[:, None] * DIM + dim[None, :], mask=inside, other=0.0).to(tl.float32)
    tl.store(out + ((group * frames + frame) * tokens + token) * HEADS + head, tl.sqrt(tl.sum(row * row, 1)),
             mask=head < HEADS)


def lengths_of(frames: Slots) -> Tensor:
    """The length of each head's part of each token [layer * batch, frame * token, head], float32."""
    layers, batch, _, tokens, heads, dim = frames.pool.shape
    count = len(frames.slots)
    out = torch.empty(layers * batch, count * tokens, heads, dtype=torch.float32, device=frames.pool.device)
    _lengths[(tokens, count, layers * batch)](*frames, out, *frames.strides, batch, count, tokens, HEADS=heads, DIM=dim,
                                              HEADS_BLOCK=triton.next_power_of_2(heads),
                                              DIM_BLOCK=triton.next_power_of_2(dim), num_warps=2)
    return out


@triton.jit
def _near(held, held_slots, ask, k, v, slots, lengths, longest, near, key_out, value_out, held_layer, held_batch,
          held_slot, layer_step, batch_step, slot_step, batch, queries, frames, rows, columns, patches,
          HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, PATCH: tl.constexpr, ROWS: tl.constexpr,
          COLUMNS: tl.constexpr):
    patch, query_frame = tl.program_id(0), tl.program_id(1)
    group, head = (tl.program_id(2) // HEADS).to(tl.int64), tl.program_id(2) % HEADS
    layer, film, cells, at = group // batch, group % batch, rows * columns, tl.arange(0, BLOCK)
    number = tl.arange(0, PATCH * PATCH)
    top, left = patch // patches * PATCH, patch % patches * PATCH
    down, across = top + number // PATCH, left + number % PATCH
    real, wide = (down < rows) & (across < columns), at < DIM
    inside = real[:, None] & wide[None, :]
    own = layer * held_layer + film * held_batch + tl.load(held_slots + query_frame).to(tl.int64) * held_slot
    mine = (down * columns + across)[:, None] * HEADS * DIM + head * DIM + at[None, :]
    asked = tl.load(held + own + mine, mask=inside, other=0.0)
    turn = tl.load(ask + (layer * HEADS + head) * DIM * DIM + at[:, None] * DIM + at[None, :],
                   mask=wide[:, None] & wide[None, :], other=0.0)
    asked = tl.dot(asked, turn, input_precision="ieee").to(held.dtype.element_ty)
    exact = asked.to(tl.float32)
    strongest = tl.sqrt(tl.max(tl.sum(exact * exact, 1), 0)) * tl.load(longest + group * HEADS + head)
    alpha = tl.abs(tl.load(near + layer * HEADS + head))
    # The nearest cell's score is at least -strongest; farther than this, none comes within e^-16 of it.
    reach = tl.minimum(tl.sqrt((2 * strongest + 16.0) / tl.maximum(alpha, 1e-6)), 1e6).to(tl.int32) + 1
    first_row, stop_row = tl.maximum(top - reach, 0), tl.minimum(top + PATCH + reach, rows)
    first_column, stop_column = tl.maximum(left - reach, 0), tl.minimum(left + PATCH + reach, columns)
    steps_across = tl.cdiv(stop_column - first_column, COLUMNS)
    steps = tl.cdiv(stop_row - first_row, ROWS) * steps_across
    beside = tl.arange(0, ROWS * COLUMNS)
    most = tl.full([PATCH * PATCH], -1e30, tl.float32)
    total, length = tl.zeros([PATCH * PATCH], tl.float32), tl.zeros([PATCH * PATCH], tl.float32)
    key_sum, value_sum = tl.zeros([PATCH * PATCH, BLOCK], tl.float32), tl.zeros([PATCH * PATCH, BLOCK], tl.float32)
    for step in range(0, frames * steps):
        frame, tile = step // steps, step % steps
        row = first_row + tile // steps_across * ROWS + beside // COLUMNS
        column = first_column + tile % steps_across * COLUMNS + beside % COLUMNS
        there = (row < stop_row) & (column < stop_column)
        other = row * columns + column
        source = layer * layer_step + film * batch_step + tl.load(slots + frame).to(tl.int64) * slot_step + head * DIM
        place, some = other[:, None] * HEADS * DIM + at[None, :], there[:, None] & wide[None, :]
        key = tl.load(k + source + place, mask=some, other=0.0)
        score = tl.dot(asked, tl.trans(key), input_precision="ieee")
        rows_apart, columns_apart = down[:, None] - row[None, :], across[:, None] - column[None, :]
        score -= alpha * (rows_apart * rows_apart + columns_apart * columns_apart).to(tl.float32)
        score = tl.where(there[None, :], score, -1e30)
        now = tl.maximum(most, tl.max(score, 1))
        share = tl.exp(score - now[:, None])
        before = tl.exp(most - now)
        most = now
        total = total * before + tl.sum(share, 1)
        long = tl.load(lengths + ((group * frames + frame) * cells + other) * HEADS + head, mask=there, other=0.0)
        length = length * before + tl.sum(share * long[None, :], 1)
        value = tl.load(v + source + place, mask=some, other=0.0)
        part = share.to(key.dtype)
        key_sum = tl.dot(part, key, key_sum * before[:, None], input_precision="ieee")
        value_sum = tl.dot(part, value, value_sum * before[:, None], input_precision="ieee")
    key_sum /= total[:, None]
    value_sum /= total[:, None]
    # A mean of keys is shorter than the keys: scale it to their mean length.
    key_sum *= (length / total / tl.maximum(tl.sqrt(tl.sum(key_sum * key_sum, 1)), 1e-6))[:, None]
    into = ((group * queries + query_frame) * cells) * HEADS * DIM + mine
    tl.store(key_out + into, key_sum.to(key_out.dtype.element_ty), mask=inside)
    tl.store(value_out + into, value_sum.to(value_out.dtype.element_ty), mask=inside)


def near_read(held: Slots, ask: Tensor, keys: Slots, values: Slots, near: Tensor, columns: int
              ) -> tuple[Tensor, Tensor]:
    """What the queries held [layer, batch, frame, cell, head, dim], turned by ask [layer, head, dim, dim], read in
    frames of keys and values: the mean of keys, at their mean length, and of values [layer, batch, frame, cell, head,
    dim]. near [layer, head] is the penalty for each squared cell of distance. Keys and values lie in the same slots."""
    layers, batch, _, cells, heads, dim = held.pool.shape
    queries, frames, rows = len(held.slots), len(keys.slots), cells // columns
    assert keys.strides == values.strides, "keys and values are pools of one shape"
    lengths = lengths_of(keys)
    patches = triton.cdiv(columns, PATCH)
    made = [torch.empty(layers, batch, queries, cells, heads, dim, dtype=keys.pool.dtype, device=keys.pool.device)
            for _ in range(2)]
    _near[(triton.cdiv(rows, PATCH) * patches, queries, layers * batch * heads)](
        *held, ask, keys.pool, values.pool, keys.slots, lengths, lengths.amax(1), near.float().contiguous(), *made,
        *held.strides, *keys.strides, batch, queries, frames, rows, columns, patches, HEADS=heads, DIM=dim,
        BLOCK=max(16, triton.next_power_of_2(dim)), PATCH=PATCH, ROWS=NEAR_ROWS, COLUMNS=NEAR_COLUMNS,
        num_warps=NEAR_WARPS, num_stages=NEAR_STAGES)
    key, value = made
    return key, value


@triton.jit
def _compare(one, one_slots, two, two_slots, out, lengths, one_layer, one_batch, one_slot, two_layer, two_batch,
             two_slot, batch, tokens, FRAMES: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr,
             PAIRED: tl.constexpr):
    token, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    place = group * tokens + token
    one += group // batch * one_layer + group % batch * one_batch + token * WIDTH
    two += group // batch * two_layer + group % batch * two_batch + token * WIDTH
    for first in range(FRAMES):
        mine = tl.load(one + tl.load(one_slots + first).to(tl.int64) * one_slot + at, mask=inside, other=0.0)
        mine = mine.to(tl.float32)
        tl.store(lengths + place * 2 * FRAMES + first, tl.sqrt(tl.sum(mine * mine, 0)))
        for second in range(first if PAIRED else 0, first + 1 if PAIRED else FRAMES):
            other = tl.load(two + tl.load(two_slots + second).to(tl.int64) * two_slot + at, mask=inside, other=0.0)
            other = other.to(tl.float32)
            to = place * FRAMES + first if PAIRED else (place * FRAMES + first) * FRAMES + second
            tl.store(out + to, tl.sum(mine * other, 0))
            if first == second:
                tl.store(lengths + place * 2 * FRAMES + FRAMES + first, tl.sqrt(tl.sum(other * other, 0)))


def compare(one: Slots, two: Slots, paired: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Products of every frame of one with every frame of two, token by token → [layer, batch, token, frame of one,
    frame of two]; `paired`, with the same frame of two alone → [layer, batch, token, frame]. And the lengths of both
    [layer, batch, token, frame]; float32."""
    layers, batch, _, tokens, heads, dim = one.pool.shape
    frames, width = len(one.slots), heads * dim
    products = torch.empty(layers, batch, tokens, frames, *([] if paired else [frames]), dtype=torch.float32,
                           device=one.pool.device)
    lengths = torch.empty(layers, batch, tokens, 2, frames, dtype=torch.float32, device=one.pool.device)
    _compare[(tokens, layers * batch)](*one, *two, products, lengths, *one.strides, *two.strides, batch, tokens,
                                       FRAMES=frames, WIDTH=width, BLOCK=triton.next_power_of_2(width), PAIRED=paired,
                                       num_warps=4)
    mine, others = lengths.unbind(3)
    return products, mine, others


@triton.jit
def _blend(held_key, held_value, slots, read_key, read_value, gate, layer_step, batch_step, slot_step, batch, frames,
           tokens, HEADS: tl.constexpr, DIM: tl.constexpr, HEADS_BLOCK: tl.constexpr, DIM_BLOCK: tl.constexpr):
    token, frame, group = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2).to(tl.int64)
    head, dim = tl.arange(0, HEADS_BLOCK), tl.arange(0, DIM_BLOCK)
    inside = (head < HEADS)[:, None] & (dim < DIM)[None, :]
    row = (group * frames + frame) * tokens + token
    slot = tl.load(slots + frame).to(tl.int64)
    part = head[:, None] * DIM + dim[None, :]
    at = group // batch * layer_step + group % batch * batch_step + slot * slot_step + token * HEADS * DIM + part
    share = tl.load(gate + row)
    held = tl.load(held_key + at, mask=inside, other=0.0).to(tl.float32)
    read = tl.load(read_key + row * HEADS * DIM + part, mask=inside, other=0.0).to(tl.float32)
    key = held + share * (read - held)
    long = tl.sqrt(tl.sum(held * held, 1)) * (1 - share) + tl.sqrt(tl.sum(read * read, 1)) * share
    key *= (long / tl.maximum(tl.sqrt(tl.sum(key * key, 1)), 1e-6))[:, None]
    tl.store(held_key + at, key.to(held_key.dtype.element_ty), mask=inside)
    held = tl.load(held_value + at, mask=inside, other=0.0).to(tl.float32)
    read = tl.load(read_value + row * HEADS * DIM + part, mask=inside, other=0.0).to(tl.float32)
    tl.store(held_value + at, (held + share * (read - held)).to(held_value.dtype.element_ty), mask=inside)


def blend(keys: Slots, values: Slots, read: tuple[Tensor, Tensor], gate: Tensor) -> None:
    """Change the keys and values of frames in place: mixed with what was read [layer, batch, frame, token, head, dim]
    by gate [layer, batch, frame, token]; keys keep the mixed length of each head."""
    layers, batch, _, tokens, heads, dim = keys.pool.shape
    count = len(keys.slots)
    assert keys.strides == values.strides, "keys and values are pools of one shape"
    _blend[(tokens, count, layers * batch)](
        keys.pool, values.pool, keys.slots, *read, gate.float().contiguous(), *keys.strides, batch, count, tokens,
        HEADS=heads, DIM=dim, HEADS_BLOCK=triton.next_power_of_2(heads), DIM_BLOCK=triton.next_power_of_2(dim),
        num_warps=4)
