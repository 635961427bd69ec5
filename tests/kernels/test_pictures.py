"""What lies between a picture decoder's convolutions is as torch computes it, by Triton's interpreter on a CPU."""

import pytest
import torch
import torch.nn.functional as F

from echo_cli.kernels import usable
from echo_cli.models.wan.block_decoder import _plain_add, _plain_enlarge, _plain_norm_silu

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
READY = usable(DEVICE)
if READY:
    from echo_cli.kernels.pictures import add, enlarge, norm_silu

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason="needs Triton, and a GPU or TRITON_INTERPRET=1")]

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("biased", [False, True])
def test_a_norm_and_its_activation_are_written_into_a_part_of_something_wider(biased: bool) -> None:
    x, gain, bias = drawn(2, 3, 5, 24), drawn(24, seed=1), drawn(24, seed=2) if biased else None
    wide, plain = (torch.zeros(4, 3, 5, 24, device=DEVICE) for _ in range(2))
    norm_silu(x, bias, gain, wide[2:])
    _plain_norm_silu(x, bias, gain, plain[2:])
    torch.testing.assert_close(wide, plain, **CLOSE)
    added = x if bias is None else x + bias
    torch.testing.assert_close(wide[2:], F.silu(F.normalize(added, dim=-1) * 24**0.5 * gain), **CLOSE)
    assert not wide[:2].any()


@pytest.mark.parametrize("joined", [False, True])
def test_a_bias_and_a_shortcut_are_added_in_place(joined: bool) -> None:
    x, bias, other = drawn(2, 7, 300), drawn(300, seed=1), drawn(2, 7, 300, seed=2) if joined else None
    wanted = _plain_add(x.clone(), bias, other)
    made = add(x, bias, other)
    assert made is x
    torch.testing.assert_close(x, wanted, **CLOSE)


@pytest.mark.parametrize(("times", "biased"), [(1, False), (2, True)])
def test_pixels_become_four_each_in_as_many_frames_as_they_hold(times: int, biased: bool) -> None:
    x, bias = drawn(3, 2, 5, 6 * times), drawn(6 * times, seed=1) if biased else None
    made, plain = (torch.zeros(3 * times, 4, 10, 6, device=DEVICE) for _ in range(2))
    enlarge(x, bias, times, made)
    _plain_enlarge(x, bias, times, plain)
    torch.testing.assert_close(made, plain, **CLOSE)
    added = x if bias is None else x + bias
    assert torch.equal(plain[times * 2 - 1, 3, 9], added[1, 1, 4, 6 * (times - 1):])
