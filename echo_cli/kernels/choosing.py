"""Scores of many remembered tokens, the choice of the best, and their move into the window: one launch each.

Frames lie in a pool of slots; `slots` names those to consider, in order, and candidates are their tokens, numbered
through. The choice is exact: a search over the bits of the scores finds the lowest that is chosen, and among equal
scores the lower number wins.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from echo_cli.kernels.rows import block_of, turned_row

CANDIDATES = 1 << 16  # the most that one program can choose from
PART = 4096  # of them, read at a time: more overflow the registers


@triton.jit
def _answers(keys, wanted, slots, ages, out, frames, tokens, key_group, wanted_group, SCALE: tl.constexpr,
             WIDTH: tl.constexpr, PAIRS: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    part, frame, group = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    at = tl.arange(0, BLOCK)
    half = tl.arange(0, BLOCK // 2)
    source = keys + group * key_group + tl.load(slots + frame).to(tl.int64) * tokens * WIDTH
    age = tl.load(ages + frame).to(tl.int64)
    if PAIRS:
        weights = tl.load(wanted + group * wanted_group + half, mask=half < WIDTH // 2, other=0.0)
    else:
        weights = tl.load(wanted + group * wanted_group + age * WIDTH + at, mask=at < WIDTH, other=0.0)
    for index in range(ROWS):
        token = part * ROWS + index
        row = tl.load(source + token.to(tl.int64) * WIDTH + at, mask=(at < WIDTH) & (token < tokens), other=0.0)
        row = row.to(tl.float32)
        if PAIRS:
            even, odd = tl.split(tl.reshape(row, [BLOCK // 2, 2]))
            answer = tl.sum(tl.sqrt(even * even + odd * odd) * weights, 0)
        else:
            answer = tl.sum(row * weights, 0)
        tl.store(out + (group * frames + frame) * tokens + token, answer * SCALE, mask=token < tokens)


def answers(pool: Tensor, slots: Tensor, wanted: Tensor, ages: Tensor, pairs: bool = False,
            out: Tensor | None = None) -> Tensor:
    """The score of each token of the frames in `slots` [frame]: pool [layer, batch, slot, token, head, dim] times
    `wanted` [layer, batch, age, head * dim] at the frame's age; with `pairs`, the lengths of its pairs times [layer,
    batch, head * dim/2]. The mean over heads → [layer, batch, frame * token], float32; into `out`, if given."""
    layers, batch, _, tokens, heads, dim = pool.shape
    width, rows = heads * dim, 8
    block, warps = block_of(width)
    wanted = wanted.flatten(0, 1).contiguous()
    if out is None:
        out = torch.empty(layers, batch, len(slots) * tokens, dtype=torch.float32, device=pool.device)
    _answers[(triton.cdiv(tokens, rows), len(slots), layers * batch)](
        pool, wanted, slots, ages, out, len(slots), tokens, pool.stride(1) if batch > 1 else pool.stride(0),
        wanted.stride(0), SCALE=1.0 / heads, WIDTH=width, PAIRS=pairs, BLOCK=block, ROWS=rows, num_warps=warps)
    return out


@triton.jit
def _choose(base, loud, uses, asked, reference, slots, orders, index, valid, gating, spread, candidates, batch_slots,
            most_used, strength, TOKENS: tl.constexpr, COUNT: tl.constexpr, COUNT_BLOCK: tl.constexpr,
            WIDTH: tl.constexpr, WIDE: tl.constexpr, LOUD: tl.constexpr, GATED: tl.constexpr, BLOCK: tl.constexpr,
            PART: tl.constexpr):
    batch = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, WIDE)
    mine = tl.load(asked + batch * WIDTH + at, mask=at < WIDTH, other=0.0)
    other = tl.load(reference + batch * WIDTH + at, mask=at < WIDTH, other=0.0)
    scale = tl.sqrt(tl.sum(mine * mine, 0)) * tl.sqrt(tl.sum(other * other, 0))
    similarity = tl.minimum(tl.maximum(tl.sum(mine * other, 0) / tl.maximum(scale, 1e-12), -1.0), 1.0)
    gate = tl.exp(-strength * (1.0 - similarity))
    tl.store(gating + batch * 2, similarity)
    tl.store(gating + batch * 2 + 1, gate)

    # Of all candidates at once, registers hold one number each. So scores are written out as whole numbers in the same
    # order, searched, and read again part by part. Zero is no candidate.
    orders += batch * candidates
    for first in range(0, candidates, PART):
        number = first + tl.arange(0, PART)
        real = number < candidates
        slot = tl.load(slots + number // TOKENS, mask=real, other=0)
        place = (batch * batch_slots + slot) * TOKENS + number % TOKENS
        score = tl.load(base + batch * candidates + number, mask=real, other=0.0)
        if LOUD:
            more = tl.load(loud + place, mask=real, other=0.0)
            score = score + (more * gate if GATED else more)
        used = tl.load(uses + place, mask=real, other=0).to(tl.int32)
        bits = score.to(tl.int32, bitcast=True)
        order = tl.where(bits < 0, ~bits, bits | (-2147483647 - 1))
        order = tl.where((used < most_used) & (score > -float("inf")), order, 0)
        tl.store(orders + number, order, mask=real)
    tl.debug_barrier()
    every = tl.arange(0, BLOCK)
    ranks = tl.load(orders + every, mask=every < candidates, other=0).to(tl.uint32, bitcast=True)
    wanted = tl.minimum(tl.sum((ranks > 0).to(tl.int32), 0), COUNT)
    last = tl.zeros([1], tl.uint32)
    for step in range(32):
        bit = tl.full([1], 1, tl.uint32) << (31 - step)
        enough = tl.sum((ranks >= (last | bit)).to(tl.int32), 0) >= wanted
        last = tl.where(enough, last | bit, last)
    lacking = wanted - tl.sum((ranks > last).to(tl.int32), 0)

    rest = tl.arange(0, COUNT_BLOCK)
    tl.store(index + batch * COUNT + rest, tl.zeros([COUNT_BLOCK], tl.int32), mask=(rest >= wanted) & (rest < COUNT))
    tl.store(valid + batch * COUNT + rest, (rest < wanted).to(tl.int8), mask=rest < COUNT)
    least, total = tl.full([PART], float("inf"), tl.float32), tl.zeros([PART], tl.float32)
    most = tl.full([PART], -float("inf"), tl.float32)
    before, ties = wanted * 0, wanted * 0  # chosen and tied in earlier parts
    for first in range(0, candidates, PART):
        number = first + tl.arange(0, PART)
        signed = tl.load(orders + number, mask=number < candidates, other=0)
        rank = signed.to(tl.uint32, bitcast=True)
        tied = (rank == last) & (rank > 0)
        taken = (rank > last) | (tied & (ties + tl.cumsum(tied.to(tl.int32), 0) <= lacking))
        to = before + tl.cumsum(taken.to(tl.int32), 0) - 1
        tl.store(index + batch * COUNT + to, number, mask=taken)
        before += tl.sum(taken.to(tl.int32), 0)
        ties += tl.sum(tied.to(tl.int32), 0)
        score = tl.where(signed < 0, signed & 2147483647, ~signed).to(tl.float32, bitcast=True)
        least = tl.minimum(least, tl.where(taken, score, float("inf")))
        total += tl.where(taken, score, 0.0)
        most = tl.maximum(most, tl.where(taken, score, -float("inf")))
        slot = tl.load(slots + number // TOKENS, mask=taken, other=0)
        place = (batch * batch_slots + slot) * TOKENS + number % TOKENS
        tl.store(uses + place, tl.load(uses + place, mask=taken, other=0) + 1, mask=taken)
    tl.store(spread + batch * 4, tl.min(least, 0))
    tl.store(spread + batch * 4 + 1, tl.sum(total, 0))
    tl.store(spread + batch * 4 + 2, wanted.to(tl.float32))
    tl.store(spread + batch * 4 + 3, tl.max(most, 0))


def choose(base: Tensor, loud: Tensor | None, gated: bool, uses: Tensor, most_used: int, asked: Tensor,
           reference: Tensor, strength: float, slots: Tensor, index: Tensor, valid: Tensor,
           gating: Tensor, spread: Tensor) -> None:
    """The best candidates of a layer by number, in order, into index [batch, count] of int32, and into valid [batch,
    count] of int8 which of them count: 1, or 0 where there were too few.

    Scores are base [batch, candidate] and, if there is one, loud [batch, slot, token], which the gate may damp: it
    compares `asked` with `reference` [batch, head * dim]. Tokens used `most_used` times are left out, the use of each
    chosen one is counted. `gating` [batch, 2] becomes similarity and gate; `spread` [batch, 4] the least score, their
    sum, their count and the greatest."""
    batch, candidates = base.shape
    tokens, width, count = uses.shape[2], asked.shape[1], index.shape[1]
    block = triton.next_power_of_2(candidates)
    orders = torch.empty(batch, candidates, dtype=torch.int32, device=base.device)
    _choose[(batch,)](base, uses if loud is None else loud, uses, asked, reference, slots, orders, index, valid, gating,
                      spread, candidates, uses.shape[1], most_used, strength, TOKENS=tokens, COUNT=count,
                      COUNT_BLOCK=triton.next_power_of_2(count), WIDTH=width, WIDE=triton.next_power_of_2(width),
                      LOUD=loud is not None, GATED=gated, BLOCK=block, PART=min(block, PART),
                      num_warps=max(4, min(32, block // 1024)), enable_fp_fusion=False)


@triton.jit
def _move(pool_keys, pool_values, window_keys, window_values, index, valid, slots, into, before, places, rotation,
          pool_batch, window_batch, count, tokens, WIDTH: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr):
    number, batch = tl.program_id(0), tl.program_id(1).to(tl.int64)
    at, pairs = tl.arange(0, BLOCK), tl.arange(0, BLOCK // 2)
    inside = at < WIDTH
    frame, token = number // tokens, number % tokens
    chosen = tl.load(index + batch * count + number)
    good = tl.load(valid + batch * count + number) != 0
    slot = tl.where(good, tl.load(slots + chosen // tokens), tl.load(before + frame)).to(tl.int64)
    row = (slot * tokens + tl.where(good, chosen % tokens, token)) * WIDTH + batch * pool_batch
    key, value = tl.load(pool_keys + row + at, mask=inside, other=0.0), tl.load(pool_values + row + at, mask=inside)
    to = (tl.load(into + frame).to(tl.int64) * tokens + token) * WIDTH + batch * pool_batch
    tl.store(pool_keys + to + at, key, mask=inside)
    tl.store(pool_values + to + at, value, mask=inside)
    there = (tl.load(places + frame).to(tl.int64) * tokens + token) * WIDTH + batch * window_batch
    turned = turned_row(key.to(tl.float32), number.to(tl.int64), rotation, pairs, HALF, BLOCK)
    tl.store(window_keys + there + at, turned.to(window_keys.dtype.element_ty), mask=inside)
    tl.store(window_values + there + at, value, mask=inside)


def move(pool: tuple[Tensor, Tensor], window: tuple[Tensor, Tensor], index: Tensor, valid: Tensor, slots: Tensor,
         into: Tensor, before: Tensor, places: Tensor, rotation: Tensor) -> None:
    """Chosen tokens of a layer's pool [batch, slot, token, head, dim] into the slots `into`, and rotated into `places`
    of the window [batch, token, head, dim]; where a choice is not valid, the tokens of the slots `before` take its
    place."""
    batch, count = index.shape
    _, _, tokens, heads, dim = pool[0].shape
    block, warps = block_of(heads * dim)
    _move[(count, batch)](*pool, *window, index, valid, slots, into, before, places, torch.view_as_real(rotation),
                          pool[0].stride(0), window[0].stride(0), count, tokens, WIDTH=heads * dim, HALF=dim // 2,
                          BLOCK=block, num_warps=warps, enable_fp_fusion=False)
