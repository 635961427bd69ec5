"""What makes a large model's passes quick on a device; chosen once, when the model is loaded. Results stay the same.

A pass is, for every layer, two compiled pieces (before and after memory), one compiled rotation, and attention by the
best kernel that is there. All layers share the pieces, since weights are their inputs and shapes never change. What
remains between them is launched from Python well ahead of the device, so graphs would have nothing to gain.
"""

import inspect
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from echo_cli.models.layers import TransformerBlock, attend
from echo_cli.models.transformer import Transformer
from echo_cli.rope import rotate_pairs

Attend = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]

BEST_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
PRIORITIES = "set_priority" in inspect.signature(sdpa_kernel).parameters  # torch 2.6; before it, torch chooses


def compile_passes(transformer: Transformer, backend: str = "inductor") -> None:
    """Compile what stands between two attentions. The first pass takes as long as the compiler does."""
    ask, answer, turn = (torch.compile(piece, fullgraph=True, backend=backend)
                         for piece in (TransformerBlock.ask, TransformerBlock.answer, rotate_pairs))
    for block in transformer.blocks:
        block.ask, block.answer = MethodType(ask, block), MethodType(answer, block)
    transformer.turn = lambda x, rotation: turn(x, torch.view_as_real(rotation))


def choose_attention(transformer: Transformer) -> str:
    """The best kernel that this device has for long attention, and its name."""
    name, chosen = _best(transformer.device, transformer.dtype)
    for block in transformer.blocks:
        block.self_attn.attend = chosen
    return name


def _best(device: torch.device, dtype: torch.dtype) -> tuple[str, Attend]:
    if device.type != "cuda":
        return "torch", attend
    hopper = torch.cuda.get_device_capability(device) == (9, 0)
    if hopper and dtype in (torch.bfloat16, torch.float16) and (kernel := _flash_attn_func()):
        return "FlashAttention 3", partial(_flash_attention_3, kernel)
    return ("torch, cuDNN first", _cudnn_first) if PRIORITIES else ("torch", attend)


def _flash_attn_func() -> Callable[..., Any] | None:
    """FlashAttention 3's function, if it is installed and was built for this torch."""
    try:
        from flash_attn_interface import flash_attn_func
    except (ImportError, OSError):
        return None
    return flash_attn_func


def _cudnn_first(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    # With a bias, cuDNN finds no plan for some shapes, and says so too late for another kernel to take over.
    with sdpa_kernel(BEST_FIRST if bias is None else BEST_FIRST[1:], set_priority=True):
        return attend(query, keys, values, bias)


def _flash_attention_3(kernel: Callable[..., Any], query: Tensor, keys: Tensor, values: Tensor,
                       bias: Tensor | None = None) -> Tensor:
    if bias is not None:  # it takes none
        return attend(query, keys, values, bias)
    out = kernel(query, keys, values)  # [batch, token, head, dim], as ours are; older ones give the log-sums too
    return (out[0] if isinstance(out, tuple) else out).flatten(2)
