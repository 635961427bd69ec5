"""What memory queries do with frames that leave: read them, compare, and take a share; one launch each.

Reading is attention from cells to cells that favours near ones. The kernel computes the distance from the cells'
numbers, so it reads no table of distances, and it leaves out rows of cells that are too far away to matter: less than
e^-16 of any sum.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _near(q, k, v, lengths, longest, near, key_out, value_out, q_group, q_head, q_token, k_group, k_token, batch,
          queries, frames, cells, columns, HEADS: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr,
          QUERIES: tl.constexpr, KEYS: tl.constexpr):
    start = tl.program_id(0) * QUERIES
    group, head = (tl.program_id(1) // HEADS).to(tl.int64), tl.program_id(1) % HEADS
    row, at = start + tl.arange(0, QUERIES), tl.arange(0, BLOCK)
    q += group * q_group + head * q_head
    k += group * k_group + head * DIM
    v += group * k_group + head * DIM
    lengths += group * frames * cells * HEADS + head
    asked = tl.load(q + row[:, None] * q_token + at[None, :], mask=(row < queries)[:, None] & (at < DIM)[None, :],
                    other=0.0)
    wide = asked.to(tl.float32)
    strongest = tl.sqrt(tl.max(tl.sum(wide * wide, 1), 0)) * tl.load(longest + group * HEADS + head)
    alpha = tl.abs(tl.load(near + (group // batch) * HEADS + head))
    cell = row % cells
    down, across = cell // columns, cell % columns
    # The nearest cell's score is at least -strongest; beyond this many rows none comes within e^-16 of it.
    reach = tl.minimum(tl.sqrt((2 * strongest + 16.0) / tl.maximum(alpha, 1e-6)), 1e6).to(tl.int32) + 1
    whole = start % cells + QUERIES > cells
    first = tl.where(whole, 0, tl.maximum(start % cells // columns - reach, 0)) * columns
    stop = tl.where(whole, cells, tl.minimum(((start + QUERIES - 1) % cells // columns + reach + 1) * columns, cells))
    most = tl.full([QUERIES], -1e30, tl.float32)
    total, length = tl.zeros([QUERIES], tl.float32), tl.zeros([QUERIES], tl.float32)
    key_sum, value_sum = tl.zeros([QUERIES, BLOCK], tl.float32), tl.zeros([QUERIES, BLOCK], tl.float32)
    for frame in range(0, frames):
        for begin in range(first, stop, KEYS):
            other = begin + tl.arange(0, KEYS)
            there = other < stop
            tile = (frame * cells + other)[:, None] * k_token + at[None, :]
            inside = there[:, None] & (at < DIM)[None, :]
            key = tl.load(k + tile, mask=inside, other=0.0)
            rows_apart = down[:, None] - (other // columns)[None, :]
            cols_apart = across[:, None] - (other % columns)[None, :]
            score = tl.dot(asked, tl.trans(key))
            score -= alpha * (rows_apart * rows_apart + cols_apart * cols_apart).to(tl.float32)
            score = tl.where(there[None, :], score, -1e30)
            now = tl.maximum(most, tl.max(score, 1))
            share = tl.exp(score - now[:, None])
            before = tl.exp(most - now)
            most = now
            total = total * before + tl.sum(share, 1)
            long = tl.load(lengths + (frame * cells + other) * HEADS, mask=there, other=0.0)
            length = length * before + tl.sum(share * long[None, :], 1)
            value = tl.load(v + tile, mask=inside, other=0.0)
            part = share.to(key.dtype)
            key_sum = tl.dot(part, key, key_sum * before[:, None])
            value_sum = tl.dot(part, value, value_sum * before[:, None])
    into = ((group * queries + row.to(tl.int64)) * HEADS + head)[:, None] * DIM + at[None, :]
    inside = (row < queries)[:, None] & (at < DIM)[None, :]
    key_sum /= total[:, None]
    value_sum /= total[:, None]
    # A mean of keys is shorter than the keys: scale it to their mean length.
    key_sum *= (length / total / tl.maximum(tl.sqrt(tl.sum(key_sum * key_sum, 1)), 1e-6))[:, None]
    tl.store(key_out + into, key_sum.to(key_out.dtype.element_ty), mask=inside)
    tl.store(value_out + into, value_sum.to(value_out.dtype.element_ty), mask=inside)


def near_read(asked: Tensor, keys: Tensor, values: Tensor, near: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """asked [layer, batch, head, query, dim], already scaled, in frames of cells; keys and values [layer, batch, frame,
    cell, head, dim]; near [layer, head], the penalty for each squared cell of distance. → what each query reads: the
    mean of keys, at their mean length, and of values [layer, batch, query, head, dim]."""
    layers, batch, heads, queries, dim = asked.shape
    frames, cells = keys.shape[2:4]
    keys, values = (part.flatten(0, 1).flatten(1, 2).contiguous() for part in (keys, values))
    asked = asked.flatten(0, 1).to(keys.dtype)
    asked = asked if asked.stride(-1) == 1 else asked.contiguous()
    lengths = torch.linalg.vector_norm(keys, dim=-1, dtype=torch.float32)  # [group, token, head]
    block = max(16, triton.next_power_of_2(dim))
    made = [torch.empty(layers * batch, queries, heads, dim, dtype=keys.dtype, device=keys.device) for _ in range(2)]
    _near[(triton.cdiv(queries, 64), layers * batch * heads)](
        asked, keys, values, lengths, lengths.amax(1).contiguous(), near.float().contiguous(), *made, asked.stride(0),
        asked.stride(1), asked.stride(2), keys.stride(0), keys.stride(1), batch, queries, frames, cells, columns,
        HEADS=heads, DIM=dim, BLOCK=block, QUERIES=64, KEYS=32, num_warps=4, num_stages=3)
    key, value = (part.unflatten(0, (layers, batch)) for part in made)
    return key, value


@triton.jit
def _compare(one, two, out, lengths, one_group, one_frame, two_group, two_frame, tokens, FRAMES: tl.constexpr,
             WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    token, group = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    at = tl.arange(0, BLOCK)
    inside = at < WIDTH
    place = group * tokens + token
    for first in range(FRAMES):
        mine = tl.load(one + group * one_group + first * one_frame + token * WIDTH + at, mask=inside, other=0.0)
        mine = mine.to(tl.float32)
        tl.store(lengths + place * 2 * FRAMES + first, tl.sqrt(tl.sum(mine * mine, 0)))
        for second in range(FRAMES):
            other = tl.load(two + group * two_group + second * two_frame + token * WIDTH + at, mask=inside, other=0.0)
            other = other.to(tl.float32)
            tl.store(out + (place * FRAMES + first) * FRAMES + second, tl.sum(mine * other, 0))
            if first == second:
                tl.store(lengths + place * 2 * FRAMES + FRAMES + first, tl.sqrt(tl.sum(other * other, 0)))


def compare(one: Tensor, two: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Products of every frame of one with every frame of two, token by token: both [layer, batch, frame, token, head,
    dim] with tokens side by side. → [layer, batch, token, frame of one, frame of two], and the lengths of both [layer,
    batch, token, frame]; float32."""
    layers, batch, frames, tokens = one.shape[:4]
    width = one.shape[4] * one.shape[5]
    one, two = (part.flatten(0, 1) for part in (one, two))
    products = torch.empty(layers * batch, tokens, frames, frames, dtype=torch.float32, device=one.device)
    lengths = torch.empty(layers * batch, tokens, 2, frames, dtype=torch.float32, device=one.device)
    _compare[(tokens, layers * batch)](one, two, products, lengths, one.stride(0), one.stride(1), two.stride(0),
                                       two.stride(1), tokens, FRAMES=frames, WIDTH=width,
                                       BLOCK=triton.next_power_of_2(width), num_warps=4)
    dots, sizes = (part.unflatten(0, (layers, batch)) for part in (products, lengths))
    return dots, *sizes.unbind(3)


