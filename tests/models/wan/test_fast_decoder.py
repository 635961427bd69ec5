"""The fast decoder: streams, the layout of its weights, and the arithmetic of the published one, written out."""

import pytest
import torch
from torch.nn import functional as F

from echo_cli.errors import MissingError
from echo_cli.models.files.loading import stream_into
from echo_cli.models.files.tensors import Given
from echo_cli.models.wan.fast_decoder import TRIMMED, FastDecoder, decoder_alone, room

SMALL = (8, 6, 4, 4)


def decoder(seed: int = 0) -> FastDecoder:
    torch.manual_seed(seed)
    return FastDecoder(16, SMALL).requires_grad_(False).eval()


def written_out(weights: dict[str, torch.Tensor], latents: torch.Tensor) -> torch.Tensor:
    """All at once and over all time, layer by layer: [frame, channel, y, x] → every picture, none trimmed."""
    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = weights[f"decoder.{name}.weight"]
        return F.conv2d(x, weight, weights.get(f"decoder.{name}.bias"), padding=weight.shape[-1] // 2)

    x = conv(torch.tanh(latents / 3) * 3, "1").relu()
    for level, times in enumerate((1, 2, 2)):
        first = 3 + 6 * level
        for index in range(first, first + 3):
            past = torch.cat((torch.zeros_like(x[:1]), x[:-1]))
            y = conv(torch.cat((x, past), 1), f"{index}.conv.0").relu()
            y = conv(y, f"{index}.conv.2").relu()
            x = (conv(y, f"{index}.conv.4") + x).relu()
        x = conv(F.interpolate(x, scale_factor=2), f"{first + 4}.conv")
        x = torch.cat([frame.reshape(times, -1, *frame.shape[1:]) for frame in x])
        x = conv(x, str(first + 5))
    return conv(x.relu(), "22").clamp(0, 1)


def test_it_computes_what_is_published() -> None:
    mine, latents = decoder(), torch.randn(1, 5, 16, 3, 4)
    pictures, _ = mine.decode(latents)
    assert pictures.shape == (1, 17, 3, 24, 32)
    torch.testing.assert_close(pictures[0], written_out(mine.state_dict(), latents[0])[3:], atol=1e-5, rtol=0)


@pytest.mark.parametrize("pieces", [(3, 2), (1, 1, 3), (1, 4)])
def test_pieces_of_a_stream_are_the_stream(pieces: tuple[int, ...]) -> None:
    mine, latents = decoder(), torch.randn(1, 5, 16, 3, 4)
    whole, _ = mine.decode(latents)
    state, made = None, []
    for piece in latents.split(pieces, 1):
        pictures, state = mine.decode(piece, state)
        made.append(pictures)
    assert torch.equal(torch.cat(made, 1), whole)
    assert len(state) == 9 and all(type(item) is torch.Tensor for item in state)


def test_the_state_that_came_in_can_be_gone_on_with_again() -> None:
    mine, latents = decoder(), torch.randn(1, 4, 16, 3, 4)
    _, state = mine.decode(latents[:, :2])
    first, _ = mine.decode(latents[:, 2:], state)
    mine.decode(latents[:, :1] * 9, state)
    assert torch.equal(mine.decode(latents[:, 2:], state)[0], first)


def test_the_published_file_has_these_names_and_an_encoder_that_is_left_out() -> None:
    with torch.device("meta"):
        real = FastDecoder()
    names = {name.removeprefix("decoder.") for name in real.state_dict()}
    assert {
        "1.weight",
        "1.bias",
        "3.conv.0.weight",
        "7.conv.weight",
        "8.weight",
        "13.conv.weight",
        "20.weight",
        "22.bias",
    } <= names
    assert not {"7.conv.bias", "8.bias"} & names
    assert real.decoder[13].conv.weight.shape == (256, 128, 1, 1) and real.decoder[22].weight.shape == (3, 64, 3, 3)
    file = Given({**decoder().state_dict(), "encoder.0.weight": torch.zeros(1)}, "taew2_1.pth")
    with torch.device("meta"):
        empty = FastDecoder(16, SMALL)
    filled = stream_into(empty, decoder_alone(file))
    assert torch.equal(filled.decode(torch.ones(1, 1, 16, 3, 4))[0], decoder().decode(torch.ones(1, 1, 16, 3, 4))[0])
    with pytest.raises(MissingError, match="this file holds no decoder"):
        decoder_alone(Given({"encoder.0.weight": torch.zeros(1)}, "taew2_1.pth"))


def test_the_room_of_a_stream_is_counted_as_it_is_taken() -> None:
    real = FastDecoder().requires_grad_(False)
    _, state = real.decode(torch.randn(1, 1, 16, 3, 4))
    assert room(16, 3, 4, 4)[0] == 4 * sum(item.numel() for item in (*real.parameters(), *state))


@torch.inference_mode()
def test_several_latents_in_one_call_are_those_one_after_another() -> None:
    torch.manual_seed(0)
    decoder, given = FastDecoder(4), torch.randn(1, 5, 4, 4, 6)
    pictures, state = decoder.decode(given)
    whole, remembered = decoder._some(given[0], [])
    torch.testing.assert_close(whole.clamp(0, 1)[TRIMMED:], pictures[0], atol=1e-5, rtol=0)
    for here, there in zip(remembered, state, strict=True):
        torch.testing.assert_close(here, there, atol=1e-5, rtol=0)
