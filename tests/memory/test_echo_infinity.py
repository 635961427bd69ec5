"""`echo-infinity` and `scene-queries`: nothing leaves unseen, positions stay where they were trained, scenes come
back."""

import itertools
import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from echo_cli.errors import UsageError
from echo_cli.layout import Layout, Role
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.policies.echo_infinity import COLUMNS, Absorbing, EchoInfinityMemory
from echo_cli.memory.policies.scene_queries import SceneQueriesMemory
from echo_cli.memory.store import CleanPass, Placement
from echo_cli.models.queries import model as queries
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Block, Kind, Timeline
from tests.small import GRID, SPEC, model, policy_for, prompts_for, run, story

QUERIES, ANCHORS = 6, 9


def driven(policy: Policy, timeline: Timeline, look=lambda layout, memory: None) -> EchoInfinityMemory:
    """Memory's own work for every block, without a network: frames are random numbers."""
    memory = policy.allocate(Placement(GRID))
    assert isinstance(memory, EchoInfinityMemory)
    store = memory.store
    generator = torch.Generator().manual_seed(3)
    shape = (SPEC.depth, 1, 3 * GRID.tokens, SPEC.heads, SPEC.head_dim)
    for block in timeline.blocks:
        if block.opens:
            memory.open_scene(block)
        layout = memory.arrange(block)
        store.write(
            layout.current.slots, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
        )
        clean = CleanPass(store, layout.current.slots)
        memory.absorb(block, clean)
        if block.closes:
            memory.close_scene(block)
        look(layout, memory)
    return memory


@pytest.mark.parametrize("name", ["echo-infinity", "scene-queries"])
@pytest.mark.parametrize(
    "scenes",
    [
        [(None, None, 5000)],
        [(None, None, 9)] + [(Kind.SMOOTH, None, 9), (Kind.HARD_CUT, None, 4), (Kind.RECALL, "scene0", 11)] * 60,
    ],
    ids=["long", "many"],
)
def test_no_position_beyond_the_trained_window_is_ever_used(name: str, scenes: list) -> None:
    """Anchors and queries stand at the beginning; the newest frame reaches the last trained place and stays there."""
    timeline = story(scenes)
    policy = policy_for(name, timeline, {"update": "initial"})
    newest: list[int] = []

    def look(layout: Layout, memory: EchoInfinityMemory) -> None:
        assert (
            layout.jump is None
            and layout.segments[0].position == 0
            and layout.query_position == layout.current.position
        )
        assert layout.tokens <= SPEC.window * GRID.tokens
        newest.append(layout.current.position + len(layout.current.frames) - 1)

    driven(policy, timeline, look)
    assert max(newest) == SPEC.window - 1
    if len(scenes) == 1:
        assert newest[:4] == [2, 5, 8, 11] and set(newest[5:]) == {SPEC.window - 1}


def test_every_frame_leaves_once_and_in_order() -> None:
    results = run("echo-infinity")
    gone = [frame for result in results for frame in result.facts.evicted]
    assert gone == list(range(ANCHORS, ANCHORS + len(gone))) and len(gone) == 48 * 3 - (21 - 3 - QUERIES)
    for result in results[5:]:
        recent = [frame for segment in result.layout.of(Role.RECENT) for frame in segment.frames]
        assert recent == list(range(result.block.frames.start - 12 + ANCHORS, result.block.frames.start))
        assert sum(len(segment.frames) for segment in result.layout.of(Role.QUERY)) == QUERIES


def test_queries_change_what_is_made_and_only_once_something_has_left() -> None:
    plain, learned = run("window", settings={"window": 15}), run("echo-infinity")
    assert torch.equal(plain[4].latents, learned[4].latents) and not torch.equal(plain[5].latents, learned[5].latents)


