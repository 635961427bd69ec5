"""Small Triton kernels for what torch would do in many passes over memory, each with an equivalent in plain torch.

Only this module asks which device they run on. Nothing in this folder knows a model, a policy or a film: rows of
numbers go in, rows come out. Triton is part of torch's CUDA builds; where it is missing, callers use torch alone.
"""

import os
from functools import cache

import torch


@cache
def _triton() -> bool:
    try:
        import triton  # noqa: F401
    except ImportError:
        return False
    return True


def usable(device: torch.device) -> bool:
    """Whether these kernels run on the device: an NVIDIA GPU with Triton, or any device under Triton's interpreter."""
    if not _triton():
        return False
    return device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
