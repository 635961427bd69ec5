"""What makes a large model's passes fast on a device; chosen once, when the model is loaded. Results are the same
except for rounding.

On a GPU our own kernels do everything between matrix products and attentions, ready within seconds, and whole passes
are recorded (`fused`). Elsewhere torch compiles two pieces per layer, before and after memory, and rotation; all layers
share them, since weights are their inputs and shapes never change. Attention uses the fastest kernel available.
"""

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from echo_cli.eight import Codes
from echo_cli.kernels import usable
from echo_cli.models.files.eight_bits import LIMIT, EightBits
from echo_cli.models.layers import Attend, TransformerBlock, attend
from echo_cli.models.transformer import Transformer
from echo_cli.rope import rotate_pairs

BEST_FIRST = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
# Modules that have FlashAttention 3: its own, and the forward part alone in a package that installs from an index.
INTERFACES = {"flash_attn_interface": (torch.bfloat16, torch.float16), "fa3_fwd_interface": (torch.bfloat16,)}
PRIORITIES = "set_priority" in inspect.signature(sdpa_kernel).parameters  # torch 2.6; before it, torch chooses


def compile_passes(transformer: Transformer, backend: str = "inductor") -> None:
    """Compile what lies between two attentions. The first pass includes the compiler's time."""
    pieces = {name: torch.compile(getattr(TransformerBlock, name), fullgraph=True, backend=backend)
              for name in ("ask", "answer")}
    for block in transformer.layers:
        for name, piece in pieces.items():
            setattr(block, name, MethodType(piece, block))
    turn = torch.compile(rotate_pairs, fullgraph=True, backend=backend)
    transformer.turn = lambda x, rotation: turn(x, torch.view_as_real(rotation))


def quicken(transformer: Transformer, graphs: bool = True) -> str:
    """Make passes fast on the transformer's device, and return how in words."""
    if transformer.device.type == "cuda" and usable(transformer.device):
        from echo_cli.models.fused import fuse_passes

        fuse_passes(transformer, graphs)
        return "fused kernels, passes as graphs" if graphs else "fused kernels"
    compile_passes(transformer)
    return "compiled"


def choose_attention(transformer: Transformer) -> str:
    """The fastest kernel for long attention on this device, and its name."""
    name, chosen = _best(transformer.device, transformer.dtype)
    for block in transformer.layers:
        block.self_attn.attend = chosen
    return name


def attention_name(device: torch.device, dtype: torch.dtype) -> str:
    """The name of the kernel that is chosen for attention on a device. Another one rounds differently."""
    return _best(device, dtype)[0]


def _best(device: torch.device, dtype: torch.dtype) -> tuple[str, Attend]:
    if device.type != "cuda":
        return "torch", attend
    kernel, _ = flash_attention_3(device, dtype)
    if kernel is not None:
        return "FlashAttention 3", partial(_flash_attention_3, kernel)
    return ("torch, cuDNN first", _cudnn_first) if PRIORITIES else ("torch", attend)


def flash_attention_3(device: torch.device, dtype: torch.dtype) -> tuple[Callable[..., Any] | None, str]:
    """FlashAttention 3's function for a device, or None; and in words what is used, or why there is none."""
    if torch.cuda.get_device_capability(device) != (9, 0):
        return None, "FlashAttention 3 is for Hopper"
    reasons = []
    for name, dtypes in INTERFACES.items():
        if dtype not in dtypes:
            reasons.append(f"{name} does not take {str(dtype).removeprefix('torch.')}")
            continue
        try:
            return importlib.import_module(name).flash_attn_func, f"FlashAttention 3 ({name})"
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError, AttributeError) as error:  # built for another torch, or for none
            reasons.append(f"{name} cannot be loaded ({error})")
    return None, "; ".join(reasons) or "FlashAttention 3 is not installed: pip install 'echo-cli[hopper]'"


def eight_bit_attention(device: torch.device, dtype: torch.dtype) -> tuple[Callable[[Codes], Tensor] | None, str]:
    """The kernel for attention in eight bits on a device, or None; and in words which it is, or why there is none."""
    if device.type != "cuda":
        return None, "a CPU has no kernel for it"
    kernel, words = flash_attention_3(device, dtype)
    return (None, words) if kernel is None else (partial(_flash_attention_3_of_codes, kernel), words)


def eight_bit_layers(result: EightBits | None, device: torch.device,
                     dtype: torch.dtype) -> tuple[tuple[int, ...], Callable[[Codes], Tensor] | None, str]:
    """Which layers of a model with --fast attend in eight bits on a device, by which kernel, and that in words, or why
    none does. `result` is what was measured for its weights."""
    kernel, words = eight_bit_attention(device, dtype)
    if kernel is None:
        return (), None, f"attention is not in eight bits: {words}"
    if result is None:
        return (), None, ("attention is not in eight bits: how far that moves this model has not been measured "
                          "(echo-cli bench fast --model … --keep)")
    count, limit = len(result.distances), f"within {LIMIT:.0%}, measured on {result.device}"
    if not result.layers:
        return (), None, f"attention is not in eight bits: no layer is {limit}"
    return result.layers, kernel, f"attention is in eight bits in {len(result.layers)} of {count} layers, those {limit}"


def _flash_attention_3_of_codes(kernel: Callable[..., Any], given: Codes) -> Tensor:
    out = kernel(*given[:3], q_descale=given.query_scale, k_descale=given.key_scale, v_descale=given.value_scale)
    return (out[0] if isinstance(out, tuple) else out).flatten(2)


def _cudnn_first(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    # With a bias, cuDNN finds no plan for some shapes and reports it too late for another kernel to take over.
    with sdpa_kernel(BEST_FIRST if bias is None else BEST_FIRST[1:], set_priority=True):
        return attend(query, keys, values, bias)


def _flash_attention_3(kernel: Callable[..., Any], query: Tensor, keys: Tensor, values: Tensor,
                       bias: Tensor | None = None) -> Tensor:
    if bias is not None:  # it takes none
        return attend(query, keys, values, bias)
    out = kernel(query, keys, values)  # [batch, token, head, dim], as ours are; older ones give the log-sums too
    return (out[0] if isinstance(out, tuple) else out).flatten(2)