def states(settings: dict, blocks: int = 12) -> list[torch.Tensor]:
    timeline = story([(None, None, blocks)])
    policy, seen = policy_for("echo-infinity", timeline, settings), []
    driven(policy, timeline, lambda layout, memory: seen.append(memory.queries.state.values))
    return seen


def test_the_ablations_do_what_they_say() -> None:
    gated, initial, frozen, ungated = (
        states({"update": update}) for update in ("gated", "initial", "frozen", "ungated")
    )
    assert all(torch.equal(initial[0], later) for later in initial[1:])
    assert not torch.equal(frozen[3], frozen[4]) and all(torch.equal(frozen[4], later) for later in frozen[5:])
    assert torch.equal(gated[4], frozen[4]) and not torch.equal(gated[5], gated[6])
    assert not torch.equal(ungated[5], gated[5]) and not torch.equal(ungated[5], ungated[6])
    assert states({"query_frames": 2})[5].shape[2] == 2


def test_learned_queries_are_used_unless_untrained_ones_are_asked_for() -> None:
    learned = MemoryQueries(SPEC, 2).requires_grad_(False)
    learned.values += 1.0
    timeline = story([(None, None, 6)])
    shown = {}
    for trained in (True, False):
        policy = policy_for("echo-infinity", timeline, {"trained": trained}, queries=learned)
        shown[trained] = driven(policy, timeline).queries.learned
    assert shown[True] is learned and shown[False].frames == 2 and not torch.equal(shown[False].values, learned.values)


