"""The window's keys and values in eight bits, for attention that multiplies eight-bit numbers.

The mean of a head's keys is subtracted from all of them: it adds the same to every score of a query, which softmax does
not see, and what is left is smaller than the keys are. Numbers are e4m3, whose rounding is relative, so scales need not
be tight: those of queries and keys follow from the gains of their norms, and that of a head's values leaves room above
the greatest that was measured. Hence a frame that stays in the window keeps its codes. The mean and the values' scale
are measured when a scene opens and while the window fills.

Which layers attend so is not decided here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from echo_cli.kernels import usable
from echo_cli.runtime import upload

CODE = torch.float8_e4m3fn
GREATEST = torch.finfo(CODE).max
HEADROOM = 4.0  # how much greater than those that were measured values may become


class Codes(NamedTuple):
    """What a layer attends with, in eight bits [batch, token, head, dim], and a scale for each head [batch, head]."""

    query: Tensor
    keys: Tensor
    values: Tensor
    query_scale: Tensor
    key_scale: Tensor
    value_scale: Tensor


@dataclass(frozen=True, slots=True)
class EightBitLayers:
    """Which layers of a transformer attend in eight bits, and the greatest that a number of their queries and keys can
    be [layer, head]: keys and queries come from an RMS norm, which bounds them, and rotation does not lengthen them."""

    layers: tuple[int, ...]
    query: Tensor
    key: Tensor


def codes(x: Tensor, scale: Tensor) -> Tensor:
    """Numbers [..., head, dim] in eight bits, with the scale of each head."""
    return (x.float() / scale[..., None]).clamp(-GREATEST, GREATEST).to(CODE)


def attend_to_codes(given: Codes) -> Tensor:
    """Attention as FlashAttention 3 computes it in eight bits, in plain torch: products of codes are exact, and weights
    are rounded to eight bits, between 0 and 256, before they meet the values. Heads come back joined, in float32."""
    query, keys, values = (part.float().transpose(1, 2) * scale[..., None, None] for part, scale in
                           zip(given[:3], given[3:], strict=True))
    scores = query @ keys.transpose(2, 3) * query.shape[-1] ** -0.5
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    rounded = (256 * weights).to(CODE).float() / 256
    return (rounded @ values / weights.sum(-1, keepdim=True)).transpose(1, 2).flatten(2)


class EightBitWindow:
    """`keys`, `values` [row, batch, token, head, dim]: codes of the window's, a row for each layer that attends so.
    `mean` [row, batch, head, dim] is of keys; the scales are [row, batch, head]."""

    def __init__(self, chosen: EightBitLayers, window: Tensor, frame_tokens: int) -> None:
        """For a window [layer, batch, token, head, dim] of frames of so many tokens."""
        _, batch, _, heads, dim = window.shape
        shape, device = (len(chosen.layers), batch, heads), window.device
        self.layers = chosen.layers
        self._rows = {layer: row for row, layer in enumerate(chosen.layers)}
        self._layers = torch.tensor(chosen.layers, dtype=torch.int32, device=device)
        self._frame_tokens, self._kernels = frame_tokens, usable(device)
        self.keys, self.values = (torch.zeros(len(chosen.layers), *window.shape[1:], dtype=CODE, device=device)
                                  for _ in range(2))
        self.mean = torch.zeros(*shape, dim, device=device)
        self.value_scale = torch.ones(shape, device=device)
        self.query_scale, self.key_scale = (  # a key less the mean is at most twice as long
            (bound.to(device) * times / GREATEST)[:, None].expand(shape).contiguous()
            for bound, times in ((chosen.query, 1), (chosen.key, 2)))

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that a pass reads or writes, at addresses that a recorded one keeps."""
        return self.keys, self.values, self.mean, self.value_scale, self.query_scale, self.key_scale, self._layers

    @property
    def bytes(self) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def __contains__(self, layer: int) -> bool:
        return layer in self._rows

    def measure(self, keys: Tensor, values: Tensor, places: Sequence[int]) -> None:
        """The mean of keys and the scale of values, of frames in these places of the window."""
        spans = [slice(place * self._frame_tokens, (place + 1) * self._frame_tokens) for place in places]
        total = torch.stack([keys[:, :, span].sum(2, dtype=torch.float32) for span in spans]).sum(0)
        self.mean.copy_(total.index_select(0, self._layers) / (len(spans) * self._frame_tokens))
        greatest = torch.stack([values[:, :, span].abs().amax((2, 4)) for span in spans]).amax(0)
        self.value_scale.copy_(
            greatest.index_select(0, self._layers).float().clamp(min=1e-12) * (HEADROOM / GREATEST))

    def write(self, keys: Tensor, values: Tensor, places: Sequence[int] | Tensor, layer: int | None = None) -> None:
        """Take over the frames in these places of the window; only one layer's, if it is named."""
        if len(places) == 0 or (layer is not None and layer not in self):
            return
        rows = slice(None) if layer is None else slice(self._rows[layer], self._rows[layer] + 1)
        if self._kernels:
            from echo_cli.kernels.eight import quantise

            at = places if isinstance(places, Tensor) else upload(places, keys.device, torch.int32)
            quantise((keys, values), self._layers[rows], at, self._frame_tokens, self.mean[rows],
                     (self.key_scale[rows], self.value_scale[rows]), (self.keys[rows], self.values[rows]))
            return
        for number, row in self._rows.items() if layer is None else [(layer, self._rows[layer])]:
            for place in places:
                span = slice(int(place) * self._frame_tokens, (int(place) + 1) * self._frame_tokens)
                self.keys[row, :, span] = codes(keys[number, :, span].float() - self.mean[row, :, None],
                                                self.key_scale[row, :, None])
                self.values[row, :, span] = codes(values[number, :, span], self.value_scale[row, :, None])

    def places(self, start: int, stop: int) -> tuple[int, ...]:
        """The places of whole frames between two tokens of the window."""
        return tuple(range(start // self._frame_tokens, stop // self._frame_tokens))

    def target(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor] | None:
        """A layer's codes of keys and values, mean, and scales of query, key and value: where a kernel writes."""
        if layer not in self:
            return None
        row = self._rows[layer]
        return (self.keys[row], self.values[row], self.mean[row], self.query_scale[row], self.key_scale[row],
                self.value_scale[row])

    def seen(self, layer: int, query: Tensor, end: int) -> Codes:
        """What a layer attends with: queries that are codes, or will be, and the first `end` tokens of the window."""
        row = self._rows[layer]
        asked = query if query.dtype is CODE else codes(query, self.query_scale[row, :, None])
        return Codes(asked, self.keys[row, :, :end], self.values[row, :, :end], self.query_scale[row],
                     self.key_scale[row], self.value_scale[row])
