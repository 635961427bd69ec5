"""Memory is bounded: what it holds after block 50 is what it holds after block 5,000."""

from dataclasses import replace

import pytest
import torch

from echo_cli.memory.table import POLICIES
from echo_cli.models.files.loading import random_transformer
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Kind
from tests.small import SPEC, policy_for, prompts_for, story

SMALLEST = replace(SPEC, depth=1, width=16, heads=1, ffn=16, steps=(1000,))
GRID = SMALLEST.grid_of_latents(2, 4)


def bytes_of(name: str, blocks: int) -> list[int]:
    """Bytes after every block of scenes that go on for ever: long ones and short, cuts, smooth changes and recalls."""
    kinds = [(Kind.SMOOTH, None, 11), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "scene0", 9), (Kind.SMOOTH, None, 3),
             (Kind.RECALL, "auto", 25)]
    scenes = [(None, None, 10)]
    while sum(count for *_, count in scenes) < blocks:
        scenes.append(kinds[len(scenes) % len(kinds)])
    timeline = story(scenes)
    policy = policy_for(name, timeline, spec=SMALLEST)
    with torch.inference_mode():
        loop = rollout(timeline, random_transformer(SMALLEST, 0), prompts_for(timeline, SMALLEST), policy,
                       KeyedNoise(1, timeline.scenes), GRID)
        return [result.bytes for _, result in zip(range(blocks), loop, strict=False)]


@pytest.mark.parametrize("name", POLICIES)
def test_after_many_scenes(name: str) -> None:
    held = bytes_of(name, 150)
    assert held[49] == held[-1]


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_five_thousand_blocks(name: str) -> None:
    held = bytes_of(name, 5000)
    assert held[49] == held[4999] and len(set(held)) == 1
