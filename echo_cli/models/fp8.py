"""Linear layers in eight bits: half the memory, twice the speed on devices that support it, and not exact.

Every output channel and every token has its own scale, so that one large value does not reduce the precision of the
others. Nothing else in a transformer changes: norms and memory stay as they are, and attention too, although what eight
bits would move there can be measured.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError
from echo_cli.models.layers import attend
from echo_cli.models.transformer import Transformer

EIGHT_BITS = torch.float8_e4m3fn
_LARGEST = torch.finfo(EIGHT_BITS).max


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [row, value] in eight bits, and the scale of each [row, 1]."""
    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
    return (x.float() / scale).clamp(-_LARGEST, _LARGEST).to(EIGHT_BITS), scale


def attend_in_eight_bits(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention to keys and values that are rounded to eight bits, with one scale for each head. The keys' mean is
    subtracted first: it adds the same to all scores of a query, and without it the rest is rounded less. For measuring
    what that moves; it is not faster, since the products are exact."""
    keys = keys - keys.float().mean(1, keepdim=True).to(keys.dtype)
    return attend(_by_head(query), _by_head(keys), _by_head(values), bias)


def _by_head(x: Tensor) -> Tensor:
    """[batch, token, head, dim] as eight bits with a scale for each head hold it."""
    rows, scale = quantised(x.transpose(1, 2).flatten(2))
    return (rows.float() * scale).to(x.dtype).unflatten(2, (x.shape[1], -1)).transpose(1, 2)


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
