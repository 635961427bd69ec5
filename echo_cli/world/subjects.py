"""The four subjects and the six colours: large, unmistakable shapes, shaded from the upper left, with a shadow below.

Knows how a subject looks at a point of the picture; where it goes is decided in `stories`.
"""

import torch
from torch import Tensor

from echo_cli.world.draw import HEIGHT, WIDTH, coverage, stamp

COLOUR_VALUES = (  # in the order of `tiny.words.COLOURS`
    (0.90, 0.13, 0.12),
    (1.00, 0.84, 0.08),
    (0.08, 0.72, 0.22),
    (0.10, 0.32, 0.95),
    (0.50, 0.16, 0.80),
    (1.00, 0.48, 0.74),
)
# From a subject's centre to its foot, in radii, in the order of `tiny.words.SUBJECTS`.
_FOOT = (1.0, 0.86, 0.58, 0.86)
TINTS = ((1.0, 1.0, 1.0), (1.0, 0.92, 0.84), (0.80, 0.82, 0.92))  # day, sunset, night
_PATCH = 60  # pixels; room for the largest subject
_SHADOW = 14  # pixels; height of the shadow's patch


def _star(x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Signed distance to a five-pointed star with rounded points, one of them up."""
    fifth = 2 * torch.pi / 5
    angle = torch.atan2(x, -y)
    angle = (angle - fifth * (angle / fifth).round()).abs()
    reach = torch.hypot(x, y)
    px, py = reach * angle.cos(), reach * angle.sin()  # folded: the point lies on the x axis
    tip, notch = radius * 1.12, radius * 0.58
    nx, ny = notch * 0.80902, notch * 0.58779  # the notch, half a fifth away
    ex, ey = nx - tip, ny
    return ((px - tip) * ey - py * ex) / torch.hypot(ex, ey) - 1.2


def distance(shape: Tensor, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Signed distance in pixels from points [n, h, w], given from the centre, to shapes [n] of a radius [n]."""
    r = radius[:, None, None]
    ball = torch.hypot(x, y) - r
    half = r * 0.86 - 3
    qx, qy = x.abs() - half, y.abs() - half
    box = torch.hypot(qx.clamp_min(0), qy.clamp_min(0)) + torch.maximum(qx, qy).clamp_max(0) - 3
    triangle = torch.maximum(y - r * 0.58, x.abs() * 0.86603 - y * 0.5 - r * 0.58)
    every = torch.stack((ball, box, triangle, _star(x, y, r)), 1)  # [n, shape, h, w]
    return every[torch.arange(len(shape), device=shape.device), shape]


def foot(shape: Tensor) -> Tensor:
    """From centre to ground, in radii."""
    return torch.tensor(_FOOT, device=shape.device)[shape]


def _corner(centre: Tensor, size: int, limit: int) -> Tensor:
    """First pixel of a patch around `centre`, kept inside the picture."""
    return (centre.round().long() - size // 2).clamp(0, limit - size)


def _grid(left: Tensor, top: Tensor, width: int, height: int, detail: int) -> tuple[Tensor, Tensor]:
    """Where the dots of a patch lie, in pixels of the world."""
    x = left[:, None, None] + torch.arange(width, device=left.device) + 0.5
    y = top[:, None, None] + torch.arange(height, device=left.device)[:, None] + 0.5
    return x / detail, y / detail


def draw_subject(
    pictures: Tensor, shape: Tensor, colour: Tensor, time: Tensor, radius: Tensor, centre: Tensor, ground: Tensor, *,
    detail: int = 1,
) -> None:
    """Paint shadow and subject onto pictures [n, 3, y, x], which are changed; centre [n, 2] and ground [n] in pixels of
    the world, of which the pictures have `detail` dots to a side."""
    device, patch, flat = pictures.device, _PATCH * detail, _SHADOW * detail
    cx, cy = centre.unbind(1)
    left, top = _corner(cx * detail, patch, WIDTH * detail), _corner(ground * detail, flat, HEIGHT * detail)
    x, y = _grid(left, top, patch, flat, detail)
    lift = ((ground - cy) / radius - foot(shape)).clamp_min(0)  # in radii above the ground
    spread = radius * (0.95 - 0.18 * lift)
    far = torch.hypot(
        (x - cx[:, None, None]) / spread[:, None, None], (y - ground[:, None, None]) / (spread * 0.2)[:, None, None]
    )
    dark = ((1.15 - far) / 0.3).clamp(0, 1) * (0.42 - 0.12 * lift).clamp_min(0.1)[:, None, None]
    stamp(
        pictures,
        dark,
        pictures.new_tensor((0.04, 0.05, 0.10))[:, None, None].expand(len(x), 3, flat, patch),
        left,
        top,
    )

    top = _corner(cy * detail, patch, HEIGHT * detail)
    x, y = _grid(left, top, patch, patch, detail)
    x, y = x - cx[:, None, None], y - cy[:, None, None]
    inside = distance(shape, x, y, radius)
    base = pictures.new_tensor(COLOUR_VALUES)[colour] * torch.tensor(TINTS, device=device)[time]
    light = 1 - 0.16 * (x + 1.5 * y) / radius[:, None, None] - 0.38 * coverage(-2.0 - inside, detail)  # a darker rim
    shaded = (base[:, :, None, None] * light[:, None]).clamp(0, 1)
    stamp(pictures, coverage(inside, detail), shaded, left, top)


def cover(shape: Tensor, radius: Tensor, centre: Tensor, step: int) -> Tensor:
    """Share of each square of `step` pixels covered by the subject, sampled every four pixels: [n, rows, columns]."""
    x, y = (torch.arange(2, size, 4, device=shape.device).float() for size in (WIDTH, HEIGHT))
    x = (x - centre[:, 0, None])[:, None, :].expand(-1, len(y), -1)
    y = (y - centre[:, 1, None])[:, :, None].expand(-1, -1, x.shape[2])
    inside = (0.5 - distance(shape, x, y, radius) / 4).clamp(0, 1)
    return torch.nn.functional.avg_pool2d(inside[:, None], step // 4)[:, 0]
