"""One contract for every policy, and what each does that the others do not."""

from collections.abc import Iterator
from functools import cache

import pytest
import torch

from echo_cli.errors import UsageError
from echo_cli.layout import Layout, Role
from echo_cli.memory.store import KVStore
from echo_cli.memory.table import POLICIES, read_settings, settings_type
from echo_cli.models.registry import MODELS
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.nouns import Block, Kind
from tests.small import GRID, SHORT, SPEC, memories, model, policy_for, prompts_for, run, story

every_policy = pytest.mark.parametrize("name", POLICIES)


@cache
def recorded(name: str) -> list[BlockResult]:
    return run(name)


def test_nothing_that_was_carried_has_no_countdown() -> None:
    timeline = story([(None, None, 2), (Kind.HARD_CUT, None, 2), (Kind.HARD_CUT, None, 1)])
    policy = policy_for("echo-forcing", timeline, {"hard_cut": {"source": "none"}})
    results = run("echo-forcing", timeline, policy=policy)
    opened = [result.transition for result in results if result.transition]
    assert [(each.carried, each.clear_after) for each in opened] == [(0, None)] * 3
    assert all(result.state()["policy"]["fading"]["clear_in"] == 0 for result in results)
    carried = run("echo-forcing", timeline, {"hard_cut": {"clear_after": 2}})[2].transition
    assert carried is not None and (carried.carried, carried.clear_after) == (1, 2)


@every_policy
def test_a_row_names_a_policy_its_settings_and_a_line_of_help(name: str) -> None:
    row, policy = POLICIES[name], policy_for(name, story(SHORT))
    assert type(policy) is row.load() and type(policy.settings) is row.settings and 10 < len(row.summary) < 80


@every_policy
@pytest.mark.parametrize("spec", sorted({model.spec for model in MODELS.own.values()}, key=lambda spec: spec.name))
def test_the_defaults_fit_every_built_in_model(name: str, spec: ModelSpec) -> None:
    """`validate` relies on it, so as not to import torch."""
    assert policy_for(name, story(SHORT), spec=spec).window == spec.window or read_settings(name).window is not None


@every_policy
def test_a_run_changes_nothing_in_its_policy(name: str) -> None:
    """So two runs of one policy are the same film."""
    timeline = story(SHORT)
    policy = policy_for(name, timeline)
    before = repr(vars(policy))
    first, second = (run(name, timeline, policy=policy) for _ in range(2))
    assert repr(vars(policy)) == before
    assert all(torch.equal(one.latents, other.latents) for one, other in zip(first, second, strict=True))


@every_policy
def test_layouts_match_the_store(name: str) -> None:
    """Every slot in a layout is in use and named once, its tokens are what attention gets, and the bound holds."""
    timeline = story()
    policy, seen = policy_for(name, timeline), []
    prepare = KVStore.prepare

    def prepared(store: KVStore, layout: Layout):
        context = prepare(store, layout)
        slots = [slot for segment in layout.segments for slot in segment.slots]
        past = [slot for segment in layout.past for slot in segment.slots]  # anchors may repeat a frame, as released
        assert set(slots) <= store.used and not set(past) & set(layout.current.slots)
        assert (
            context.past
            == sum(segment.tokens for segment in layout.past)
            == GRID.tokens * (len(slots) - SPEC.block_frames)
        )
        seen.append(layout)
        return context

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KVStore, "prepare", prepared)
        results = list(rollout(timeline, model(), prompts_for(timeline), policy, KeyedNoise(1, timeline.scenes), GRID))
    assert len(results) == len(timeline.blocks)
    for layout in seen:
        assert layout.tokens <= policy.window * GRID.tokens
        for segment in layout.segments:
            assert segment.tokens == len(segment.frames) * GRID.tokens == len(segment.slots) * GRID.tokens
        first = min(segment.position for segment in layout.segments)
        last = max(segment.position + len(segment.frames) for segment in layout.segments)
        assert first >= 0 and last - (layout.jump or 0) <= policy.window and last <= SPEC.positions
    for result in results:
        assert result.layout.current.frames == tuple(result.block.frames)
        assert (result.layout.jump is None) or result.block.opens


