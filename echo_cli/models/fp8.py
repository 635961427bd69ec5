"""Linear layers and attention in eight bits: quicker on devices that support it, and not exact.

In a linear layer every output channel and every token has its own scale, so that one large value does not reduce the
precision of the others. Attention to memory takes codes from the window (`eight`), in layers that are chosen elsewhere.
Norms, attention to the prompt and what memory keeps stay as they are.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from echo_cli.eight import Codes, EightBitLayers, attend_to_codes
from echo_cli.errors import MissingError
from echo_cli.models.layers import Attend, RMSNorm
from echo_cli.models.running import FastPart
from echo_cli.models.transformer import Transformer

EIGHT_BITS = torch.float8_e4m3fn
_LARGEST = torch.finfo(EIGHT_BITS).max


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [row, value] in eight bits, and the scale of each [row, 1]."""
    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
    return (x.float() / scale).clamp(-_LARGEST, _LARGEST).to(EIGHT_BITS), scale


class EightBitLinear(nn.Module):
    """Replaces a linear layer, using its weights."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantised(linear.weight.detach())
        self.register_buffer("weight", weight)  # [output, input]
        self.register_buffer("scale", scale.t().contiguous())  # [1, output]
        self.register_buffer("bias", linear.bias.detach())

    @classmethod
    def joined(cls, parts: Sequence["EightBitLinear"]) -> "EightBitLinear":
        """Several layers of one input as one; the parts become views of it."""
        whole = cls.__new__(cls)
        nn.Module.__init__(whole)
        for name, dim in (("weight", 0), ("scale", 1), ("bias", 0)):
            joined = torch.cat([getattr(part, name) for part in parts], dim)
            whole.register_buffer(name, joined)
            for part, view in zip(parts, joined.split([len(part.bias) for part in parts], dim), strict=True):
                setattr(part, name, view)
        return whole

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = quantised(x.flatten(0, -2))
        return self.of_rows(rows, scale, x.dtype).unflatten(0, x.shape[:-1])

    def of_rows(self, rows: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        """Applies the layer to rows that are already in eight bits, each with its scale."""
        if rows.device.type == "cuda" and dtype is torch.bfloat16:
            return torch._scaled_mm(rows, self.weight.t(), scale_a=scale, scale_b=self.scale, bias=self.bias,
                                    out_dtype=dtype, use_fast_accum=True)
        out = torch._scaled_mm(rows, self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=torch.bfloat16)
        return out.to(dtype) + self.bias


def use_eight_bits(transformer: Transformer, device: torch.device) -> None:
    """Replace the linear layers of all blocks, except those that read a prompt once per scene, to compute on
    `device`."""
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (9, 0):
        raise MissingError(
            "--fast needs a device that multiplies eight-bit numbers row by row, and "
            f"{torch.cuda.get_device_name(device)} does not",
            hint="Leave --fast out; it needs Hopper or newer.",
        )
    for block in transformer.blocks:
        for part, names in ((block.self_attn, "qkvo"), (block.cross_attn, "qo"), (block.ffn, "02")):
            for name in names:
                setattr(part, name, EightBitLinear(getattr(part, name)))


def use_part(transformer: Transformer, part: FastPart, device: torch.device,
             kernel: Callable[[Codes], Tensor] = attend_to_codes) -> None:
    """Use one part of --fast, or both, in all layers: to measure what it gains and costs."""
    if part is not FastPart.ATTENTION:
        use_eight_bits(transformer, device)
    if part is not FastPart.LINEAR:
        attend_in_eight_bits(transformer, kernel=kernel)


def attend_in_eight_bits(transformer: Transformer, layers: Sequence[int] | None = None,
                         kernel: Callable[[Codes], Tensor] = attend_to_codes) -> None:
    """Have these layers, or all, attend to memory in eight bits from now on, where there is something to remember."""
    chosen = tuple(range(transformer.spec.depth)) if layers is None else tuple(layers)
    if not chosen:
        return
    attentions = [transformer.layers[layer].self_attn for layer in chosen]
    transformer.eight = EightBitLayers(chosen, torch.stack([_bound(each.norm_q, each.heads) for each in attentions]),
                                       torch.stack([_bound(each.norm_k, each.heads) for each in attentions]))
    for attention in attentions:
        attention.attend = partial(_attend, attention.attend, kernel)


def _bound(norm: RMSNorm, heads: int) -> Tensor:
    """The greatest that a number of each head can be after the norm, however it is rotated [head]."""
    return norm.weight.detach().float().abs().view(heads, -1).amax(1) * len(norm.weight) ** 0.5


def _attend(exact: Attend, kernel: Callable[[Codes], Tensor], query: Tensor, keys: Tensor, values: Tensor,
            bias: Tensor | None = None, codes: Codes | None = None) -> Tensor:
    return exact(query, keys, values, bias) if codes is None else kernel(codes).to(query.dtype)
