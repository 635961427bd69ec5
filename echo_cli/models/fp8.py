"""Linear layers in eight bits: half the weights, twice the speed where a device multiplies such numbers, and not exact.

Every output channel and every token has a scale of its own, so that one large value costs the others nothing. Nothing
else of a transformer changes: attention, norms and memory stay as they are.
"""

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError
from echo_cli.models.transformer import Transformer

EIGHT_BITS = torch.float8_e4m3fn
_LARGEST = torch.finfo(EIGHT_BITS).max


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows [row, value] in eight bits, and the scale of each [row, 1]."""
    scale = x.abs().amax(-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
    return (x.float() / scale).clamp(-_LARGEST, _LARGEST).to(EIGHT_BITS), scale


class EightBitLinear(nn.Module):
    """In the place of a linear layer, from its weights."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = quantised(linear.weight.detach())
        self.register_buffer("weight", weight)  # [output, input]
        self.register_buffer("scale", scale.t().contiguous())  # [1, output]
        self.register_buffer("bias", linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = quantised(x.flatten(0, -2))
        out = torch._scaled_mm(rows, self.weight.t(), scale_a=scale, scale_b=self.scale, out_dtype=torch.bfloat16)
        return (out.to(x.dtype) + self.bias).unflatten(0, x.shape[:-1])


def use_eight_bits(transformer: Transformer, device: torch.device) -> None:
    """Replace the linear layers of all blocks, except those that read a prompt once a scene, to compute on `device`."""
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
