"""Searching for motion between two pictures, as every video encoder does: no weights, no learning.

The second picture is laid over the first at every displacement within reach; where they agree, things have moved to.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SHRINK = 4  # pixels for each value of the result
_HALF = 2  # pictures are compared at half their size
_REACH = (9, 5)  # pixels of that size, up or down and to either side
_WINDOW = 5
_SHARP = 200.0  # how much less likely a displacement is for each unit of difference
_REST = 0.0015  # what a pixel of displacement must gain to be accepted
_GREY = (0.5, 0.3, 0.2)  # unequal, so that colours of one brightness differ


def displacement(first: Tensor, second: Tensor) -> Tensor:
    """How far, in pixels right and down, the content of `first` [n, 3, y, x] has moved in `second`: [n, 2, y / 4, x /
    4]."""
    grey = torch.tensor(_GREY, device=first.device)[:, None, None]
    before, after = (F.avg_pool2d((picture.float() * grey).sum(1, keepdim=True), _HALF) for picture in (first, second))
    down, across = _REACH
    height, width = before.shape[-2:]
    around = F.pad(after, (across, across, down, down), mode="replicate")
    moves = [(x - across, y - down) for y in range(2 * down + 1) for x in range(2 * across + 1)]
    apart = torch.cat(
        [(before - around[..., y + down : y + down + height, x + across : x + across + width]).abs() for x, y in moves],
        1,
    )
    apart = F.avg_pool2d(apart, _WINDOW, SHRINK // _HALF, _WINDOW // 2)
    move = _HALF * torch.tensor(moves, dtype=torch.float32, device=first.device)
    unlikely = apart + _REST * move.norm(dim=1)[:, None, None]
    return torch.einsum("nkyx,kc->ncyx", torch.softmax(-_SHARP * unlikely, 1), move)
