"""Each kernel computes what torch does in several steps; on a CPU by Triton's interpreter, where it is installed."""

import pytest
import torch
import torch.nn.functional as F

from echo_cli.kernels import usable
from echo_cli.models.fp8 import quantised
from echo_cli.models.layers import RMSNorm, modulate
from echo_cli.rope import RopeTable, rotate
from tests.small import GRID, SPEC

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
READY = usable(torch.device(DEVICE))
if READY:
    from echo_cli.kernels import rows

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason="needs Triton, and a GPU or TRITON_INTERPRET=1")]
FRAMES, TOKENS, HEADS, DIM = 2, GRID.tokens, SPEC.heads, SPEC.head_dim
WIDTH = HEADS * DIM
CLOSE = {"atol": 2e-5, "rtol": 1e-5}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def rotation(first: int) -> torch.Tensor:
    return RopeTable(SPEC, GRID, DEVICE).frames(first, FRAMES)


def test_add_norm_gates_adds_normalises_and_modulates() -> None:
    x, y, mine = drawn(FRAMES * TOKENS, WIDTH), drawn(FRAMES * TOKENS, WIDTH, seed=1), drawn(FRAMES, 6, WIDTH, seed=2)
    spread = [mine[:, at].repeat_interleave(TOKENS, 0) for at in range(3)]
    summed = x + y * spread[0]
    wanted = modulate(F.layer_norm(summed, (WIDTH,), eps=1e-6), spread[1], spread[2])
    result, scale = rows.add_norm(x, 1e-6, TOKENS, add=y, gate=mine[:, 0], modulation=(mine[:, 1], mine[:, 2]))
    torch.testing.assert_close(x, summed, **CLOSE)
    torch.testing.assert_close(result, wanted, **CLOSE)
    assert scale is None


def test_add_norm_with_a_gain_of_its_own_and_nothing_to_add() -> None:
    x, gain, offset = drawn(7, WIDTH), drawn(WIDTH, seed=1), drawn(WIDTH, seed=2)
    before = x.clone()
    result, _ = rows.add_norm(x, 1e-6, 7, affine=(gain, offset))
    torch.testing.assert_close(result, F.layer_norm(x, (WIDTH,), gain, offset, 1e-6), **CLOSE)
    assert torch.equal(x, before)


def test_rows_in_eight_bits_are_those_of_the_plain_path() -> None:
    x = drawn(5, WIDTH) * 10
    for gelu in (False, True):
        result, scale = rows.eight_bits(x, gelu)
        wanted, wanted_scale = quantised(F.gelu(x, approximate="tanh") if gelu else x)
        torch.testing.assert_close(scale, wanted_scale, rtol=1e-4, atol=0)
        exact = wanted.float() * wanted_scale
        assert (result.float() * scale - exact).norm() < 0.05 * exact.norm()


def test_queries_and_keys_are_normalised_rotated_and_put_into_their_places() -> None:
    projected = drawn(2, FRAMES * TOKENS, 3, HEADS, DIM)
    norm_q, norm_k = (RMSNorm(WIDTH, 1e-6).to(DEVICE) for _ in range(2))
    for norm, seed in ((norm_q, 1), (norm_k, 2)):
        norm.weight.data = 1 + 0.1 * drawn(WIDTH, seed=seed)
    query, key, value = projected.unbind(2)
    raw_query, raw_key = (norm(part.flatten(2)).view_as(part) for norm, part in ((norm_q, query), (norm_k, key)))
    turn_query, turn_key = rotation(3), rotation(5)
    keys, values = (torch.zeros(2, 4 * TOKENS, HEADS, DIM, device=DEVICE) for _ in range(2))
    pool_keys, pool_values = (torch.zeros(2, 3, TOKENS, HEADS, DIM, device=DEVICE) for _ in range(2))
    places, slots = (torch.tensor(numbers, dtype=torch.int32, device=DEVICE) for numbers in ([3, 1], [2, 0]))
    turned, kept_query, kept_key, _ = rows.place(query, key, value, turn_query, turn_key, places, keys, values, TOKENS,
                                              (norm_q.weight, norm_k.weight), 1e-6, keep_query=True, keep_key=True,
                                              pool=(pool_keys, pool_values, slots))
    torch.testing.assert_close(turned, rotate(raw_query, turn_query), **CLOSE)
    torch.testing.assert_close(kept_query, raw_query, **CLOSE)
    torch.testing.assert_close(kept_key, raw_key, **CLOSE)
    there = rotate(raw_key, turn_key)
    for frame, place in enumerate((3, 1)):
        mine, at = slice(frame * TOKENS, (frame + 1) * TOKENS), slice(place * TOKENS, (place + 1) * TOKENS)
        torch.testing.assert_close(keys[:, at], there[:, mine], **CLOSE)
        assert torch.equal(values[:, at], value[:, mine])
        torch.testing.assert_close(pool_keys[:, int(slots[frame])], raw_key[:, mine], **CLOSE)
        assert torch.equal(pool_values[:, int(slots[frame])], value[:, mine])
    untouched = slice(0, TOKENS), slice(2 * TOKENS, 3 * TOKENS)
    assert not any(tensor[:, at].any() for tensor in (keys, values) for at in untouched)
    assert not pool_keys[:, 1].any() and not pool_values[:, 1].any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frame_rotated_later_has_the_bits_of_one_rotated_at_once(dtype: torch.dtype) -> None:
    projected = drawn(1, FRAMES * TOKENS, 3, HEADS, DIM).to(dtype)
    gain = torch.ones(WIDTH, dtype=dtype, device=DEVICE)
    keys, values = (torch.zeros(1, FRAMES * TOKENS, HEADS, DIM, dtype=dtype, device=DEVICE) for _ in range(2))
    places = torch.tensor([0, 1], dtype=torch.int32, device=DEVICE)
    _, _, raw, _ = rows.place(*projected.unbind(2), rotation(3), rotation(3), places, keys, values, TOKENS,
                               (gain, gain), 1e-6, keep_key=True)
    assert torch.equal(rows.turn(raw, rotation(3)), keys)
    value, later = projected.unbind(2)[2].contiguous(), [torch.zeros_like(keys) for _ in range(2)]
    rows.lay(raw, value, rotation(3), *later)
    assert torch.equal(later[0], keys) and torch.equal(later[1], value)


def test_turning_takes_any_leading_axes_and_a_part_of_something_wider() -> None:
    wide = drawn(3, 2, 2 * FRAMES * TOKENS, HEADS, DIM)
    part = wide[:, :, FRAMES * TOKENS:]
    torch.testing.assert_close(rows.turn(part, rotation(4)), rotate(part, rotation(4)), **CLOSE)


def test_sums_are_those_of_tokens_and_of_the_lengths_of_pairs() -> None:
    x = drawn(2, 19, HEADS, DIM)
    total, lengths = x.sum(1).flatten(1), torch.view_as_complex(x.unflatten(-1, (-1, 2))).abs().sum(1).flatten(1)
    torch.testing.assert_close(rows.sums(x), total, **CLOSE)
    both = torch.zeros(2, WIDTH + WIDTH // 2, device=DEVICE)
    rows.sums(x, lengths=True, out=both)
    torch.testing.assert_close(both, torch.cat((total, lengths), -1), **CLOSE)
