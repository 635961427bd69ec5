"""The causal video transformer, for every size of model.

Wan 2.1's text-to-video network, made causal by its input rather than by a mask: it sees one block of latent frames
and, through a `Context`, whatever memory shows it. Parameter names are the released ones, so weights load
strictly. It does not know what is remembered, at which position, or why.
"""

from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from echo_cli.context import Context
from echo_cli.eight import EightBitLayers
from echo_cli.models.layers import Head, TransformerBlock, sinusoid
from echo_cli.rope import Turn, rotate
from echo_cli.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Text:
    """A prompt as the layers read it: cross-attention keys and values per layer, and its pooled vector if the spec has
    one."""

    layers: tuple[tuple[Tensor, Tensor], ...]  # [batch, row, head, dim] each
    pooled: Tensor | None  # [batch, width]


class Network(Protocol):
    """What a rollout needs of a transformer."""

    spec: ModelSpec
    turn: Turn
    eight: EightBitLayers | None

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def device(self) -> torch.device: ...

    def read(self, rows: Tensor) -> Text: ...

    def __call__(self, latents: Tensor, times: Tensor, text: Text, context: Context, /) -> Tensor: ...


class Transformer(nn.Module):
    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        width = spec.width
        self.patch_embedding = nn.Conv3d(spec.channels, width, kernel_size=spec.patch, stride=spec.patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(spec.text_dim, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
        )
        self.time_embedding = nn.Sequential(nn.Linear(spec.freq_dim, width), nn.SiLU(), nn.Linear(width, width))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(TransformerBlock(width, spec.heads, spec.ffn, spec.eps) for _ in range(spec.depth))
        self.head = Head(width, spec.channels * spec.patch[1] * spec.patch[2], spec.eps)
        self.turn: Turn = rotate  # how memory rotates keys and queries for this transformer; `tuning` may compile it
        self.eight: EightBitLayers | None = None  # which layers attend in eight bits; `fp8` may choose some
        if spec.pooled_text:
            self.pooled_embedding = nn.Linear(width, width)

    @property
    def layers(self) -> list[TransformerBlock]:
        """The blocks with their type, which torch's list does not state."""
        return [cast(TransformerBlock, block) for block in self.blocks]

    @property
    def dtype(self) -> torch.dtype:
        return self.patch_embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.patch_embedding.weight.device

    def read(self, rows: Tensor) -> Text:
        """Text rows [batch, text_len, text_dim] (zero rows are padding, embedded and attended to like any other)
        → what every block of the scene reuses."""
        text = self.text_embedding(rows.to(self.dtype))
        pooled = None
        if self.spec.pooled_text:
            real = (rows != 0).any(-1, keepdim=True).to(text.dtype)
            pooled = self.pooled_embedding((text * real).sum(1) / real.sum(1).clamp(min=1))
        return Text(tuple(block.read(text) for block in self.layers), pooled)

    def forward(self, latents: Tensor, times: Tensor, text: Text, context: Context) -> Tensor:
        """Velocity of noisy latents [batch, frame, channel, height, width] at times [batch, frame] in 0..1000."""
        x = self.patchify(latents.to(self.dtype))
        time = self.time_embedding(sinusoid(times, self.spec.freq_dim).to(self.dtype))  # [batch, frame, width]
        if text.pooled is not None:
            time = (time.reshape(len(text.pooled), -1, self.spec.width) + text.pooled.unsqueeze(1)).reshape(time.shape)
        modulation = self.time_projection(time).unflatten(-1, (6, -1))
        for layer, (block, read) in enumerate(zip(self.layers, text.layers, strict=True)):
            x = block(x, modulation, layer, read, context)
        return self.unpatchify(self.head(x, time), *latents.shape[-2:])

    def patchify(self, latents: Tensor) -> Tensor:
        """→ [batch, frame, token, width]. The patch convolution does not overlap, so it is one matrix product."""
        _, high, wide = self.spec.patch
        patches = latents.unflatten(-1, (-1, wide)).unflatten(-3, (-1, high))  # [b, f, c, rows, high, cols, wide]
        patches = patches.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)
        return nn.functional.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)

    def unpatchify(self, tokens: Tensor, height: int, width: int) -> Tensor:
        """[batch, frame, token, high * wide * channel] → latents."""
        _, high, wide = self.spec.patch
        grid = tokens.unflatten(-1, (high, wide, -1)).unflatten(2, (height // high, width // wide))
        return grid.permute(0, 1, 6, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)