@pytest.mark.parametrize(("settings", "said"), [
    ({"query_frames": 7}, "7 query frames are wanted, but 6 were learned"),
    ({"anchor_frames": 12}, "leave no room for recent ones"),
    ({"window": 18}, "leave no room for recent ones"),
    ({"window": 9}, "9 anchor frames leave no room"),
])
def test_settings_that_cannot_be(settings: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        policy_for("echo-infinity", story([(None, None, 2)]), settings, queries=MemoryQueries(SPEC, 6))
    assert caught.value.hint


def test_anchors_stand_before_the_queries() -> None:
    last = run("echo-infinity", story([(None, None, 9)]), {"anchor_frames": 3})[-1].layout
    assert [(segment.role, segment.position) for segment in last.segments] == [
        (Role.ANCHOR, 0), (Role.QUERY, 3), (Role.RECENT, 9), (Role.CURRENT, 18)]
    assert last.segments[0].frames == (0, 1, 2)


def test_shares_say_what_is_in_the_queries() -> None:
    for result in run("echo-infinity"):
        facts = result.facts
        assert (facts.gates is not None) == (result.block.index >= 4) and (facts.left is not None) == (
            result.block.index >= 5
        )
        if facts.left is not None:
            left = torch.tensor(facts.left.read())  # [query frame, scene]
            assert (
                left.shape == (QUERIES, len(facts.left_scenes))
                and (left >= 0).all()
                and (left.sum(1) <= 1 + 1e-5).all()
            )
            assert set(facts.left_scenes) <= set(range(result.block.scene + 1))
    # The queries were made to follow at different paces: the first keeps more of the film's beginning than the last.
    at = facts.left_scenes.index(0)
    assert left[0, at] > left[-1, at]


def test_the_shares_of_many_scenes_are_followed_in_the_same_space() -> None:
    timeline = story([(None, None, 6)] + [(Kind.SMOOTH, None, 4)] * 14)
    policy = policy_for("echo-infinity", timeline)
    sums: list[torch.Tensor] = []

    def look(layout: Layout, memory: EchoInfinityMemory) -> None:
        sums.append(memory.queries.shares.sum(-1))
        assert len(memory.queries.scenes) <= COLUMNS

    queries = driven(policy, timeline, look).queries
    assert queries.scenes[0] is None and queries.scenes[-1] in (13, 14)
    # Joining columns loses nothing: what is taken in only ever grows towards one.
    assert all(
        (later >= before - 1e-5).all() and (later <= 1 + 1e-5).all()
        for before, later in itertools.pairwise(sums)
    )


# ---------------------------------------------------------------- scenes with queries of their own


RETURN = [
    (None, None, 8),
    (Kind.HARD_CUT, None, 3),
    (Kind.RECALL, "scene0", 7),
    (Kind.SMOOTH, None, 3),
    (Kind.RECALL, "scene0", 2),
]


def test_a_recall_brings_back_the_queries_of_its_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = story(RETURN)
    kept: dict[str, torch.Tensor] = {}
    bring, close = SceneQueriesMemory._bring_back, SceneQueriesMemory.close_scene

    def closing(memory: SceneQueriesMemory, block: Block) -> None:
        close(memory, block)
        if block.scene == 0:
            kept["closed"] = torch.stack([memory.library.get(keepsake)[1] for keepsake in memory._keepsakes(0)], 2)

    def bringing(memory: SceneQueriesMemory, source: int) -> None:
        bring(memory, source)
        kept[f"scene {len(kept)}"] = memory.queries.state.values.clone()
        assert source == 0 and memory.queries.scenes == [0]

    monkeypatch.setattr(SceneQueriesMemory, "_bring_back", bringing)
    monkeypatch.setattr(SceneQueriesMemory, "close_scene", closing)
    memory = driven(policy_for("scene-queries", timeline), timeline)
    assert len(kept) == 3 and all(torch.equal(kept["closed"], state) for state in kept.values())
    assert isinstance(memory, SceneQueriesMemory)
    assert not memory.shelf and not memory.library.state()["kept"]  # nobody wants it any more


def test_how_each_kind_of_scene_begins() -> None:
    results = run("scene-queries", story(RETURN))
    opened = {result.block.scene: result for result in results if result.block.opens}
    assert [segment.role for segment in opened[1].layout.segments] == [Role.CURRENT]
    back = opened[2]
    assert [
        (segment.role, len(segment.frames), segment.scene, segment.position) for segment in back.layout.segments
    ] == [(Role.TRANSITION, 1, 0, 0), (Role.QUERY, 6, 0, 1), (Role.CURRENT, 3, 2, 7)]
    assert back.layout.segments[0].expires == back.block.index + 4 and back.transition.source == "both"
    assert back.transition.source_scene == 0 and back.transition.recall.scene == 0
    smooth = opened[3].layout
    assert [(segment.role, segment.frames) for segment in smooth.segments if segment.role is Role.RECENT] == [
        (Role.RECENT, (52, 53))
    ]
    gone = results[back.block.index + 4].layout
    assert not list(gone.of(Role.TRANSITION)) and list(gone.of(Role.QUERY))


def test_anchors_are_of_the_scene_or_of_the_one_that_it_smoothly_follows() -> None:
    results = run("scene-queries", story(RETURN), {"anchor_frames": 3})
    anchors = {result.block.scene: [frame for segment in result.layout.of(Role.ANCHOR) for frame in segment.frames]
               for result in results if result.block.closes}
    assert anchors == {0: [0, 1, 2], 1: [24, 25, 26], 2: [33, 34, 35], 3: [33, 34, 35], 4: [63, 64, 65]}


def test_queries_may_stand_for_a_scene_alone() -> None:
    results = run("scene-queries", story(RETURN), {"recall_frame": False})
    back = next(result for result in results if result.block.scene == 2)
    assert [segment.role for segment in back.layout.segments] == [
        Role.QUERY,
        Role.CURRENT,
    ] and back.transition.source == "queries"


def test_a_scene_shorter_than_the_window_is_remembered_too() -> None:
    results = run("scene-queries", story([(None, None, 2), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "scene0", 2)]))
    back = results[4]
    assert list(back.layout.of(Role.QUERY)) and max(share for frame in back.facts.left.read() for share in frame) > 0.5