@triton.jit
def _blend(held_key, read_key, held_value, read_value, gate, key_out, value_out, HEADS: tl.constexpr, DIM: tl.constexpr,
           HEADS_BLOCK: tl.constexpr, DIM_BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    head, dim = tl.arange(0, HEADS_BLOCK), tl.arange(0, DIM_BLOCK)
    inside = (head < HEADS)[:, None] & (dim < DIM)[None, :]
    at = row * HEADS * DIM + head[:, None] * DIM + dim[None, :]
    share = tl.load(gate + row)
    held = tl.load(held_key + at, mask=inside, other=0.0).to(tl.float32)
    read = tl.load(read_key + at, mask=inside, other=0.0).to(tl.float32)
    key = held + share * (read - held)
    long = tl.sqrt(tl.sum(held * held, 1)) * (1 - share) + tl.sqrt(tl.sum(read * read, 1)) * share
    key *= (long / tl.maximum(tl.sqrt(tl.sum(key * key, 1)), 1e-6))[:, None]
    tl.store(key_out + at, key.to(key_out.dtype.element_ty), mask=inside)
    held = tl.load(held_value + at, mask=inside, other=0.0).to(tl.float32)
    read = tl.load(read_value + at, mask=inside, other=0.0).to(tl.float32)
    tl.store(value_out + at, (held + share * (read - held)).to(value_out.dtype.element_ty), mask=inside)


def blend(held: tuple[Tensor, Tensor], read: tuple[Tensor, Tensor], gate: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [layer, batch, frame, token, head, dim] held and read, mixed by gate [layer, batch, frame,
    token]; keys keep the mixed length of each head."""
    parts = [part.contiguous() for part in (held[0], read[0], held[1], read[1])]
    heads, dim = parts[0].shape[-2:]
    key, value = torch.empty_like(parts[0]), torch.empty_like(parts[2])
    _blend[(gate.numel(),)](*parts, gate.float().contiguous(), key, value, HEADS=heads, DIM=dim,
                            HEADS_BLOCK=triton.next_power_of_2(heads), DIM_BLOCK=triton.next_power_of_2(dim),
                            num_warps=4)
    return key, value
