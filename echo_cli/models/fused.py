"""A transformer's pass in few launches: one kernel for everything between two matrix products or attentions.

For inference on a GPU. The weights are the transformer's own; queries, keys and values share one product, and GELU and
(in eight bits) the scaling of rows happen inside the preceding kernel or product. Anything else, such as training or
several prompts per film, uses the transformer's own layers. What memory is, is not known here.

With graphs, a pass is recorded once the window is full, when all shapes and addresses of its inputs stay the same from
block to block, and then launched as a whole.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echo_cli.context import BlockContext, Context
from echo_cli.kernels.rows import Rows, add_norm, eight_bits, rms
from echo_cli.models.fp8 import EightBitLinear
from echo_cli.models.layers import TransformerBlock, sinusoid
from echo_cli.models.transformer import Text, Transformer

Linear = nn.Linear | EightBitLinear


@dataclass(slots=True)
class Layer:
    """One block's weights as a fused pass needs them: queries, keys and values come from one product."""

    block: TransformerBlock
    qkv: Linear
    eight: bool

    @classmethod
    def of(cls, block: TransformerBlock) -> "Layer":
        attention = block.self_attn
        parts: list[Linear] = [attention.q, attention.k, attention.v]
        return cls(block, _joined(parts), isinstance(parts[0], EightBitLinear))


def _joined(parts: list[Linear]) -> Linear:
    """Several layers of one input as one; the parts become views of it, so that nothing is held twice."""
    if eight := [part for part in parts if isinstance(part, EightBitLinear)]:
        return EightBitLinear.joined(eight)
    plain = [part for part in parts if isinstance(part, nn.Linear)]
    whole = nn.Linear(plain[0].in_features, sum(part.out_features for part in plain), device="meta")
    for name in ("weight", "bias"):
        joined = torch.cat([getattr(part, name).detach() for part in plain])
        setattr(whole, name, nn.Parameter(joined, requires_grad=False))
        at = 0
        for part in plain:
            getattr(part, name).data = joined[at:at + part.out_features]
            at += part.out_features
    return whole


def product(layer: Linear, rows: Rows, dtype: torch.dtype) -> Tensor:
    x, scale = rows
    if scale is None:
        return F.linear(x, layer.weight, layer.bias)
    assert isinstance(layer, EightBitLinear)
    return layer.of_rows(x, scale, dtype)


def product_gelu(layer: nn.Linear, x: Tensor) -> Tensor:
    """A product followed by GELU, which is free on a GPU."""
    if x.device.type == "cuda":
        return torch.ops.aten._addmm_activation(layer.bias, x, layer.weight.t(), use_gelu=True)
    return F.gelu(F.linear(x, layer.weight, layer.bias), approximate="tanh")


