"""The codec of `tiny`: four pictures to one small latent frame and back.

A latent frame is one picture, where each of its pixels comes from in the other three, and a correction: the encoder
is shown how things moved, and the decoder moves them. The decoder draws DETAIL dots for each side of a pixel that the
encoder is shown. Every latent frame is coded by itself (the first, which is one picture, as that picture repeated), so
a stream decoded piece by piece equals the whole exactly, and a cut costs nothing. Most of the work is done at a
fraction of the size, so that decoding leaves the time to the transformer. Knows nothing of training; `codec_stage`
holds the losses.
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
DETAIL = 2  # dots that the decoder draws for each side of a pixel
_REACH = 8.0  # dots for each unit of the decoder's output
_MODE_GAINS = (0.5, 2.0, 2.0, 2.0)  # change is small compared with the static part, but matters as much
assert SHRINK == _PIXELS


class _Planar(nn.Conv2d):
    """A convolution of single pixels that leaves each channel together in memory, however its input lies there."""

    def forward(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        weight = self.weight.flatten(1).expand(len(x), -1, -1)
        return torch.baddbmm(self.bias[:, None], weight, x.flatten(2)).unflatten(2, x.shape[-2:])


class TinyCodec(nn.Module):
    """`encode` gives latents of about zero mean and unit deviation in each channel; `decode` takes them back."""

    strides = (_TIME, _SPACE, _SPACE)
    mean: Tensor  # of each channel of raw latents
    std: Tensor

    def __init__(self, channels: int = 24, widths: tuple[int, int, int, int] = (32, 48, 112, 192)) -> None:
        super().__init__()
        self.channels, self.widths = channels, widths
        finest, fine, middle, coarse = widths
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
            nn.Conv2d(fine, DETAIL**2 * finest, 1), nn.PixelShuffle(DETAIL), Residual(finest),
            _Planar(finest, said, 1),
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
        """The inverse of `raw_latents`, DETAIL times as large and not yet limited to [0, 1]; and where in the key
        picture every dot of the others is taken from, in dots right and down: [n, TIME - 1, 2, y, x]."""
        pictures, flow = self._drawn(latents)
        return torch.cat(pictures, 1), flow.movedim(-1, 2)

    def _drawn(self, latents: Tensor) -> tuple[list[Tensor], Tensor]:
        """What `raw_pictures` returns, before it is put together: each picture [n, 3, y, x], and the displacements
        [n, TIME - 1, y, x, 2]."""
        # Convolutions are quicker with channels last; sampling a picture elsewhere is not.
        said = self.decoder(latents.contiguous(memory_format=torch.channels_last)).float()
        key, flow, rest = said.split([part * _PIXELS**2 for part in (3, 2 * _OTHERS, 3 * _OTHERS)], 1)
        key = _spread(key)[..., 0] * 0.5 + 0.5
        flow = _spread(flow, 2) * _REACH
        corrections = _spread(rest)[..., 0].split(3, 1)
        others = [torch.add(moved, correction, alpha=0.5)
                  for moved, correction in zip(_sampled(key, flow), corrections, strict=True)]
        return [*others[:KEY], key, *others[KEY:]], flow

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [b, 1 + 4 (n - 1), 3, y, x] in [0, 1] to latents [b, n, c, y / 16, x / 16]."""
        return self.encode_piece(pictures)[0]

    def encode_piece(self, pictures: Tensor, state: bool | None = None) -> tuple[Tensor, bool]:
        """As `encode`, of a piece of a stream, with the state for the next; all but the first have 4n pictures."""
        count, _, height, width = pictures.shape[1:]
        lead = 0 if state else 1
        if count % _TIME != lead or height % _SPACE or width % _SPACE:
            raise ValueError(
                f"{count} pictures of {width}x{height}: need {lead} + {_TIME}n pictures of multiples of {_SPACE}"
            )
        frames = self.frames(pictures, started=bool(state)).unbind(1)
        latents = torch.stack([self.raw_latents(frame) for frame in frames], 1)
        return (latents - self.mean[:, None, None]) / self.std[:, None, None], True

    @staticmethod
    def frames(pictures: Tensor, started: bool = False) -> Tensor:
        """Pictures [b, p, 3, y, x] grouped for the encoder: [b, n, TIME * 3, y, x]; a stream's first is repeated."""
        if not started:
            pictures = torch.cat((pictures[:, :1].expand(-1, _TIME, -1, -1, -1), pictures[:, 1:]), 1)
        return pictures.unflatten(1, (-1, _TIME)).flatten(2, 3)

    def decode(self, latents: Tensor, state: bool | None = None) -> tuple[Tensor, bool]:
        """Latents [b, n, c, h, w] to pictures in [0, 1], DETAIL times as large as those encoded, and the state to pass
        with the next piece of the stream.

        The first latent frame of a stream (state None) gives one picture, every other four.
        """
        raw = latents * self.std[:, None, None] + self.mean[:, None, None]
        # A frame at a time: the bits of a convolution depend on how many pictures it gets at once; those of a stream
        # must not.
        drawn = [picture.clamp_(0, 1) for frame in raw.unbind(1) for picture in self._drawn(frame)[0]]
        return torch.stack(drawn if state else drawn[_TIME - 1:], 1), True


def _modes(device: torch.device) -> Tensor:
    """The cosine transform over a latent frame's pictures, each mode with its gain: [mode, picture]."""
    at = torch.arange(_TIME, device=device)
    waves = torch.cos(math.pi / _TIME * at[:, None] * (at + 0.5)) * math.sqrt(2 / _TIME)
    waves[0] /= math.sqrt(2)
    return waves * torch.tensor(_MODE_GAINS, device=device)[:, None]


def _spread(said: Tensor, values: int = 1) -> Tensor:
    """A pixel shuffle that keeps the values of a dot together: [n, parts * values * square, h, w] to
    [n, parts, y, x, values]. Columns are copied one by one, which takes a quarter of the time of torch's own."""
    cells = said.unflatten(1, (-1, values, _PIXELS, _PIXELS)).movedim(-2, 3)  # [n, part, value, h, row, column, w]
    columns = [cells[:, :, value, ..., column, :] for column in range(_PIXELS) for value in range(values)]
    count, parts, _, height, _, _, width = cells.shape
    return torch.stack(columns, -1).view(count, parts, height * _PIXELS, width * _PIXELS, values)


def _sampled(picture: Tensor, flow: Tensor) -> list[Tensor]:
    """A picture [n, 3, y, x] sampled elsewhere, some times over: `flow` [n, times, y, x, 2] says how many dots right
    and down."""
    height, width = picture.shape[-2:]
    across = torch.linspace(-1, 1, width, device=flow.device).expand(height, -1)
    down = torch.linspace(-1, 1, height, device=flow.device)[:, None].expand(-1, width)
    dot = torch.linspace(2 / (width - 1), 2 / (height - 1), 2, device=flow.device)  # made there: nothing is waited for
    where = torch.addcmul(torch.stack((across, down), -1), flow, dot)
    return [F.grid_sample(picture, one, padding_mode="border", align_corners=True) for one in where.unbind(1)]
