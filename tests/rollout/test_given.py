"""Scenes that begin with given latents: they are in the film as they are, and what follows depends on them."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from echo_cli.rollout import sampling
from echo_cli.rollout.rollout import Begun, BlockResult, Given, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Kind, Scene, timeline_of
from tests.rollout.test_resuming import written
from tests.small import GRID, PROMPTS, SPEC, model, policy_for

FRAMEWISE = replace(SPEC, block_frames=1)
POLICIES = {
    "window": {}, "sink": {}, "flush": {}, "recache": {}, "echo-forcing": {"history_frames": 5}, "echo-infinity": {},
    "scene-queries": {}, "echo": {},
}


def latents(frames: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(1, frames, SPEC.channels, GRID.height, GRID.width, generator=torch.Generator().manual_seed(seed))


CHANGES = ((None, None), (Kind.HARD_CUT, None), (Kind.RECALL, "s0"))


def films(name: str, spec=SPEC, settings=None, given: Given | None = None, blocks: int = 8, begun: Begun | None = None,
          kinds=CHANGES) -> list[BlockResult]:
    return list(resumable(name, settings, given, begun, spec, blocks, kinds))


def resumable(name: str, settings=None, given: Given | None = None, begun: Begun | None = None, spec=SPEC,
              blocks: int = 8, kinds=CHANGES) -> Iterator[BlockResult]:
    scenes = [Scene(f"s{index}", PROMPTS[index], 1.0, *kind) for index, kind in enumerate(kinds)]
    timeline = timeline_of(scenes, [blocks, blocks, 3][:len(scenes)], spec.geometry)
    rows = [torch.randn(1, spec.text_len, spec.text_dim, generator=torch.Generator().manual_seed(5)) for _ in scenes]
    policy = policy_for(name, timeline, settings, spec)
    return rollout(timeline, model(spec=spec), rows, policy, KeyedNoise(1, timeline.scenes), GRID, begun=begun,
                   openings=lambda scene: given)


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


def with_still(seed: int = 0) -> Given:
    return Given(latents(1, seed), latents(1, 9), latents(3, seed + 5))


@pytest.mark.parametrize("name", ["none", *POLICIES])
def test_a_still_stands_in_memory_before_the_scene_and_is_no_part_of_the_film(name: str) -> None:
    settings = {"trained": False} if name in ("echo-infinity", "scene-queries") else {}
    made = films(name, settings=settings, given=with_still())
    assert [tuple(result.block.frames) for result in made] == [tuple(range(at, at + 3)) for at in range(0, 57, 3)]
    for result in made:
        taken = [segment.position + index for segment in result.layout.segments for index in range(len(segment.frames))]
        assert len(set(taken)) == len(taken) and result.layout.tokens <= 21 * GRID.tokens
        first = result.block.frames.start
        stills = [frame for segment in result.layout.past for frame in segment.frames].count(first)
        assert stills == (3 if result.block.opens and result.block.scene < 2 else 0), "a recall brings its own place"
    assert torch.equal(made[0].latents[:, :1], latents(1)) and bool(made[-1].latents.isfinite().all())
    other = next(resumable(name, settings, Given(latents(1), latents(1, 9), latents(3, seed=6))))
    assert not torch.equal(made[0].latents[:, 1:], other.latents[:, 1:]), "the block attends to the stills"


@pytest.mark.parametrize("name", ["window", "recache", "echo", "scene-queries"])
def test_a_film_that_stops_beside_a_still_resumes_to_the_last_bit(name: str) -> None:
    settings = {"trained": False} if name == "scene-queries" else {}
    whole, states = films(name, settings=settings, given=with_still()), []
    for result in resumable(name, settings, with_still()):
        states.append(written(result.state()))
    for stop in (1, 8, 9, 16, 17):
        rest = list(resumable(name, settings, with_still(), Begun(stop, states[stop - 1])))
        assert all(torch.equal(one.latents, two.latents) for one, two in zip(whole[stop:], rest, strict=True)), stop


def test_where_memory_has_no_place_for_a_still_the_scene_begins_without_it() -> None:
    tight = {"smooth": {"recent_frames": 17}}
    made = films("echo-forcing", settings=tight, given=with_still(), kinds=((None, None), (Kind.SMOOTH, None)))
    opened = [result for result in made if result.block.opens]
    assert [len([frame for segment in result.layout.past for frame in segment.frames
                 if frame == result.block.frames.start]) for result in opened] == [3, 0]


def test_whole_given_blocks_enter_memory_as_the_initial_latents_of_self_forcing_do(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of them is generated: each is run once, clean, at time zero, and what follows sees what that left."""
    given = Given(latents(6))
    made = films("window", given=given, kinds=CHANGES[:1])
    generate, blocks = sampling.denoise, iter(given.latents.split(3, 1))

    def put_in(*arguments: object) -> Iterator[torch.Tensor]:
        block = next(blocks, None)
        return generate(*arguments) if block is None else iter([block])

    monkeypatch.setattr("echo_cli.rollout.rollout.denoise", put_in)
    for one, other in zip(made, films("window", kinds=CHANGES[:1]), strict=True):
        assert torch.equal(one.latents, other.latents)