def test_the_recall_frame_fades_where_it_disagrees() -> None:
    results = run("scene-queries", story(RETURN))
    back = [result for result in results if result.block.scene == 2][:4]
    rates = torch.tensor(back[0].facts.decay_map.read())
    assert rates.min() >= 0.55 - 1e-6 and rates.max() <= 0.9 + 1e-6 and rates.max() > rates.min()
    means = [result.facts.weights.read()[0][1] for result in back]
    assert means[0] == 1.0 and all(later < before for before, later in itertools.pairwise(means))


@pytest.mark.parametrize("settings", [{"clear_after": 0}, {"clear_after": 5}])
def test_a_recall_frame_must_leave_before_the_window_is_full(settings: dict) -> None:
    with pytest.raises(UsageError, match="cannot stay"):
        policy_for("scene-queries", story(RETURN), settings)


def test_scenes_that_nobody_wants_are_not_kept_and_the_library_is_bounded() -> None:
    many = [(None, None, 2), *[(Kind.HARD_CUT, None, 2)] * 3, (Kind.RECALL, "scene0", 2), (Kind.RECALL, "scene1", 2)]
    policy = policy_for("scene-queries", story(many))
    assert policy.at_once == 2
    driven(policy, story(many))
    with pytest.raises(UsageError, match="needs 2 scenes in the library"):
        policy_for("scene-queries", story(many), {"library": 1})


class Counting(TorchDispatchMode):
    """Operations, where they are dispatched, and the sizes of what they make."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.seen.append((str(func), tuple(result.shape) if isinstance(result, torch.Tensor) else None))
        return result


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple]]:
    """What each update does, from reading the store to writing it."""
    updates: list[list[tuple]] = []
    absorb = Absorbing._absorb

    def watched(self, *given):
        with Counting() as counting:
            result = absorb(self, *given)
        updates.append(counting.seen)
        return result

    monkeypatch.setattr(Absorbing, "_absorb", watched)
    return updates


def test_the_cost_of_an_update_is_the_same_after_any_length(counted: list[list[tuple]]) -> None:
    timeline = story([(None, None, 40)])
    driven(policy_for("echo-infinity", timeline), timeline)
    assert len(counted) == 36 and all(each == counted[1] for each in counted[1:])


@pytest.mark.parametrize("name", ["echo-infinity", "scene-queries"])
def test_a_large_model_is_absorbed_piece_by_piece_into_the_same_queries(
        name: str, counted: list[list[tuple]], monkeypatch: pytest.MonkeyPatch) -> None:
    def final() -> tuple[torch.Tensor, torch.Tensor, int]:
        counted.clear()
        policy, timeline = policy_for(name, story(RETURN)), story(RETURN)
        memory = driven(policy, timeline)
        # Views of the whole store are no memory of their own; what is made of them is.
        largest = max(
            math.prod(shape)
            for each in counted
            for call, shape in each
            if shape and "select" not in call and "slice" not in call and "view" not in call and "copy_" not in call
        )
        return *memory.queries.state, largest

    *whole, at_once = final()
    monkeypatch.setattr(queries, "AT_ONCE", 1)
    monkeypatch.setattr(queries, "SCORES_AT_ONCE", 1)
    *pieces, piece = final()
    for one, other in zip(whole, pieces, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert SPEC.depth > 1 and piece <= at_once / SPEC.depth
    rows = [shape[-2] for each in counted for call, shape in each if "softmax" in call]
    assert rows and set(rows) == {1}, "attention of one query row at a time"


def test_a_rollout_with_half_precision_memory_runs() -> None:
    timeline = story(RETURN[:3])
    transformer = model().to(torch.bfloat16)
    results: list[BlockResult] = list(rollout(timeline, transformer,
                                              prompts_for(timeline), policy_for("scene-queries", timeline),
                                              KeyedNoise(1, timeline.scenes), GRID))
    assert results[-1].latents.dtype == torch.bfloat16 and results[-1].latents.isfinite().all()
