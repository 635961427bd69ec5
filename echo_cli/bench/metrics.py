"""What can be measured on pictures and their times alone, whatever model made them.

Pictures are floats in [0, 1]; a film is [picture, 3, y, x] and a still [3, y, x], or several of them [n, 3, y, x]. Each
function says which values are good. Which pictures are compared with which is `judging`'s business; what a prompt means
is `meaning`'s.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

_BANDS = 8  # bands of rows whose colours are compared, where position does not matter
_SMALL = 96  # pixels, the width at which mixtures are unmixed
_AROUND = 9  # side of the square, in those pixels, whose mean is subtracted from its middle
_LEVELS = 5  # of the pyramid
_STILL = 0.5 / 255  # smaller changes count as none, since a still film has no usual step


# ---------------------------------------------------------------- how similar two stills are


def background(pictures: Tensor) -> Tensor:
    """The place without what moves through it: the median over time of a film, or of several [film, picture, 3, y, x].
    A subject that stands still is part of the place."""
    return pictures.median(-4).values


def decibels(picture: Tensor, other: Tensor) -> Tensor:
    """PSNR of each still; higher is more similar."""
    return -10 * (picture - other).square().mean((-3, -2, -1)).clamp(min=1e-8).log10()


def ssim(picture: Tensor, other: Tensor) -> Tensor:
    """Structural similarity of luminance in Gaussian windows, of each of some stills [n, 3, y, x]; 1 is the same."""
    one, two = _luminance(picture), _luminance(other)
    mean_one, mean_two = _gauss(one), _gauss(two)
    spread_one, spread_two = _gauss(one * one) - mean_one**2, _gauss(two * two) - mean_two**2
    shared = _gauss(one * two) - mean_one * mean_two
    light = (2 * mean_one * mean_two + 1e-4) / (mean_one**2 + mean_two**2 + 1e-4)
    structure = (2 * shared + 9e-4) / (spread_one + spread_two + 9e-4)
    return (light * structure).mean((1, 2, 3))


def perceptual(picture: Tensor, other: Tensor) -> Tensor:
    """How different some stills [n, 3, y, x] look; 0 is the same, about 1 is nothing in common.

    A Laplacian pyramid in luminance and two opponent colours, every band divided by the activity around it as the eye
    does, so that structure counts where there is little and is masked where there is much. No learned weights.
    """
    apart = [
        (one - two).square().mean((1, 2, 3)).sqrt() for one, two in zip(_pyramid(picture), _pyramid(other), strict=True)
    ]
    return torch.stack(apart).mean(0)


def _pyramid(pictures: Tensor) -> list[Tensor]:
    rest = torch.stack((pictures.mean(1), pictures[:, 0] - pictures[:, 1], pictures[:, :2].mean(1) - pictures[:, 2]), 1)
    bands = []
    for _ in range(_LEVELS):
        if min(rest.shape[-2:]) < 8:
            break
        coarse = F.avg_pool2d(_blur(rest), 2, ceil_mode=True)
        band = rest - F.interpolate(coarse, size=rest.shape[-2:], mode="bilinear", align_corners=False)
        bands.append(band / (0.05 + 2 * _blur(band.abs())))
        rest = coarse
    return [*bands, 2 * rest]


@cache
def _kernel(values: tuple[float, ...], channels: int) -> Tensor:
    line = torch.tensor(values)
    square = line[:, None] * line
    return (square / square.sum()).expand(channels, 1, -1, -1)


def _blur(x: Tensor) -> Tensor:
    kernel = _kernel((1.0, 4.0, 6.0, 4.0, 1.0), x.shape[1]).to(x)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), kernel, groups=x.shape[1])


def _gauss(x: Tensor) -> Tensor:
    line = torch.exp(-(torch.arange(-5.0, 6.0) / 1.5) ** 2 / 2)
    return F.conv2d(x, _kernel(tuple(line.tolist()), 1).to(x))


def _luminance(pictures: Tensor) -> Tensor:
    return (pictures * pictures.new_tensor((0.299, 0.587, 0.114))[:, None, None]).sum(1, keepdim=True)


# ---------------------------------------------------------------- after a cut


def left_of(old: Tensor, new: Tensor, pictures: Tensor) -> Tensor:
    """How much of the place `old` is left in each picture of a film; 0 is nothing, 1 is all of it.

    Each picture is explained as a mixture of `old` and of `new`, what the prompt alone would show; the share of `old`
    is what remains of it. Only detail counts, since all places have a sky.
    """
    seen, was, will = (_detail(x) for x in (pictures, old[None], new[None]))
    was, will = was[0], will[0]
    both = torch.stack((was, will))  # [2, pixel]
    gram = both @ both.T + 1e-3 * was.square().sum() * torch.eye(2, device=was.device)
    return torch.linalg.solve(gram, both @ seen.T)[0]


def _detail(pictures: Tensor) -> Tensor:
    """The detail of small pictures: what stands where, without the colours that places of one kind share. [n, value]"""
    small = F.avg_pool2d(pictures, max(1, pictures.shape[-1] // _SMALL))
    return (small - F.avg_pool2d(small, _AROUND, 1, _AROUND // 2, count_include_pad=False)).flatten(1)


def response(old: Tensor, new: Tensor, pictures: Tensor, lasting: int) -> int:
    """Pictures until a film shows the new scene and keeps showing it for `lasting` pictures; its length if it never
    does.

    The new scene is shown when the colours and the texture are closer to `new`, what the prompt alone would show, than
    to `old`; where things are in the picture does not matter.
    """
    seen, was, will = (_character(x) for x in (pictures, old[None], new[None]))
    there = ((seen - will).abs().mean(1) < (seen - was).abs().mean(1)).tolist()
    for first in range(len(there)):
        if all(there[first:first + lasting]):
            return first
    return len(there)


def _character(pictures: Tensor) -> Tensor:
    """Colour, its spread, and sharpness of each of a few bands of rows: [n, feature]."""
    rows = pictures.shape[2] // _BANDS * _BANDS
    bands = pictures[:, :, :rows].unflatten(2, (_BANDS, -1))
    sharp = bands.diff(dim=-1).abs().mean((-2, -1))
    return torch.cat((bands.mean((-2, -1)), bands.std((-2, -1)), 4 * sharp), 1).flatten(1)


# ---------------------------------------------------------------- over time


def steps(pictures: Tensor, size: int) -> Tensor:
    """Change from each `size` pictures to the next, as the mean distance of their means: a codec that draws that many
    at a time moves in jumps of that length, and a jump inside a step is not an event. [step]"""
    count = len(pictures) // size
    means = pictures[len(pictures) - count * size:].unflatten(0, (count, size)).mean(1)
    return means.diff(dim=0).abs().mean((1, 2, 3))


def jump(before: Tensor, after: Tensor, size: int) -> float:
    """The step across a boundary against the usual step beside it; 1 is an invisible boundary."""
    usual = torch.cat((steps(before, size), steps(after[:len(after) // size * size], size))).median().item()
    across = (before[-size:].mean(0) - after[:size].mean(0)).abs().mean().item()
    return across / max(usual, _STILL)


def motion(pictures: Tensor, size: int) -> float:
    """How much happens, in per cent of full scale a step; 0 is a still film."""
    return 100 * steps(pictures, size).mean().item()


@dataclass(frozen=True)
class Look:
    """Colour, contrast and sharpness of a few pictures."""

    colour: tuple[float, float, float]
    contrast: float
    sharpness: float


def look(pictures: Tensor) -> Look:
    mean = pictures.mean((0, 2, 3))
    red, green, blue = mean.tolist()
    spread = (pictures - mean[:, None, None]).square().mean().sqrt()
    sharp = (pictures.diff(dim=-1).abs().mean() + pictures.diff(dim=-2).abs().mean()) / 2
    return Look((red, green, blue), spread.item(), sharp.item())


@dataclass(frozen=True)
class Drift:
    """How far a look has moved from another, in per cent: colour of full scale, the others of what they were."""

    colour: float
    contrast: float
    sharpness: float

    @property
    def total(self) -> float:
        """Regardless of direction; 0 is none."""
        return (self.colour + abs(self.contrast) + abs(self.sharpness)) / 3


def drift(first: Look, now: Look) -> Drift:
    far = max(abs(a - b) for a, b in zip(first.colour, now.colour, strict=True))
    return Drift(100 * far, 100 * (now.contrast / max(first.contrast, _STILL) - 1),
                 100 * (now.sharpness / max(first.sharpness, _STILL) - 1))


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Least squares, in units of value a unit of time."""
    x, y = torch.tensor(times, dtype=torch.float64), torch.tensor(values, dtype=torch.float64)
    x = x - x.mean()
    return ((x * (y - y.mean())).sum() / x.square().sum().clamp(min=1e-12)).item()
