"""A transformer's pass in few launches: one kernel for everything between two matrix products or attentions.

For inference on a GPU. The weights are the transformer's own; queries, keys and values share one product, and GELU and
(in eight bits) the scaling of rows happen inside the preceding kernel or product. Anything else, such as training or
several prompts per film, uses the transformer's own layers. What memory is, is not known here.

With graphs, passes are recorded once the window is full, when all shapes and addresses of their inputs stay the same
from block to block, and then launched as a whole, those that memory watches too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echo_cli.context import BlockContext, Context, Seen
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
        self._last: Rows = x, None
        for index, layer in enumerate(self._layers):
            block, mine = layer.block, modulations[index]
            seen = self._ask(layer, index, rows, batch, context)
            if context.ends(index):
                break
            y = self._attend(layer, seen)
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
        else:
            self._last = rows

    def _ask(self, layer: Layer, index: int, rows: Rows, batch: int, context: BlockContext) -> Seen:
        attention, dtype = layer.block.self_attn, self._transformer.dtype
        qkv = product(layer.qkv, rows, dtype).unflatten(0, (batch, -1)).unflatten(-1, (3, attention.heads, -1))
        query, key, value = qkv.unbind(2)
        return context.extend_projected(
            index, query, key, value, (attention.norm_q.weight, attention.norm_k.weight), attention.norm_q.eps)

    def _attend(self, layer: Layer, seen: Seen) -> Tensor:
        attention, dtype = layer.block.self_attn, self._transformer.dtype
        attended = attention.attend(*seen).flatten(0, 1)
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
class Inputs:
    """What every recorded pass reads, at addresses of its own; `prompt` says whose keys and values they are."""

    latents: Tensor
    times: Tensor
    text: Text
    prompt: Text

    @classmethod
    def of(cls, latents: Tensor, times: Tensor, text: Text) -> "Inputs":
        layers = tuple((key.clone(), value.clone()) for key, value in text.layers)
        pooled = None if text.pooled is None else text.pooled.clone()
        return cls(latents.clone(), times.clone(), Text(layers, pooled), text)

    def shapes(self) -> tuple[object, ...]:
        return _shapes(self.latents, self.times, self.text)

    def take(self, latents: Tensor, times: Tensor, text: Text) -> None:
        self.latents.copy_(latents)
        self.times.copy_(times)
        if self.prompt is not text:
            for mine, new in zip(self.text.layers, text.layers, strict=True):
                mine[0].copy_(new[0])
                mine[1].copy_(new[1])
            if self.text.pooled is not None and text.pooled is not None:
                self.text.pooled.copy_(text.pooled)
            self.prompt = text


def _shapes(latents: Tensor, times: Tensor, text: Text) -> tuple[object, ...]:
    key, _ = text.layers[0]
    return latents.shape, latents.dtype, times.shape, key.shape, key.dtype, text.pooled is None


Replay = tuple[Callable[[], None], Tensor]  # launches recorded work again, and where its result lies then


class Recorder:
    """Records work as CUDA graphs that share their memory: each result is copied before the next is launched."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, work: Callable[[], Tensor]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result


class RecordedPass:
    """A fused pass, recorded the second time that its inputs have the same shapes and addresses, and replayed from then
    on. Passes that memory watches differ from the others by what their observer does, so each kind of observer has a
    recording of its own. If the device has no room for one, passes are launched as before."""

    def __init__(self, run: FusedPass, record: Callable[[Callable[[], Tensor]], Replay] | None = None) -> None:
        self._run, self._record = run, record
        self._met: dict[type, tuple[object, ...]] = {}  # the last pass of each kind
        self._recordings: dict[type, tuple[tuple[object, ...], Replay]] = {}
        self._inputs: Inputs | None = None
        self.on = True

    @property
    def recorded(self) -> int:
        """How many kinds of passes have a recording."""
        return len(self._recordings)

    def __call__(self, latents: Tensor, times: Tensor, text: Text, context: Context) -> Tensor:
        where = context.fixed if self.on and isinstance(context, BlockContext) else None
        if where is None or not self._run.takes(context, text, latents):
            return self._run(latents, times, text, context)
        assert isinstance(context, BlockContext)
        kind, key = type(context.observer), (*_shapes(latents, times, text), *where)
        met, self._met[kind] = self._met.get(kind), key
        if kind not in self._recordings or self._recordings[kind][0] != key:
            if met != key:  # a launched pass compiles kernels and sets up libraries
                return self._run(latents, times, text, context)
            self._recordings.pop(kind, None)  # its memory is freed before the next is recorded
            try:
                self._recordings[kind] = key, self._recording(latents, times, text, context)
            except torch.OutOfMemoryError:
                self.on = False
                self._recordings.clear()
                return self._run(latents, times, text, context)
        assert self._inputs is not None
        self._inputs.take(latents, times, text)
        replay, result = self._recordings[kind][1]
        replay()
        return result.clone()

    def _recording(self, latents: Tensor, times: Tensor, text: Text, context: BlockContext) -> Replay:
        if self._inputs is None or self._inputs.shapes() != _shapes(latents, times, text):
            self._recordings.clear()  # they read the old ones
            self._inputs = Inputs.of(latents, times, text)
        mine = self._inputs
        if self._record is None:
            self._record = Recorder()
        return self._record(lambda: self._run(mine.latents, mine.times, mine.text, context))


Forward = Callable[[Tensor, Tensor, Text, Context], Tensor]


def fuse_passes(transformer: Transformer, graphs: bool = True) -> None:
    """From now on, passes run fused and, on a GPU, recorded."""
    fused = FusedPass(transformer)
    run: Forward = RecordedPass(fused) if graphs and transformer.device.type == "cuda" else fused
    transformer.forward = run  # type: ignore[method-assign, assignment]  # of this transformer, not of all
