"""Scenes that begin with given latents: they are in the film as they are, and what follows depends on them."""

from dataclasses import replace

import pytest
import torch

from echo_cli.rollout.rollout import BlockResult, Given, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Kind, Scene, timeline_of
from tests.small import GRID, PROMPTS, SPEC, model, policy_for

FRAMEWISE = replace(SPEC, block_frames=1)
POLICIES = {
    "window": {}, "sink": {}, "flush": {}, "recache": {}, "echo-forcing": {"history_frames": 5}, "echo-infinity": {},
    "scene-queries": {}, "echo": {"history_frames": 5},
}


def latents(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, frames, SPEC.channels, GRID.height, GRID.width, generator=torch.Generator().manual_seed(seed))


def films(name: str, spec=SPEC, settings=None, given: Given | None = None, blocks: int = 8) -> list[BlockResult]:
    kinds = ((None, None), (Kind.HARD_CUT, None), (Kind.RECALL, "s0"))
    scenes = [Scene(f"s{index}", PROMPTS[index], 1.0, *kind) for index, kind in enumerate(kinds)]
    timeline = timeline_of(scenes, [blocks, blocks, 3], spec.geometry)
    rows = [torch.randn(1, spec.text_len, spec.text_dim, generator=torch.Generator().manual_seed(5)) for _ in scenes]
    policy = policy_for(name, timeline, settings, spec)
    return list(rollout(timeline, model(spec=spec), rows, policy, KeyedNoise(1, timeline.scenes), GRID,
                        openings=lambda scene: given))


@pytest.mark.parametrize("name", POLICIES)
def test_a_model_of_single_frames_takes_a_given_one_as_a_whole_block(name: str) -> None:
    """Nothing of that block is generated: the frame enters memory by a clean pass, under every policy."""
    given = Given(latents(1))
    made = films(name, FRAMEWISE, POLICIES[name], given, blocks=24)
    assert [result.given for result in made] == [int(result.block.opens) for result in made]
    assert all(torch.equal(result.latents, given.latents) for result in made if result.block.opens)
    assert all(bool(result.latents.isfinite().all()) for result in made)
    other = films(name, FRAMEWISE, POLICIES[name], Given(latents(1, seed=1)), blocks=24)
    assert not torch.equal(made[1].latents, other[1].latents), "what follows depends on it"


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_given_frames_stand_and_the_rest_of_their_block_is_generated_around_them(frames: int) -> None:
    given = Given(latents(frames), latents(1, seed=2))
    made, free = films("window", given=given), films("window")
    first = torch.cat([made[0].latents, made[1].latents], 1)
    assert torch.equal(first[:, :frames], given.latents) and [made[0].given, made[1].given] == [
        min(3, frames), max(0, frames - 3)]
    assert not torch.equal(first[:, frames:], torch.cat([free[0].latents, free[1].latents], 1)[:, frames:])
    leads = [result.lead is not None for result in made]
    assert leads == [result.block.opens for result in made], "the decoder's stream restarts once a scene"
