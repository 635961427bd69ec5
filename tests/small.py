"""A model small enough to run thousands of blocks, with random weights, and films for it."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import torch

from echo_cli.memory.entries import SceneEntry
from echo_cli.memory.policies import make_policy
from echo_cli.memory.policies.base import Memory, Policy
from echo_cli.memory.recorder import Shelf
from echo_cli.memory.store import Placement
from echo_cli.memory.table import read_settings
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.models.transformer import Transformer
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.spec import RANDOM_SMALL, WAN_1_3B, ModelSpec
from echo_cli.storyboard.matching import plan_recalls, similarities
from echo_cli.storyboard.nouns import Kind, Scene, Timeline, timeline_of

# The registered small model, but conditioned and laid out as Wan is (four steps, no pooled text, its strides), and wide
# enough for every kernel.
SPEC = replace(RANDOM_SMALL, name="small", width=48, ffn=64, text_len=6, freq_dim=16, steps=WAN_1_3B.steps,
               strides=WAN_1_3B.strides, size=WAN_1_3B.size, detail=WAN_1_3B.detail, pooled_text=False)
GRID = SPEC.grid_of_latents(4, 6)

# Every kind of transition, scenes longer and shorter than the window, two recalls.
STORY = [(None, None, 9), (Kind.SMOOTH, None, 8), (Kind.SMOOTH, None, 3), (Kind.HARD_CUT, None, 9),
         (Kind.RECALL, "scene0", 9), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "auto", 8)]
SHORT = [(None, None, 9), (Kind.SMOOTH, None, 3), (Kind.RECALL, "scene0", 2)]
PROMPTS = [
    "a red ball rolls over a green meadow",
    "the red ball stops on the meadow",
    "a blue ball joins on the meadow",
    "a dark city under heavy rain",
    "back on the green meadow a ball rolls",
    "desert dunes at noon",
    "the dark city again in the rain",
]


def story(scenes: list[tuple[Kind | None, str | None, int]] = STORY, **memory: Any) -> Timeline:
    made = [Scene(f"scene{index}", PROMPTS[index % len(PROMPTS)], 1.0, kind, recall)
            for index, (kind, recall, _) in enumerate(scenes)]
    return timeline_of(made, [count for *_, count in scenes], SPEC.geometry)


def policy_for(name: str, timeline: Timeline, settings: Mapping[str, Any] | None = None, spec: ModelSpec = SPEC,
               queries: MemoryQueries | None = None) -> Policy:
    values = read_settings(name, settings or {})
    match, least = (values.recalling.match, values.recalling.least) if values.recalling else ("idf", 0.0)
    recalls = plan_recalls(timeline.scenes, similarities(timeline.prompts, match), 64, timeline.past, least)
    return make_policy(name, values, spec, timeline, recalls, queries)


def memories(policy: Policy) -> list[Memory]:
    """The memories that this policy allocates from now on."""
    allocated: list[Memory] = []
    allocate = policy.allocate

    def kept(place: Placement) -> Memory:
        allocated.append(allocate(place))
        return allocated[-1]

    policy.allocate = kept
    return allocated


def model(seed: int = 0, spec: ModelSpec = SPEC) -> Transformer:
    return random_transformer(spec, seed)


def prompts_for(timeline: Timeline, spec: ModelSpec = SPEC, batch: int = 1) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return [torch.randn(batch, spec.text_len, spec.text_dim, generator=generator) for _ in timeline.scenes]


def run(name: str, timeline: Timeline | None = None, settings: Mapping[str, Any] | None = None, *, seed: int = 1,
        transformer: Transformer | None = None, policy: Policy | None = None,
        home: torch.device | None = None, past: Mapping[int, SceneEntry] = MappingProxyType({}),
        shelf: Shelf | None = None) -> list[BlockResult]:
    timeline = timeline or story()
    policy = policy or policy_for(name, timeline, settings)
    noise = KeyedNoise(seed, timeline.scenes)
    return list(rollout(timeline, transformer or model(), prompts_for(timeline), policy, noise, GRID, home=home,
                        past=past, shelf=shelf))
