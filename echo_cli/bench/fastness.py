"""How far `--fast` moves a film's latents, part by part, and what it gains: the same blocks with and without it.

With a model's own weights, or with random ones of any model's size; noise and prompts are the same, so every difference
comes from the arithmetic.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from echo_cli import machine
from echo_cli.bench.footprint import PROMPTS
from echo_cli.eight import attend_to_codes
from echo_cli.memory.policies import make_policy
from echo_cli.memory.table import read_settings
from echo_cli.models.files.eight_bits import EightBits
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.fp8 import attend_in_eight_bits, use_eight_bits
from echo_cli.models.layers import Attend
from echo_cli.models.loaders import load_backend
from echo_cli.models.running import Running
from echo_cli.models.transformer import Transformer
from echo_cli.models.tuning import choose_attention, eight_bit_attention, quicken
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.nouns import Scene, timeline_of


@dataclass(frozen=True)
class Fastness:
    """Block by block, how far latents are from exact ones, as a share of their length: `moved` with linear layers in
    eight bits; `attention` with the attention of all layers in eight bits; `both` with what --fast does: linear layers,
    and the attention of layers that are near enough; `rounding` for the runtime's dtype against float32, if that is
    different. `distances` are those of each layer's attention, the greatest of all passes."""

    spec: str
    layers: int
    dtype: str
    weights: str | None  # None: random
    device: str
    kernel: str  # for attention in eight bits
    moved: tuple[float, ...]
    attention: tuple[float, ...]
    both: tuple[float, ...]
    rounding: tuple[float, ...] | None
    distances: tuple[float, ...]
    near: tuple[int, ...]  # layers
    block_s: float  # exact, the last block
    fast_block_s: float  # with what --fast does

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Subject:
    """What is measured: a model by its name, with its own weights, or random weights of `spec`."""

    spec: ModelSpec
    model: str | None = None

    def transformer(self, runtime: Runtime) -> tuple[Transformer, Tensor, str | None]:
        """It, the text rows of a prompt, and the hash of the weights."""
        if self.model is None:
            rows = torch.randn(1, self.spec.text_len, self.spec.text_dim, generator=torch.Generator().manual_seed(0))
            return random_transformer(self.spec, 0, runtime.device, runtime.dtype), rows, None
        backend = load_backend(self.model, runtime, Running(compiled=False))
        return backend.transformer, backend.text.encode(PROMPTS[:1]), backend.weights_hash


@dataclass(frozen=True)
class Setup:
    """How a film is made: how many blocks of which size under which memory, with passes compiled or not."""

    blocks: int
    policy: str
    size: tuple[int, int] | None
    compiled: bool

    @torch.inference_mode()
    def film(self, transformer: Transformer, rows: Tensor) -> tuple[list[Tensor], float]:
        """The latents of a scene's blocks on the host, and the seconds that the last one took."""
        spec = transformer.spec
        if self.compiled:
            quicken(transformer)
        timeline = timeline_of([Scene("scene", "", 1.0)], [self.blocks], spec.geometry)
        policy = make_policy(self.policy, read_settings(self.policy), spec, timeline)
        made, began = [], time.perf_counter()
        for result in rollout(timeline, transformer, [rows], policy, KeyedNoise(0, timeline.scenes),
                              spec.grid(self.size)):
            made.append(result.latents.float().cpu())  # waits for the device, before timing
            ended, began = time.perf_counter() - began, time.perf_counter()
        return made, ended


def measure(subject: Subject, runtime: Runtime, setup: Setup) -> Fastness:
    kernel, words = eight_bit_attention(runtime.device, runtime.dtype)
    eight = partial(attend_in_eight_bits, kernel=kernel or attend_to_codes)

    def film(*changes: Callable[[Transformer], Any]) -> tuple[list[Tensor], float, str | None]:
        transformer, rows, weights = subject.transformer(runtime)
        choose_attention(transformer)
        for change in changes:
            change(transformer)
        return *setup.film(transformer, rows), weights

    linear, far, spec = partial(use_eight_bits, device=runtime.device), Distances(), subject.spec
    exact, exact_s, weights = film()
    attention = film(eight, far.watch)[0]
    found = EightBits(weights or "", far.read(), machine.device_name(runtime))
    moved = film(linear)[0]
    both, fast_s, _ = film(linear, partial(eight, layers=found.layers))
    rounding = None
    if runtime.dtype is not torch.float32:
        transformer, rows, _ = subject.transformer(Runtime(runtime.device, torch.float32))
        choose_attention(transformer)
        rounding = _shares(replace(setup, compiled=False).film(transformer, rows)[0], exact)
    return Fastness(spec.name, spec.depth, str(runtime.dtype).removeprefix("torch."), weights, found.device, words,
                    _shares(exact, moved), _shares(exact, attention), _shares(exact, both), rounding,
                    found.distances, found.layers, exact_s, fast_s)


class Distances:
    """How far the attention of each layer in eight bits is from exact attention to the same window."""

    def __init__(self) -> None:
        self._greatest: list[Tensor] = []

    def watch(self, transformer: Transformer) -> None:
        for layer, block in enumerate(transformer.layers):
            self._greatest.append(torch.zeros((), device=transformer.device))
            block.self_attn.attend = partial(self._attend, layer, block.self_attn.attend)

    def _attend(self, layer: int, attend: Attend, query: Tensor, keys: Tensor, values: Tensor,
                bias: Tensor | None = None, codes: Any = None) -> Tensor:
        exact = attend(query, keys, values, bias)
        if codes is None:
            return exact
        near = attend(query, keys, values, bias, codes)
        moved = (near.float() - exact.float()).norm() / exact.float().norm()
        torch.maximum(self._greatest[layer], moved, out=self._greatest[layer])
        return near

    def read(self) -> tuple[float, ...]:
        return tuple(map(float, self._greatest))


def _shares(true: list[Tensor], moved: list[Tensor]) -> tuple[float, ...]:
    return tuple(float((there - here).norm() / here.norm()) for here, there in zip(true, moved, strict=True))
