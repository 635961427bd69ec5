"""The codec of `tiny`: four pictures to one small latent frame and back.

A latent frame is one picture, where each of its pixels comes from in the other three, and a correction: the encoder
is shown how things moved, and the decoder moves them. Every latent frame is coded by itself (the first, which is
one picture, as that picture repeated), so a stream decoded piece by piece equals the whole exactly, and a cut costs
nothing. Most of the work is done at a sixteenth and an eighth of the size, so that decoding leaves the time to the
transformer. Knows nothing of training; `codec_stage` holds the losses.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from echo_cli.models.tiny.motion import SHRINK, displacement
from echo_cli.models.tiny.residual import Residual

_PIXELS = 4  # side of the squares that pictures are first divided into
_TIME, _SPACE = 4, 16
KEY = 1  # the picture of a latent frame from which the others are moved
_OTHERS = _TIME - 1
_REACH = 4.0  # pixels for each unit of the decoder's output
_MODE_GAINS = (0.5, 2.0, 2.0, 2.0)  # change is small beside the static part, and matters as much
assert SHRINK == _PIXELS


class TinyCodec(nn.Module):
    """`encode` gives latents of about zero mean and unit deviation in each channel; `decode` takes them back."""

    strides = (_TIME, _SPACE, _SPACE)
    mean: Tensor  # of each channel of raw latents
    std: Tensor

    def __init__(self, channels: int = 24, widths: tuple[int, int, int] = (48, 112, 192)) -> None:
        super().__init__()
        self.channels, self.widths = channels, widths
        fine, middle, coarse = widths
        seen = 3 * _TIME * _PIXELS**2 + 2  # the pictures, and how far things moved
        # a picture; for each of the others two numbers of displacement and three of correction
        said = (3 + 5 * _OTHERS) * _PIXELS**2
        self.encoder = nn.Sequential(
            nn.Conv2d(seen, fine, 3, padding=1), Residual(fine),
            nn.PixelUnshuffle(2), nn.Conv2d(4 * fine, middle, 1), Residual(middle),
            nn.PixelUnshuffle(2), nn.Conv2d(4 * middle, coarse, 1), Residual(coarse),
            nn.Conv2d(coarse, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, coarse, 3, padding=1), Residual(coarse),
            nn.Conv2d(coarse, 4 * middle, 1), nn.PixelShuffle(2), Residual(middle),
            nn.Conv2d(middle, 4 * fine, 1), nn.PixelShuffle(2), Residual(fine), Residual(fine),
            nn.Conv2d(fine, said, 1), nn.PixelShuffle(_PIXELS),
        )
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def raw_latents(self, frames: Tensor) -> Tensor:
        """Frames [n, TIME * 3, y, x] in [0, 1] to latents [n, c, h, w] before normalisation."""
        pictures = frames.unflatten(1, (_TIME, 3)) * 2 - 1
        modes = torch.einsum("kt,ntcyx->nkcyx", _modes(frames.device), pictures).flatten(1, 2)
        moved = displacement(frames[:, :3], frames[:, -3:]) / _OTHERS
        return self.encoder(torch.cat((F.pixel_unshuffle(modes, _PIXELS), moved.to(modes.dtype)), 1))

    def raw_pictures(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """The inverse of `raw_latents`, not yet limited to [0, 1], and the displacement in the key picture from which
        every pixel of the others is taken, in pixels right and down: [n, TIME - 1, 2, y, x]."""
        said = self.decoder(latents).float()
        key, flow, rest = said[:, :3], said[:, 3 : 3 + 2 * _OTHERS], said[:, 3 + 2 * _OTHERS :]
        flow = _REACH * flow.unflatten(1, (_OTHERS, 2))
        others = _moved(key, flow) + rest.unflatten(1, (_OTHERS, 3))
        pictures = torch.cat((others[:, :KEY], key[:, None], others[:, KEY:]), 1)
        return pictures.flatten(1, 2) * 0.5 + 0.5, flow

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [b, 1 + 4 (n - 1), 3, y, x] in [0, 1] to latents [b, n, c, y / 16, x / 16]."""
        count, _, height, width = pictures.shape[1:]
        if count % _TIME != 1 or height % _SPACE or width % _SPACE:
            raise ValueError(
                f"{count} pictures of {width}x{height}: need 1 + {_TIME}n pictures of multiples of {_SPACE}"
            )
        latents = torch.stack([self.raw_latents(frame) for frame in self.frames(pictures).unbind(1)], 1)
        return (latents - self.mean[:, None, None]) / self.std[:, None, None]

    @staticmethod
    def frames(pictures: Tensor, started: bool = False) -> Tensor:
        """Pictures [b, p, 3, y, x] grouped for the encoder: [b, n, TIME * 3, y, x]; a stream's first is repeated."""
        if not started:
            pictures = torch.cat((pictures[:, :1].expand(-1, _TIME, -1, -1, -1), pictures[:, 1:]), 1)
        return pictures.unflatten(1, (-1, _TIME)).flatten(2, 3)

    def decode(self, latents: Tensor, state: bool | None = None) -> tuple[Tensor, bool]:
        """Latents [b, n, c, h, w] to pictures in [0, 1], and the state to pass with the next piece of the stream.

        The first latent frame of a stream (state None) gives one picture, every other four.
        """
        raw = latents * self.std[:, None, None] + self.mean[:, None, None]
        # A frame at a time: the bits of a convolution depend on how many pictures it gets at once; those of a stream
        # must not.
        frames = [self.raw_pictures(frame)[0].clamp(0, 1).unflatten(1, (_TIME, 3)) for frame in raw.unbind(1)]
        pictures = torch.cat(frames, 1)
        return (pictures if state else pictures[:, _TIME - 1 :]), True


def _modes(device: torch.device) -> Tensor:
    """The cosine transform over a latent frame's pictures, each mode with its gain: [mode, picture]."""
    at = torch.arange(_TIME, device=device)
    waves = torch.cos(math.pi / _TIME * at[:, None] * (at + 0.5)) * math.sqrt(2 / _TIME)
    waves[0] /= math.sqrt(2)
    return waves * torch.tensor(_MODE_GAINS, device=device)[:, None]


def _moved(picture: Tensor, flow: Tensor) -> Tensor:
    """A picture [n, 3, y, x] sampled elsewhere: `flow` [n, m, 2, y, x] says how many pixels right and down."""
    height, width = picture.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[:, :, 0]
    y = torch.arange(height, device=flow.device)[:, None] + flow[:, :, 1]
    where = torch.stack((2 * x / (width - 1) - 1, 2 * y / (height - 1) - 1), -1)
    each = [F.grid_sample(picture, one, padding_mode="border", align_corners=True) for one in where.unbind(1)]
    return torch.stack(each, 1)
