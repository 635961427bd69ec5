"""A model that was trained frame by frame: blocks of one frame, under every policy with its default settings."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from echo_cli.layout import Role
from echo_cli.memory.table import POLICIES
from echo_cli.rollout.rollout import Begun, BlockResult, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Kind, Scene, timeline_of
from tests.rollout.test_resuming import described, written
from tests.small import GRID, PROMPTS, SPEC, model, policy_for, prompts_for

FRAMEWISE = replace(SPEC, block_frames=1)
TRANSFORMER = model(spec=FRAMEWISE)
# longer and shorter than the window, and every kind of transition
STORY = [(None, None, 26), (Kind.SMOOTH, None, 4), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "scene0", 24)]

every_policy = pytest.mark.parametrize("name", POLICIES)


def film(name: str, begun: Begun | None = None, blocks: int = 56) -> list[tuple[BlockResult, Nest]]:
    scenes = [Scene(f"scene{index}", prompt, 1.0, kind, recall)
              for index, (prompt, (kind, recall, _)) in enumerate(zip(PROMPTS, STORY, strict=False))]
    timeline = timeline_of(scenes, [count for *_, count in STORY], FRAMEWISE.geometry)
    loop = rollout(timeline, TRANSFORMER, prompts_for(timeline, FRAMEWISE), policy_for(name, timeline, spec=FRAMEWISE),
                   KeyedNoise(1, timeline.scenes), GRID, begun=begun)
    return [(result, written(result.state())) for result, _ in zip(loop, range(blocks), strict=False)]


@cache
def whole(name: str) -> list[tuple[BlockResult, Nest]]:
    return film(name)


@every_policy
def test_every_policy_makes_a_film_of_single_frames(name: str) -> None:
    results = [result for result, _ in whole(name)]
    assert [tuple(result.block.frames) for result in results] == [(frame,) for frame in range(56)]
    assert all(result.latents.shape[1] == 1 and bool(result.latents.isfinite().all()) for result in results)
    assert len({result.bytes for result in results}) == 1
    sizes = [result.layout.tokens // GRID.tokens for result in results]
    window = 16 if name == "recache" else 21  # its sink and its short window, as LongLive has them
    assert max(sizes) == sizes[25] == window and sizes[:6] == [1, 2, 3, 4, 5, 6]
    for result in results:
        taken = [segment.position + index for segment in result.layout.segments for index in range(len(segment.frames))]
        assert len(set(taken)) == len(taken) and taken == sorted(taken)


@every_policy
def test_a_film_of_single_frames_resumes_to_the_last_bit(name: str) -> None:
    made = whole(name)
    for stop in (24, 30, 33):
        rest = film(name, Begun(stop, made[stop - 1][1]), blocks=6)
        for (before, _), (after, _) in zip(made[stop:], rest, strict=False):
            assert torch.equal(before.latents, after.latents), f"stopped after {stop}, block {after.block.index}"
            assert repr(described(before)) == repr(described(after))


@pytest.mark.parametrize("name", ["echo-forcing", "echo"])
def test_history_takes_what_the_window_has_left_and_anchors_roll_over_as_many_frames(name: str) -> None:
    last = whole(name)[25][0]
    roles = [(segment.role, len(segment.frames)) for segment in last.layout.segments]
    counts = {role: sum(count for other, count in roles if other is role) for role, _ in roles}
    assert counts == {Role.ANCHOR: 12, Role.HISTORY: 5, Role.RECENT: 3, Role.CURRENT: 1}
    rolled = [result.facts.anchors_from for result, _ in whole(name)[:26] if result.facts.anchors_from]
    assert [len(frames) for frames in rolled] == [1] * 5 and {frame for frames in rolled for frame in frames} <= set(
        range(12 if name == "echo-forcing" else 6))