@every_policy
def test_positions_never_collide(name: str) -> None:
    for result in recorded(name):
        taken = [segment.position + index for segment in result.layout.segments for index in range(len(segment.frames))]
        assert len(set(taken)) == len(taken) and taken == sorted(taken)


@every_policy
def test_a_run_repeats_bit_for_bit(name: str) -> None:
    for one, two in zip(recorded(name), run(name), strict=True):
        assert torch.equal(one.latents, two.latents) and one.layout == two.layout
    assert not torch.equal(run(name, story([(None, None, 1)]), seed=2)[0].latents, recorded(name)[0].latents)


@every_policy
def test_bytes_do_not_grow(name: str) -> None:
    assert len({result.bytes for result in recorded(name)}) == 1


@every_policy
def test_a_batch_is_its_members(name: str) -> None:
    """Two films side by side are the two films alone: memory never mixes batch members."""
    timeline = story([(None, None, 9), (Kind.SMOOTH, None, 3), (Kind.RECALL, "scene0", 3)])
    rows, transformer = prompts_for(timeline, batch=2), model()

    def noise(member: slice):
        def draw(block: Block, step: int, shape) -> torch.Tensor:
            return KeyedNoise(1, timeline.scenes)(block, step, (2, *shape[1:]))[member]
        return draw

    def films(member: slice, size: int) -> Iterator[torch.Tensor]:
        return (result.latents for result in rollout(
            timeline, transformer, [row[member] for row in rows], policy_for(name, timeline), noise(member), GRID,
            batch=size))

    for both, first, second in zip(films(slice(0, 2), 2), films(slice(0, 1), 1), films(slice(1, 2), 1), strict=True):
        torch.testing.assert_close(both, torch.cat((first, second)), atol=2e-5, rtol=1e-4)


def test_window_forgets_and_sink_keeps_the_beginning() -> None:
    last = recorded("window")[-1].layout
    assert {frame for segment in last.segments for frame in segment.frames} == set(range(48 * 3 - 21, 48 * 3))
    last = run("sink", settings={"anchor_frames": 4})[-1].layout
    assert [frame for segment in last.of(Role.ANCHOR) for frame in segment.frames] == [0, 1, 2, 3]
    assert sum(len(segment.frames) for segment in last.segments) == 21


def test_flush_keeps_the_ends_and_leaps_at_a_hard_cut() -> None:
    opened = {result.block.scene: result for result in recorded("flush") if result.block.opens}
    smooth, cut = opened[1].layout, opened[3].layout
    assert [frame for segment in smooth.past for frame in segment.frames] == [0, 25, 26]
    assert smooth.jump is None and cut.jump == 45
    assert cut.current.position == 3 + 45 == cut.query_position


def test_none_drops_everything_at_a_change() -> None:
    opened = [result for result in recorded("none") if result.block.opens]
    assert all(not result.layout.past for result in opened)


