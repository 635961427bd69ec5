"""Remembered frames in eight bits: each channel of a frame has a scale of its own, by its greatest value.

The one quantiser of remembered keys and values, for what waits on the host and for what is written to files. Knows
tensors; which frames are kept so, and where, is not known here.
"""

import torch
from torch import Tensor

MOST = 127


def packed(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [..., token, head, dim] as codes of the same shape, and scales [..., 1, head, dim] in float32."""
    scales = frames.float().abs().amax(-3, keepdim=True).clamp(min=1e-12) / MOST
    return (frames / scales).round().to(torch.int8), scales


def unpacked(codes: Tensor, scales: Tensor) -> Tensor:
    """The frames again, in float32."""
    return codes * scales
