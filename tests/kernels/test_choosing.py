"""Scores, choice and move of remembered tokens are those of the plain path, by Triton's interpreter on a CPU."""

import pytest
import torch

from echo_cli.kernels import usable
from echo_cli.memory import scoring
from echo_cli.rope import RopeTable, rotate
from tests.small import GRID, SPEC

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
READY = usable(DEVICE)
if READY:
    from echo_cli.kernels import choosing

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason="needs Triton, and a GPU or TRITON_INTERPRET=1")]

LAYERS, BATCH, SLOTS, TOKENS, HEADS, DIM = 2, 2, 5, GRID.tokens, SPEC.heads, SPEC.head_dim
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def numbers(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def test_answers_are_the_mean_over_heads_at_each_frames_age() -> None:
    pool, wanted = drawn(LAYERS, BATCH, SLOTS, TOKENS, HEADS, DIM), drawn(LAYERS, BATCH, 4, HEADS * DIM, seed=1)
    result = choosing.answers(pool, numbers(3, 0, 4), wanted, numbers(2, 1, 3))
    plain = torch.cat([(pool[:, :, slot].flatten(-2) * wanted[:, :, age, None]).sum(-1) / HEADS
                       for slot, age in ((3, 2), (0, 1), (4, 3))], -1)
    torch.testing.assert_close(result, plain, **CLOSE)


def test_answers_of_pairs_are_loudness() -> None:
    pool, mean = drawn(LAYERS, BATCH, SLOTS, TOKENS, HEADS, DIM), drawn(LAYERS, BATCH, HEADS, DIM // 2, seed=1)
    absolute = mean.abs() + 1
    result = choosing.answers(pool, numbers(1), (absolute - mean.abs()).flatten(2), numbers(0), pairs=True)
    torch.testing.assert_close(result, scoring.loudness(pool[:, :, 1], mean.to(torch.complex64), absolute), **CLOSE)


@pytest.mark.parametrize("count", [5, 12, 40])
@pytest.mark.parametrize("coarse", [False, True])
def test_the_choice_is_the_best_in_order_with_their_uses_counted(count: int, coarse: bool) -> None:
    frames, slots = 3, numbers(3, 0, 4)
    base, loud = drawn(BATCH, frames * TOKENS), drawn(BATCH, SLOTS, TOKENS, seed=1)
    if coarse:  # many are equal
        base, loud = base.round(), loud.round() * 0
    uses = torch.randint(0, 3, (BATCH, SLOTS, TOKENS), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    uses = uses.to(torch.int16)
    asked, reference = drawn(BATCH, HEADS * DIM, seed=3), drawn(BATCH, HEADS * DIM, seed=4)
    similarity, gate = scoring.drift_gate(asked.unflatten(1, (HEADS, DIM)), reference.unflatten(1, (HEADS, DIM)), 3.0)
    some = slots.long()
    score = base + loud[:, some].flatten(1) * gate[:, None]
    score = score.masked_fill(uses[:, some].flatten(1) >= 2, -torch.inf)
    before, said, spread = uses.clone(), torch.zeros(BATCH, 2, device=DEVICE), torch.zeros(BATCH, 4, device=DEVICE)
    index, valid = (torch.empty(BATCH, count, dtype=dtype, device=DEVICE) for dtype in (torch.int32, torch.int8))
    choosing.choose(base, loud, True, uses, 2, asked, reference, 3.0, slots, index, valid, said, spread)
    torch.testing.assert_close(said, torch.stack((similarity, gate), -1), **CLOSE)
    for film in range(BATCH):
        left = int((score[film] > -torch.inf).sum())
        number = min(count, left)
        mine, good = index[film][:number].long(), valid[film].bool()
        assert good[:number].all() and not good[number:].any() and (mine.diff() > 0).all()
        wanted = score[film].topk(number).values
        torch.testing.assert_close(score[film][mine].sort(descending=True).values, wanted, **CLOSE)
        if coarse:  # of equal ones, the first
            last = wanted[-1]
            tied = (score[film] == last).nonzero().flatten()
            taken = mine[score[film][mine] == last]
            assert torch.equal(taken, tied[:len(taken)])
        more = (uses - before)[film][some].flatten()
        assert torch.equal(more.nonzero().flatten(), mine) and int(more.max()) == 1
        torch.testing.assert_close(spread[film], torch.stack(
            (wanted.amin(), wanted.sum(), torch.tensor(float(number), device=DEVICE), wanted.amax())), **CLOSE)


@pytest.mark.parametrize("count", [2, 150, 390])
def test_a_choice_in_several_parts_takes_the_first_of_equal_ones(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last part has the best candidates, and those that are tied lie in all four."""
    monkeypatch.setattr(choosing, "PART", 128)
    tokens, best, worst = 200, (399, 390), range(0, 400, 50)
    base = torch.zeros(BATCH, 2 * tokens, device=DEVICE)
    base[:, list(worst)], base[:, list(best)] = -1.0, 1.0
    uses = torch.zeros(BATCH, 2, tokens, dtype=torch.int16, device=DEVICE)
    asked, said, spread = (torch.ones(BATCH, size, device=DEVICE) for size in (HEADS * DIM, 2, 4))
    index, valid = (torch.empty(BATCH, count, dtype=dtype, device=DEVICE) for dtype in (torch.int32, torch.int8))
    choosing.choose(base, None, False, uses, 2, asked, asked, 3.0, numbers(1, 0), index, valid, said, spread)
    tied = [number for number in range(2 * tokens) if number not in (*best, *worst)]
    wanted = sorted((*best, *tied[:count - 2]))
    assert index.tolist() == [wanted] * BATCH and valid.all()
    assert spread.tolist() == [[0.0 if count > 2 else 1.0, 2.0, count, 1.0]] * BATCH
    assert [used.nonzero().flatten().tolist() for used in uses[:, [1, 0]].flatten(1)] == [wanted] * BATCH


def test_chosen_tokens_are_moved_and_rotated_and_the_rest_is_what_was_there() -> None:
    keys, values = drawn(BATCH, SLOTS, TOKENS, HEADS, DIM), drawn(BATCH, SLOTS, TOKENS, HEADS, DIM, seed=1)
    before_keys, before_values = keys.clone(), values.clone()
    window = [torch.zeros(BATCH, 3 * TOKENS, HEADS, DIM, device=DEVICE) for _ in range(2)]
    index = torch.randint(0, 2 * TOKENS, (BATCH, TOKENS), generator=torch.Generator().manual_seed(2)).to(DEVICE)
    valid = (torch.arange(TOKENS, device=DEVICE) < TOKENS - 2).to(torch.int8).expand(BATCH, -1).contiguous()
    rotation = RopeTable(SPEC, GRID, DEVICE).frames(7, 1)
    choosing.move((keys, values), tuple(window), index.to(torch.int32), valid, numbers(3, 0), numbers(2), numbers(4),
                  numbers(1), rotation)
    pools = [pool[:, [3, 0]].flatten(1, 2) for pool in (before_keys, before_values)]
    wanted = [torch.where(valid[..., None, None] != 0, torch.take_along_dim(pool, index[..., None, None], 1), old[:, 4])
              for pool, old in zip(pools, (before_keys, before_values), strict=True)]
    assert torch.equal(keys[:, 2], wanted[0]) and torch.equal(values[:, 2], wanted[1])
    assert torch.equal(keys[:, [0, 1, 3, 4]], before_keys[:, [0, 1, 3, 4]])
    torch.testing.assert_close(window[0][:, TOKENS:2 * TOKENS], rotate(wanted[0], rotation), **CLOSE)
    assert torch.equal(window[1][:, TOKENS:2 * TOKENS], wanted[1])