def test_recache_encodes_what_it_remembers_under_the_new_prompt() -> None:
    """After a change of prompt, memory is what it would be had the same latents been made under the new prompt."""
    timeline = story([(None, None, 3), (Kind.SMOOTH, None, 2)])
    policy = policy_for("recache", timeline)
    kept = memories(policy)
    rows = prompts_for(timeline)
    loop = rollout(timeline, model(), rows, policy, KeyedNoise(1, timeline.scenes), GRID)
    made = [next(loop).latents for _ in range(3)]
    memory, = kept
    old = memory.store.keys[:, :, [held.slot for held in memory.past]].clone()
    opened = next(loop)
    assert [run.frames for run in opened.transition.replay] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    new = memory.store.keys[:, :, [held.slot for held in memory.past[:9]]]
    assert (new - old).abs().amax() > 1e-3

    # The same latents, made up as noise-free blocks under the new prompt from the start.
    same = story([(None, None, 3)])
    wanted = policy_for("recache", same)
    shown = memories(wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("echo_cli.rollout.rollout.denoise", lambda *args: iter([made[len(done)]]))
        done: list = []
        for result in rollout(same, model(), rows[1:], wanted, KeyedNoise(1, same.scenes), GRID):
            done.append(result)
    slots = [held.slot for held in shown[0].past]
    torch.testing.assert_close(new, shown[0].store.keys[:, :, slots], atol=1e-5, rtol=1e-4)


def test_echo_forcing_recalls_the_scene_it_was_told_to() -> None:
    opened = {result.block.scene: result for result in recorded("echo-forcing") if result.block.opens}
    first, auto = opened[4].transition, opened[6].transition
    assert (first.recall.scene, first.source_scene) == (0, 0)
    assert auto.recall.scene == 3 and dict(auto.recall.scores)[3] == max(dict(auto.recall.scores).values())
    carried = opened[4].layout.segments[0]
    assert carried.role is Role.TRANSITION and carried.scene == 0 and carried.expires == opened[4].block.index + 5


def test_what_a_transition_carried_leaves_when_it_should() -> None:
    for result in recorded("echo-forcing"):
        if result.block.scene:
            clear = 1 if result.block.scene in (3, 5) else 5
            assert bool(list(result.layout.of(Role.TRANSITION))) == (result.block.number < clear)


def test_a_scene_may_override_its_own_transition() -> None:
    timeline = story([(None, None, 3), (Kind.SMOOTH, None, 4)])
    scene = timeline.spans[1].scene
    object.__setattr__(scene, "memory", {"clear_after": 2})
    results = run("echo-forcing", timeline)
    assert [bool(list(result.layout.of(Role.TRANSITION))) for result in results[3:]] == [True, True, False, False]
    object.__setattr__(scene, "memory", {"clear_aftr": 2})
    with pytest.raises(UsageError, match="did you mean 'clear_after'"):
        policy_for("echo-forcing", timeline)


@pytest.mark.parametrize(("name", "settings", "said"), [
    ("echo-forcin", {}, "did you mean 'echo-forcing'"),
    ("sink", {"anchors": 3}, "did you mean 'anchor_frames'"),
    ("sink", {"anchor_frames": -1}, "whole number"),
    ("sink", {"anchor_frames": 18}, "no room for recent"),
    ("echo-forcing", {"anchor_frames": 20}, "are 29 frames, but the window has 21"),
    ("echo-forcing", {"rolling_cycle": 8}, "needs 24 frames"),
    ("echo-forcing", {"smooth": 3}, "must be a mapping"),
    ("echo-forcing", {"smooth": {"strategy": "slow"}}, "must be one of fixed, diff"),
    ("echo-forcing", {"drift_gate": 1}, "true or false"),
    ("echo-forcing", {"base_weight": 1.5}, "at most 1"),
    ("echo-forcing", {"hard_cut": {"jump_value": 99}}, "temporal positions"),
    ("echo-forcing", {"library": 1}, "needs 2 scenes in the library at once"),
    ("echo-forcing", {"smooth": {"jump": "similarity"}}, "recalls nothing"),
    ("recache", {"recent_frames": 16}, "do not fit"),
    ("window", {"window": 3}, "leaves no room"),
    ("flush", {"hard_cut_jump": 90}, "temporal positions"),
])
def test_settings_that_cannot_be(name: str, settings: dict, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        policy_for(name, story(), settings)
    assert said in str(caught.value) and caught.value.hint


def test_every_setting_is_read_somewhere() -> None:
    from dataclasses import fields
    from pathlib import Path

    import echo_cli.memory.policies as policies

    code = "".join(path.read_text() for path in Path(policies.__file__).parent.glob("*.py"))
    for other in ("memory/settings.py", "memory/history.py", "memory/recall.py", "rollout/plan.py"):
        code += (Path(policies.__file__).parents[2] / other).read_text()
    for name in POLICIES:
        for item in fields(settings_type(name)):
            assert f".{item.name}" in code or item.name in {kind.setting for kind in Kind}, item.name
    for item in fields(type(read_settings("echo-forcing").smooth)):
        assert f"cut.{item.name}" in code, item.name
