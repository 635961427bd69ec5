"""Drawing with distances: anti-aliased shapes painted over a batch of canvases at once.

A shape is an alpha, one number for each pixel between 0 and 1, made from a signed distance in pixels. Knows shapes and
layers; what a meadow looks like is decided in `places`, where the subject stands in `stories`.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

HEIGHT, WIDTH = 128, 192
DEPTHS = 4  # sky, far, middle, near: what a pixel of a place belongs to


def coverage(distance: Tensor, detail: int = 1) -> Tensor:
    """Turns a distance in pixels, negative inside, into the share of each dot that is inside; `detail` dots to a
    pixel's side."""
    return (0.5 - distance * detail).clamp(0, 1)


def reduced(pictures: Tensor, detail: int) -> Tensor:
    """Pictures [..., y, x] of `detail` dots to a pixel's side, at one dot a pixel."""
    if detail == 1:
        return pictures
    return F.avg_pool2d(pictures.flatten(0, -4), detail).unflatten(0, pictures.shape[:-3])


class Canvas:
    """A batch of pictures being painted from far to near. `colour` and `depth` are changed by every `paint`.

    All measures are in pixels of the world, of which the canvas has `detail` dots to a side.
    """

    def __init__(self, batch: int, width: int, device: torch.device, detail: int = 1) -> None:
        self.detail = detail
        self.x = (torch.arange(width * detail, device=device) + 0.5) / detail  # [x]
        self.y = ((torch.arange(HEIGHT * detail, device=device) + 0.5) / detail)[:, None]  # [y, 1]
        self.colour = torch.zeros(batch, 3, HEIGHT * detail, width * detail, device=device)
        self.depth = torch.zeros(batch, HEIGHT * detail, width * detail, device=device)

    def coverage(self, distance: Tensor) -> Tensor:
        return coverage(distance, self.detail)

    def slope(self, ridge: Tensor) -> Tensor:
        """How steeply a skyline falls from each column to the next."""
        return torch.gradient(ridge, spacing=1 / self.detail, dim=-1)[0]

    def paint(self, alpha: Tensor, colour: Tensor, depth: int | None = None) -> None:
        """Alpha [n, y, x]; colour [n, 3], or [n, 3, y|1, x|1]. Depth None leaves the pixels' layer (light, shade)."""
        if colour.dim() == 2:
            colour = colour[:, :, None, None]
        self.colour.lerp_(colour.expand_as(self.colour), alpha[:, None].expand_as(self.colour))
        if depth is not None:
            self.depth.masked_fill_(alpha > 0.5, depth)

    def below(self, ridge: Tensor) -> Tensor:
        """Everything under a skyline, given by its height in pixels from the top, for each column: [n, x]."""
        slope = self.slope(ridge)
        return self.coverage((ridge[:, None] - self.y) / (1 + slope * slope).sqrt()[:, None])

    def disc(self, cx: Tensor, cy: Tensor, radius: Tensor) -> Tensor:
        return self.coverage(self.distance(cx, cy) - radius[:, None, None])

    def distance(self, cx: Tensor, cy: Tensor) -> Tensor:
        return torch.hypot(self.x - cx[:, None, None], self.y - cy[:, None, None])

    def blob(self, cx: Tensor, cy: Tensor, rx: Tensor, ry: Tensor) -> Tensor:
        """A filled ellipse."""
        far = torch.hypot(
            (self.x - cx[:, None, None]) / rx[:, None, None], (self.y - cy[:, None, None]) / ry[:, None, None]
        )
        return self.coverage((far - 1) * torch.minimum(rx, ry)[:, None, None])

    def stroke(self, ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor, radius: Tensor) -> Tensor:
        """A thick line with round ends."""
        ax, ay, dx, dy = (v[:, None, None] for v in (ax, ay, bx - ax, by - ay))
        px, py = self.x - ax, self.y - ay
        along = ((px * dx + py * dy) / (dx * dx + dy * dy).clamp_min(1e-6)).clamp(0, 1)
        return self.coverage(torch.hypot(px - along * dx, py - along * dy) - radius[:, None, None])


def waves(x: Tensor, chance: Tensor, base: Tensor, height: float, length: float) -> Tensor:
    """A rolling skyline: three sines with random phases (chance [n, 3]) around `base` [n]."""
    turn = torch.arange(1, 4, device=x.device)
    angle = 2 * torch.pi * (x / length * (0.6 + 0.4 * turn)[:, None] + chance[:, :3, None])
    return base[:, None] - height * (angle.sin() / turn[:, None]).sum(1) / 1.5  # [n, x]


def tents(x: Tensor, centre: Tensor, height: Tensor, half: Tensor, base: Tensor) -> Tensor:
    """A skyline of peaks: the highest of k triangles at each column; centre, height and half-width are [n, k]."""
    rise = height[..., None] * (1 - (x - centre[..., None]).abs() / half[..., None]).clamp_min(0)
    return base[:, None] - rise.amax(1)  # [n, x]


def stairs(x: Tensor, edges: Tensor, heights: Tensor) -> tuple[Tensor, Tensor]:
    """A skyline of boxes: for each column the height and the distance from its box's left edge; edges [n, k] ascend."""
    box = torch.searchsorted(edges.contiguous(), x.expand(len(edges), -1).contiguous()).sub_(1).clamp_(0)
    return heights.gather(1, box), x - edges.gather(1, box)  # [n, x] each


def stamp(pictures: Tensor, alpha: Tensor, colour: Tensor, left: Tensor, top: Tensor) -> None:
    """Paint a small patch [n, h, w] onto each picture [n, 3, y, x] at its own corner. Changes the pictures."""
    height, width = alpha.shape[1:]
    windows = pictures.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)  # [n, top, left, 3, h, w]
    each = torch.arange(len(pictures), device=pictures.device)
    windows[each, top, left] = windows[each, top, left].lerp(colour, alpha[:, None].expand_as(colour))
