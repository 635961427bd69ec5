"""The search for motion: what was moved is found, what rests is not."""

import torch

from echo_cli.models.tiny.motion import SHRINK, displacement


def textured(seed: int) -> torch.Tensor:
    rough = torch.rand(1, 3, 32, 48, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, scale_factor=4, mode="bilinear")


def test_a_shift_is_found_everywhere_but_at_the_edges():
    picture = textured(0)
    for across, down in ((0, 0), (4, 0), (-6, 0), (0, 8), (2, -14)):
        result = displacement(picture, torch.roll(picture, (down, across), (2, 3)))
        assert result.shape == (1, 2, 128 // SHRINK, 192 // SHRINK)
        inner = result[0, :, 8:-8, 8:-8]
        assert (inner[0] - across).abs().mean() < 0.7 and (inner[1] - down).abs().mean() < 0.7


def test_only_what_moves_is_said_to_move():
    before = textured(1)
    thing, after = textured(2)[..., 40:72, 60:92], before.clone()
    before[..., 40:72, 60:92] = thing
    after[..., 40:72, 66:98] = thing
    result = displacement(before, after)[0]
    assert result[0, 12:16, 17:21].mean() > 4.5
    assert result[0, :, :40].abs().mean() < 0.5


def test_plain_pictures_rest():
    assert displacement(torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), 0.5)).abs().max() < 1e-3
