"""Codes that kernels write are those of the plain path, up to a step where a number lies between two."""

import pytest
import torch

from echo_cli.eight import EightBitLayers, EightBitWindow, codes
from echo_cli.kernels import usable
from echo_cli.rope import RopeTable
from tests.small import GRID, SPEC

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
READY = usable(torch.device(DEVICE))
if READY:
    from echo_cli.kernels import rows

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason="needs Triton, and a GPU or TRITON_INTERPRET=1")]
TOKENS, HEADS, DIM = GRID.tokens, SPEC.heads, SPEC.head_dim
SHAPE = (3, 2, 4 * TOKENS, HEADS, DIM)  # layers, batch, tokens of four frames


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def window() -> tuple[EightBitWindow, torch.Tensor, torch.Tensor]:
    keys, values = drawn(*SHAPE), drawn(*SHAPE, seed=1)
    made = EightBitWindow(EightBitLayers((0, 2), *(drawn(2, HEADS, seed=seed).abs() + 5 for seed in (2, 3))), keys,
                          TOKENS)
    made.measure(keys, values, [0, 1, 3])
    return made, keys, values


def near(one: torch.Tensor, two: torch.Tensor) -> bool:
    """Within a step of eight bits, three bits after the first; less than the least of these counts as nothing. Triton's
    interpreter does not carry into the exponent where it rounds up to a power of two, and writes half of it."""
    one, two = one.float(), two.float()
    return bool((((one - two).abs() <= 0.13 * two.abs() + 2**-6) | ((DEVICE == "cpu") & (2 * one == two))).all())


def test_frames_are_quantised_as_in_torch_and_only_those_that_are_named() -> None:
    made, keys, values = window()
    made.write(keys, values, [3, 1])
    made.write(keys, values, torch.tensor([0], dtype=torch.int32, device=DEVICE), 2)
    made.write(keys, values, [0], 1)
    for row, (layer, places) in enumerate(((0, (1, 3)), (2, (0, 1, 3)))):
        for place in range(4):
            at = slice(place * TOKENS, (place + 1) * TOKENS)
            wanted = codes(keys[layer, :, at] - made.mean[row, :, None], made.key_scale[row, :, None])
            assert near(made.keys[row, :, at], wanted if place in places else torch.zeros_like(wanted))
            wanted = codes(values[layer, :, at], made.value_scale[row, :, None])
            assert near(made.values[row, :, at], wanted if place in places else torch.zeros_like(wanted))


def test_a_block_is_placed_in_eight_bits_beside_the_window() -> None:
    made, keys, values = window()
    layer, places = 2, torch.tensor([3, 1], dtype=torch.int32, device=DEVICE)
    rotation = RopeTable(SPEC, GRID, DEVICE).frames(3, 2)
    query, key, value = drawn(2, 2 * TOKENS, 3, HEADS, DIM, seed=4).unbind(2)
    before = made.keys[1].float().clone()
    turned, _, _, asked = rows.place(query, key, value, rotation, rotation, places, keys[layer], values[layer], TOKENS,
                                     eight=made.target(layer))
    seen = made.seen(layer, asked, 4 * TOKENS)
    assert near(seen.query, codes(turned, seen.query_scale[:, None]))
    for place in range(4):
        at = slice(place * TOKENS, (place + 1) * TOKENS)
        if place in (1, 3):
            assert near(seen.keys[:, at], codes(keys[layer, :, at] - made.mean[1, :, None], seen.key_scale[:, None]))
            assert near(seen.values[:, at], codes(values[layer, :, at], seen.value_scale[:, None]))
        else:
            assert torch.equal(seen.keys[:, at].float(), before[:, at])