class FusedPass:
    """Replaces a transformer's `forward`."""

    def __init__(self, transformer: Transformer) -> None:
        self._transformer = transformer
        self._layers = [Layer.of(block) for block in transformer.layers]
        self._modulations = torch.stack([block.modulation.detach()[0] for block in transformer.layers])

    def takes(self, context: Context, text: Text, latents: Tensor) -> bool:
        fused = isinstance(context, BlockContext) and context.placing is not None and context.placing.device is not None
        return fused and not torch.is_grad_enabled() and len(text.layers[0][0]) == len(latents)

    def __call__(self, latents: Tensor, times: Tensor, text: Text, context: Context) -> Tensor:
        if not self.takes(context, text, latents):
            return Transformer.forward(self._transformer, latents, times, text, context)
        assert isinstance(context, BlockContext)
        whole = self._transformer
        x = whole.patchify(latents.to(whole.dtype))
        batch, frames, tokens, width = x.shape
        rows = x.reshape(-1, width)
        time = whole.time_embedding(sinusoid(times, whole.spec.freq_dim).to(whole.dtype))
        if text.pooled is not None:
            time = time + text.pooled.unsqueeze(1)
        modulation = whole.time_projection(time).reshape(batch * frames, 6, width)
        modulations = self._modulations.unsqueeze(1) + modulation  # [layer, frame, 6, width]
        self._run(rows, batch, tokens, modulations, time.reshape(-1, width), text, context)
        out = F.linear(self._last[0], whole.head.head.weight, whole.head.head.bias)
        return whole.unpatchify(out.view(batch, frames, tokens, -1), *latents.shape[-2:])

    def _run(self, x: Tensor, batch: int, tokens: int, modulations: Tensor, time: Tensor, text: Text,
             context: BlockContext) -> None:
        """All layers over rows x [row, width], in place; leaves the head's input in `_last`."""
        eps, first = self._transformer.spec.eps, modulations[0]
        rows = add_norm(x, eps, tokens, modulation=(first[:, 0], first[:, 1]), eight=self._layers[0].eight)
        for index, layer in enumerate(self._layers):
            block, mine = layer.block, modulations[index]
            y = self._attend(layer, index, rows, batch, context)
            rows = add_norm(x, eps, tokens, add=y, gate=mine[:, 2], affine=(block.norm3.weight, block.norm3.bias),
                            eight=layer.eight)
            y = self._read(layer, rows, text.layers[index])
            rows = add_norm(x, eps, tokens, add=y, modulation=(mine[:, 3], mine[:, 4]), eight=layer.eight)
            y = self._feed(layer, rows)
            if index + 1 < len(self._layers):
                following = modulations[index + 1]
                shift, stretch, eight = following[:, 0], following[:, 1], self._layers[index + 1].eight
            else:
                head = self._transformer.head.modulation + time.unsqueeze(1)  # [frame, 2, width]
                shift, stretch, eight = head[:, 0], head[:, 1], False
            rows = add_norm(x, eps, tokens, add=y, gate=mine[:, 5], modulation=(shift, stretch), eight=eight)
        self._last = rows

    def _attend(self, layer: Layer, index: int, rows: Rows, batch: int, context: BlockContext) -> Tensor:
        attention, dtype = layer.block.self_attn, self._transformer.dtype
        qkv = product(layer.qkv, rows, dtype).unflatten(0, (batch, -1)).unflatten(-1, (3, attention.heads, -1))
        query, key, value = qkv.unbind(2)
        asked, keys, values, bias = context.extend_projected(
            index, query, key, value, (attention.norm_q.weight, attention.norm_k.weight), attention.norm_q.eps)
        attended = attention.attend(asked, keys, values, bias).flatten(0, 1)
        return product(attention.o, eight_bits(attended) if layer.eight else (attended, None), dtype)

    def _read(self, layer: Layer, rows: Rows, text: tuple[Tensor, Tensor]) -> Tensor:
        attention, dtype = layer.block.cross_attn, self._transformer.dtype
        asked = rms(product(attention.q, rows, dtype), attention.norm_q.weight, attention.norm_q.eps)
        asked = asked.view(len(text[0]), -1, attention.heads, asked.shape[-1] // attention.heads)
        read = layer.block.self_attn.attend(asked, *text, None).flatten(0, 1)
        return product(attention.o, eight_bits(read) if layer.eight else (read, None), dtype)

    def _feed(self, layer: Layer, rows: Rows) -> Tensor:
        grow, shrink = layer.block.ffn[0], layer.block.ffn[2]
        assert isinstance(grow, Linear) and isinstance(shrink, Linear)
        dtype = self._transformer.dtype
        if isinstance(grow, EightBitLinear):
            return product(shrink, eight_bits(product(grow, rows, dtype), gelu=True), dtype)
        return product(shrink, (product_gelu(grow, rows[0]), None), dtype)


@dataclass(slots=True)
class Recording:
    """A recorded pass, and the tensors that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    latents: Tensor
    times: Tensor
    text: Text
    velocity: Tensor


class RecordedPass:
    """A fused pass, recorded the second time that its inputs have the same shapes and addresses, and replayed from then
    on. If the device has no room for a recording, passes are launched as before."""

    def __init__(self, run: FusedPass) -> None:
        self._run = run
        self._met: tuple | None = None
        self._recording: tuple[tuple, Recording] | None = None
        self._read: Text | None = None  # whose keys and values the recording has
        self.on = True

    def __call__(self, latents: Tensor, times: Tensor, text: Text, context: Context) -> Tensor:
        where = context.fixed if self.on and isinstance(context, BlockContext) else None
        if where is None or not self._run.takes(context, text, latents):
            return self._run(latents, times, text, context)
        key = (where, latents.shape, latents.dtype, text.pooled is None)
        if self._recording is None or self._recording[0] != key:
            if self._met != key:  # a launched pass compiles kernels and sets up libraries
                self._met = key
                return self._run(latents, times, text, context)
            self._recording = None  # its memory is freed before the next is recorded
            try:
                self._recording = key, self._record(latents, times, text, context)
            except torch.OutOfMemoryError:
                self.on = False
                return self._run(latents, times, text, context)
        recording = self._recording[1]
        if self._read is not text:
            _copy_text(text, recording.text)
            self._read = text
        recording.latents.copy_(latents)
        recording.times.copy_(times)
        recording.graph.replay()
        return recording.velocity.clone()

    def _record(self, latents: Tensor, times: Tensor, text: Text, context: Context) -> Recording:
        layers = tuple((key.clone(), value.clone()) for key, value in text.layers)
        mine = Text(layers, None if text.pooled is None else text.pooled.clone())
        given, moments = latents.clone(), times.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            velocity = self._run(given, moments, mine, context)
        self._read = text
        return Recording(graph, given, moments, mine, velocity)


def _copy_text(new: Text, old: Text) -> None:
    for (key, value), (old_key, old_value) in zip(new.layers, old.layers, strict=True):
        old_key.copy_(key)
        old_value.copy_(value)
    if new.pooled is not None and old.pooled is not None:
        old.pooled.copy_(new.pooled)


Forward = Callable[[Tensor, Tensor, Text, Context], Tensor]


def fuse_passes(transformer: Transformer, graphs: bool = True) -> None:
    """From now on, passes run fused and, on a GPU, recorded."""
    fused = FusedPass(transformer)
    run: Forward = RecordedPass(fused) if graphs and transformer.device.type == "cuda" else fused
    transformer.forward = run  # type: ignore[method-assign, assignment]  # of this transformer, not of all
