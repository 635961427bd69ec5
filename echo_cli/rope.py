"""Rotary positions in three dimensions: the angle by which each token of a frame is rotated.

Knows positions, not memory: a frame's place in time is an integer that a layout gives it; its rows and columns never
change. Angles are computed in float64 and kept as complex64, one table per film.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from echo_cli.spec import Grid, ModelSpec

THETA = 10_000.0


def frequencies(pairs: int) -> Tensor:
    """Angle per position of each rotated pair, float64."""
    return THETA ** -(torch.arange(pairs, dtype=torch.float64) / pairs)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate x [..., token, head, dim] by rotation [token, dim/2]; float32 inside, since bfloat16 would blur angles."""
    turned = torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * rotation.unsqueeze(-2)
    return torch.view_as_real(turned).flatten(-2).to(x.dtype)


Turn = Callable[[Tensor, Tensor], Tensor]


def rotate_pairs(x: Tensor, rotation: Tensor) -> Tensor:
    """`rotate` for compilers, which fuse real operations but not complex ones: rotation [token, dim/2, 2]."""
    cos, sin = rotation.unsqueeze(-3).unbind(-1)
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2).to(x.dtype)


class RopeTable:
    """Rotations of whole frames, by temporal position."""

    def __init__(self, spec: ModelSpec, grid: Grid, device: torch.device | str = "cpu") -> None:
        time, rows, cols = spec.pairs
        self.positions = spec.positions
        spatial = torch.cat((torch.outer(torch.arange(grid.rows), frequencies(rows))[:, None].expand(-1, grid.cols, -1),
                             torch.outer(torch.arange(grid.cols), frequencies(cols))[None].expand(grid.rows, -1, -1)),
                            dim=-1).flatten(0, 1)  # [token, rows + cols pairs]
        self.spatial = torch.polar(torch.ones_like(spatial), spatial).to(torch.complex64).to(device)
        angles = torch.outer(torch.arange(spec.positions, dtype=torch.float64), frequencies(time))
        self.temporal = torch.polar(torch.ones_like(angles), angles).to(torch.complex64).to(device)  # [position, pair]

    def frames(self, first: int, count: int) -> Tensor:
        """Rotation [count * token, dim/2] of consecutive frames from position `first`."""
        assert first >= 0 and first + count <= self.positions, (
            f"positions {first}..{first + count - 1} are not in the table"
        )
        time = self.temporal[first:first + count, None].expand(-1, len(self.spatial), -1)
        return torch.cat((time, self.spatial.expand(count, -1, -1)), dim=-1).flatten(0, 1)
