"""A fast decoder of Wan's latents, from weights in the layout of TAEHV: faster than the codec, and less exact.

Convolutions over single pictures; each of nine blocks caches the previous picture, which is the whole state of a
stream. It cannot encode. Knows nothing of files.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from echo_cli.errors import MissingError
from echo_cli.models.backend import Codec
from echo_cli.models.files.tensors import Tensors, Without

WIDTHS = (256, 128, 64, 64)
GROWTH = (1, 2, 2)  # pictures that each level makes of one
TRIMMED = 3  # pictures of a stream's first latent that are dropped, of four

State = list[Tensor]


class Remembering(nn.Module):
    """Three convolutions over a picture and the one before it, beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, pictures: Tensor, before: Tensor) -> Tensor:
        # pictures [time, channel, y, x], and the one before the first
        earlier = torch.cat((before, pictures[:-1]))
        return F.relu(self.conv(torch.cat((pictures, earlier), 1)) + pictures)


class Growing(nn.Module):
    """Every picture becomes `times` pictures."""

    def __init__(self, width: int, times: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * times, 1, bias=False)
        self.times = times

    def forward(self, pictures: Tensor) -> Tensor:
        return self.conv(pictures).unflatten(1, (self.times, -1)).flatten(0, 1)


class Squashed(nn.Module):
    """Compresses latents far from zero."""

    def forward(self, latents: Tensor) -> Tensor:
        return torch.tanh(latents / 3) * 3


class FastDecoder(nn.Module):
    """`decode` takes normalised latents [1, frame, channel, y, x] and gives pictures in [0, 1], as the codec does.
    `scales` are the mean and deviation of each channel, for weights that were trained on latents at their own scale."""

    mean: Tensor | None
    deviation: Tensor

    def __init__(self, channels: int = 16, widths: tuple[int, ...] = WIDTHS,
                 scales: tuple[Sequence[float], Sequence[float]] | None = None) -> None:
        super().__init__()
        for name, values in zip(("mean", "deviation"), scales or (None, None), strict=True):
            tensor = None if values is None else torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None]
            self.register_buffer(name, tensor, persistent=False)
        layers: list[nn.Module] = [Squashed(), nn.Conv2d(channels, widths[0], 3, padding=1), nn.ReLU()]
        for width, following, times in zip(widths, widths[1:], GROWTH, strict=False):
            layers += [Remembering(width) for _ in range(3)]
            layers += [
                nn.Upsample(scale_factor=2),
                Growing(width, times),
                nn.Conv2d(width, following, 3, padding=1, bias=False),
            ]
        self.decoder = nn.Sequential(*layers, nn.ReLU(), nn.Conv2d(widths[-1], 3, 3, padding=1))

    @torch.no_grad()
    def decode(self, latents: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        if len(latents) != 1:
            raise ValueError(f"{len(latents)} films at once, but one stream has one state")
        made, remembered = [], state or []
        # On a CPU the order of sums must not depend on how a stream is cut: one latent after another.
        step = 1 if latents.device.type == "cpu" else latents.shape[1]
        raw = latents[0] if self.mean is None else latents[0].float() * self.deviation + self.mean
        for some in raw.to(next(self.parameters()).dtype).split(step):
            pictures, remembered = self._some(some, remembered)
            made.append(pictures)
        film = torch.cat(made).float().clamp(0, 1)
        return (film if state else film[TRIMMED:])[None], remembered

    def _some(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The pictures of latents [frame, channel, y, x], and the state for those after them."""
        before, after = iter(state), []
        for layer in self.decoder:
            if isinstance(layer, Remembering):
                after.append(x[-1:].clone())
                x = layer(x, next(before, torch.zeros_like(after[-1])))
            else:
                x = layer(x)
        return x, after


class FastCodec:
    """The fast decoder, with the encoder of the codec that `load` gives: loaded for what comes in, and let go."""

    def __init__(self, decoder: FastDecoder, load: Callable[[], Codec]) -> None:
        self.decode, self._load = decoder.decode, load

    def encode_piece(self, pictures: Tensor, state: tuple[Codec, Any] | None = None) -> tuple[Tensor, Any]:
        codec, before = state or (self._load(), None)
        latents, after = codec.encode_piece(pictures, before)
        return latents, (codec, after)


def decoder_alone(weights: Tensors) -> Tensors:
    """The weights in a file, without those of the encoder."""
    inside = Without(weights, [name for name in weights.names() if name.startswith("encoder.")])
    if not inside.names():
        raise MissingError(
            f"{weights.where}: this file holds no decoder",
            hint="Use the weights for Wan 2.1, named taew2_1 or lighttaew2_1."
        )
    return inside


def room(channels: int, height: int, width: int, size: int) -> tuple[int, int]:
    """Bytes that weights and a stream's state take for latents of this height and width at `size` bytes a value, and
    what decoding one latent needs temporarily: the finest level's features, and those of its convolutions beside
    them."""
    with torch.device("meta"):
        decoder = FastDecoder(channels)
    latent = height * width
    state = 3 * sum(features * 4**level for level, features in enumerate(WIDTHS[:3])) * latent
    finest = 4 * 64 * WIDTHS[-1] * latent
    return (sum(weight.numel() for weight in decoder.parameters()) + state) * size, 3 * finest * size
