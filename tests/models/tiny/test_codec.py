"""The codec: shapes, streaming, and refusals."""

import pytest
import torch
from torch.nn import functional as F

from echo_cli.models.tiny.codec import TinyCodec, _spread


@pytest.fixture
def codec() -> TinyCodec:
    torch.manual_seed(0)
    codec = TinyCodec(channels=8, widths=(4, 8, 12, 16)).eval()
    codec.mean.copy_(torch.randn(8))
    codec.std.copy_(torch.rand(8) + 0.5)
    return codec.requires_grad_(False)


def test_a_stream_in_pieces_equals_the_whole_exactly(codec):
    latents = torch.randn(1, 7, 8, 4, 6)
    whole, _ = codec.decode(latents)
    assert whole.shape == (1, 25, 3, 128, 192)  # twice as large as what is encoded
    for cuts in ([1, 3, 3], [3, 3, 1], [2, 5], [1] * 7):
        state, pieces = None, []
        for piece in latents.split(cuts, dim=1):
            pictures, state = codec.decode(piece, state)
            pieces.append(pictures)
        assert torch.equal(torch.cat(pieces, 1), whole)


def test_encoding_a_stream_in_pieces_equals_the_whole(codec):
    pictures = torch.rand(2, 9, 3, 32, 48)
    whole = codec.encode(pictures)
    assert whole.shape == (2, 3, 8, 2, 3)
    assert torch.allclose(codec.encode(pictures[:, :5]), whole[:, :2], atol=1e-6)


def test_latents_are_normalised_by_the_stored_figures(codec):
    pictures = torch.rand(1, 5, 3, 32, 32)
    raw = codec.raw_latents(codec.frames(pictures).flatten(0, 1)).unflatten(0, (1, 2))
    assert torch.allclose(codec.encode(pictures) * codec.std[:, None, None] + codec.mean[:, None, None], raw, atol=1e-5)


def test_pictures_stay_within_range(codec):
    pictures, _ = codec.decode(50 * torch.randn(1, 2, 8, 2, 2))
    assert pictures.min() >= 0 and pictures.max() <= 1


@pytest.mark.parametrize("shape", [(1, 4, 3, 32, 32), (1, 5, 3, 30, 32), (1, 5, 3, 32, 40)])
def test_pictures_that_do_not_fit_are_refused(codec, shape):
    with pytest.raises(ValueError, match="multiples of 16"):
        codec.encode(torch.rand(shape))


def test_spreading_is_a_pixel_shuffle_that_keeps_the_values_of_a_dot_together():
    said = torch.randn(2, 3 * 2 * 16, 5, 7)
    shuffled = F.pixel_shuffle(said, 4)
    assert torch.equal(_spread(said)[..., 0], shuffled)
    assert torch.equal(_spread(said, 2), shuffled.unflatten(1, (3, 2)).movedim(2, -1))
