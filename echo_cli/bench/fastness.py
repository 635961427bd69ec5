"""How far `--fast` moves a film's latents, and what it gains: the same blocks with and without it.

Random weights at any model's size; noise and prompts are the same, so every difference comes from the arithmetic. With
trained weights it may be more or less.
"""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from echo_cli.memory.policies import make_policy
from echo_cli.memory.table import read_settings
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.fp8 import attend_in_eight_bits, use_eight_bits
from echo_cli.models.transformer import Transformer
from echo_cli.models.tuning import choose_attention, quicken
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.nouns import Scene, timeline_of


@dataclass(frozen=True)
class Fastness:
    """`moved`: block by block, the distance between the latents as a share of their length, with linear layers in eight
    bits; `attention` the same for attention in eight bits, which --fast does not use (where passes are compiled, to the
    prompt too), and `both`; `rounding` for the runtime's dtype against float32, if that is different."""

    spec: str
    layers: int
    dtype: str
    moved: tuple[float, ...]
    attention: tuple[float, ...]
    both: tuple[float, ...]
    rounding: tuple[float, ...] | None
    block_s: float  # exact, the last block
    fast_block_s: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    spec: ModelSpec,
    runtime: Runtime,
    *,
    depth: int | None,
    size: tuple[int, int] | None,
    blocks: int,
    policy: str,
    compiled: bool,
) -> Fastness:
    spec = replace(spec, depth=depth or spec.depth)

    def film(linear: bool, attention: bool) -> tuple[list[Tensor], float]:
        transformer = random_transformer(spec, 0, runtime.device, runtime.dtype)
        if linear:
            use_eight_bits(transformer, runtime.device)
        return _film(transformer, runtime, size, blocks, policy, compiled, attention)

    (exact, exact_s), (moved, quick_s) = film(False, False), film(True, False)
    (attention, _), (both, _) = film(False, True), film(True, True)
    rounding = None
    if runtime.dtype is not torch.float32:
        wide = Runtime(runtime.device, torch.float32)
        true, _ = _film(random_transformer(spec, 0, wide.device, wide.dtype), wide, size, blocks, policy, False)
        rounding = _distances(true, exact)
    return Fastness(
        spec.name,
        spec.depth,
        str(runtime.dtype).removeprefix("torch."),
        _distances(exact, moved),
        _distances(exact, attention),
        _distances(exact, both),
        rounding,
        exact_s,
        quick_s,
    )


@torch.inference_mode()
def _film(transformer: Transformer, runtime: Runtime, size: tuple[int, int] | None, blocks: int, name: str,
          compiled: bool, eight: bool = False) -> tuple[list[Tensor], float]:
    """The latents of a scene's blocks on the host, and the seconds that the last one took."""
    spec = transformer.spec
    choose_attention(transformer)
    if eight:
        for block in transformer.layers:
            block.self_attn.attend = attend_in_eight_bits
    if compiled:
        quicken(transformer)
    timeline = timeline_of([Scene("scene", "", 1.0)], [blocks], spec.geometry)
    rows = [torch.randn(1, spec.text_len, spec.text_dim, generator=torch.Generator().manual_seed(0))]
    policy = make_policy(name, read_settings(name), spec, timeline)
    made, began = [], time.perf_counter()
    for result in rollout(timeline, transformer, rows, policy, KeyedNoise(0, timeline.scenes), spec.grid(size)):
        made.append(result.latents.float().cpu())  # waits for the device, before timing
        ended, began = time.perf_counter() - began, time.perf_counter()
    return made, ended


def _distances(true: list[Tensor], moved: list[Tensor]) -> tuple[float, ...]:
    return tuple(float((there - here).norm() / here.norm()) for here, there in zip(true, moved, strict=True))
