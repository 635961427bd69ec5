"""The layers of a block, with the released parameter names: attention to the past, to the prompt, and the FFN.

Float32 islands in a bfloat16 model, each with its reason: RMS statistics (squares overflow the mantissa), the time
sinusoid (float64: 1000 distinct times must stay distinct), rotation (see `rope`). All else runs in the weights' dtype.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echo_cli.context import BlockContext, Context

Attend = Callable[..., Tensor]  # takes what a context gives (`context.Seen`), or queries, keys and values alone


class RMSNorm(nn.Module):
    """Over the full width, before the heads are split."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)).to(x.dtype) * self.weight


def attend(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention of [batch, token, head, dim] tensors; the heads come back joined."""
    if bias is not None:
        bias = bias.to(query.dtype)
    query, keys, values = query.transpose(1, 2), keys.transpose(1, 2), values.transpose(1, 2)
    if query.requires_grad and query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # On a CPU torch's fused attention goes backward through bfloat16 up to four times slower than plain products
        # do.
        scores = query * query.shape[-1] ** -0.5 @ keys.transpose(2, 3)
        out = (scores if bias is None else scores + bias).softmax(-1) @ values
    else:
        out = F.scaled_dot_product_attention(query, keys, values, bias)
    return out.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Projections and norms of one attention; subclasses define what is attended to."""

    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(width, eps), RMSNorm(width, eps)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def queries(self, x: Tensor) -> Tensor:
        return self.split(self.norm_q(self.q(x)))

    def keys(self, x: Tensor) -> Tensor:
        return self.split(self.norm_k(self.k(x)))

    def values(self, x: Tensor) -> Tensor:
        return self.split(self.v(x))


class SelfAttention(Attention):
    def __init__(self, width: int, heads: int, eps: float) -> None:
        super().__init__(width, heads, eps)
        self.attend: Attend = attend  # `tuning` may replace it with the device's own

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Raw queries, keys and values [batch, token, head, dim]; the context decides what they attend to."""
        return self.queries(x), self.keys(x), self.values(x)


class CrossAttention(Attention):
    def read(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a prompt, computed once per scene."""
        return self.keys(text), self.values(text)

    def forward(self, x: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        # In training there may be several prompts per film: then a film is that many equal runs of frames, one per
        # prompt.
        queries = self.queries(x).reshape(len(text[0]), -1, self.heads, x.shape[-1] // self.heads)
        return self.o(attend(queries, *text).reshape(x.shape))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def drawn(*shape: int, over: float = 1.0) -> Tensor:
    """Random numbers, divided by `over`; none on the device without storage, where torch would import its compiler to
    draw them: a second of every start."""
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_() / over


class TransformerBlock(nn.Module):
    """Attention to memory, attention to the prompt, FFN; six modulation vectors for each latent frame."""

    def __init__(self, width: int, heads: int, ffn: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.self_attn = SelfAttention(width, heads, eps)
        self.norm3 = nn.LayerNorm(width, eps)
        self.cross_attn = CrossAttention(width, heads, eps)
        self.norm2 = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.ffn = nn.Sequential(nn.Linear(width, ffn), nn.GELU(approximate="tanh"), nn.Linear(ffn, width))
        self.modulation = nn.Parameter(drawn(1, 6, width, over=width**0.5))

    def read(self, text: Tensor) -> tuple[Tensor, Tensor]:
        return self.cross_attn.read(text)

    def forward(self, x: Tensor, time: Tensor, layer: int, text: tuple[Tensor, Tensor], context: Context) -> Tensor:
        # x [batch, frame, token, width]; time [batch, frame, 6, width]
        seen = context.extend(layer, *self.ask(x, time))
        if isinstance(context, BlockContext) and context.ends(layer):
            return x
        return self.answer(x, self.self_attn.attend(*seen), time, text)

    # The parts before and after memory: two pieces with static shapes, the same for every layer, which can be compiled
    # whole.

    def ask(self, x: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shift, scale = (self.modulation + time)[:, :, :2].unsqueeze(3).unbind(2)
        return self.self_attn(modulate(self.norm1(x), shift, scale).flatten(1, 2))

    def answer(self, x: Tensor, attended: Tensor, time: Tensor, text: tuple[Tensor, Tensor]) -> Tensor:
        frames = x.shape[1]
        gate_a, shift_f, scale_f, gate_f = (self.modulation + time)[:, :, 2:].unsqueeze(3).unbind(2)
        x = x + self.self_attn.o(attended).unflatten(1, (frames, -1)) * gate_a
        x = x + self.cross_attn(self.norm3(x).flatten(1, 2), text).unflatten(1, (frames, -1))
        return x + self.ffn(modulate(self.norm2(x), shift_f, scale_f)) * gate_f


class Head(nn.Module):
    def __init__(self, width: int, outputs: int, eps: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.head = nn.Linear(width, outputs)
        self.modulation = nn.Parameter(drawn(1, 2, width, over=width**0.5))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        # x [batch, frame, token, width]; time [batch, frame, width]
        shift, scale = (self.modulation + time.unsqueeze(2)).unsqueeze(3).unbind(2)
        return self.head(modulate(self.norm(x), shift, scale))


def sinusoid(times: Tensor, dim: int) -> Tensor:
    """[..., dim] of cosines, then sines; float64, since neighbouring times differ in the fifth digit."""
    half = dim // 2
    angles = times.double().unsqueeze(-1) * 10_000.0 ** -(
        torch.arange(half, device=times.device, dtype=torch.float64) / half
    )
    return torch.cat((angles.cos(), angles.sin()), -1)
