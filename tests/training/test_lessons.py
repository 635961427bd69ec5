"""Lessons show a block some of what came before it and nothing later, and no memory's own view more often than
another's."""

import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
import torch

from echo_cli.layout import Layout, Role
from echo_cli.memory.policies import make_policy
from echo_cli.memory.table import settings_type
from echo_cli.models.files.loading import random_transformer
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import Kind, Scene, timeline_of
from echo_cli.training.lessons import FOLDS, Library, Views, draw_views
from echo_cli.world.stories import BLOCK, BOUNCE

from .pupils import SMALL, small_pool

BLOCKS, FRAMES = 7, 21


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def views() -> Views:
    return draw_views(BLOCKS, 10_000, dice())


def test_no_block_sees_itself_or_the_future(views):
    for block in range(BLOCKS):
        for seen in (views.sight, views.read):
            assert not seen[:, block, block * BLOCK:FRAMES].any()
    made_of = views.folds > 0
    latest = (made_of * torch.arange(FRAMES)).amax(-1)  # [sequence, fold]
    first = views.sight[..., FRAMES:].int().argmax(1)  # the first block that sees it
    seen = views.sight[..., FRAMES:].any(1)
    assert (latest < first * BLOCK)[seen].all()


def test_every_block_sees_one_to_eighteen_frames_evenly(views):
    count = views.sight[:, -1].sum(-1)
    assert count.min() == 1 and count.max() == 18
    shares = torch.bincount(count)[1:] / len(count)
    assert shares.min() > 0.02 and shares.max() < 0.12
    assert views.sight[:, 0].sum() == 0


def test_the_latest_frames_are_seen_most_and_the_oldest_are_not_forgotten(views):
    share = views.sight[:, -1, :18].float().mean(0)
    assert share[-1] > 0.7 and share[:3].min() > 0.2


def test_folds_are_of_one_to_six_frames_at_weights_from_none_to_one(views):
    count, weight = (views.folds > 0).sum(-1), views.folds.sum(-1)
    assert set(count.unique().tolist()) == {1, 2, 3, 4, 5, 6}
    assert weight.min() < 0.01 and weight.max() < 1.0001
    whole = (weight > 0.9999).float().mean()
    assert 0.45 < whole < 0.55


def test_positions_leap_from_nothing_to_all_that_the_model_has(views):
    steps = views.slots[:, :FRAMES].diff(dim=1)
    assert steps.min() == 1 and (steps[:, [at for at in range(20) if at % BLOCK != 2]] == 1).all()
    assert steps.max() > 60 and views.slots.max() < SMALL.positions
    straight = (steps == 1).all(1).float().mean()
    assert 0.1 < straight < 0.25
    # A fold may stand before or behind the frames it is made of.
    source = (views.folds > 0).int().argmax(-1)
    stands = views.slots[:, :FRAMES].gather(1, source)
    assert 0.1 < (views.slots[:, FRAMES:] < stands).float().mean() < 0.9


def test_half_of_the_frames_were_encoded_beside_something_else(views):
    same = (views.sight == views.read).all((1, 2)).float().mean()
    assert 0.45 < same < 0.55
    alone = ~views.read[:, -1].any(-1)
    assert 0.005 < alone.float().mean() < 0.1
    other = (views.under != torch.arange(BLOCKS)).any(1).float().mean()
    assert 0.12 < other < 0.18


# What the policies show, as the rollout lays it out


def layouts(policy: str, counts: list[int], kinds: list[Kind | None], recalls: dict[int, Recall]) -> list[Layout]:
    scenes = [Scene(f"scene {n}", "a red ball", 1.0, transition=kind) for n, kind in enumerate(kinds)]
    timeline = timeline_of(scenes, counts, SMALL.geometry)
    plan = make_policy(policy, settings_type(policy)(), SMALL, timeline, recalls)
    rows = [torch.zeros(1, SMALL.text_len, SMALL.text_dim)] * len(kinds)
    noise = KeyedNoise(0, timeline.scenes)
    blocks = rollout(timeline, random_transformer(SMALL, 0), rows, plan, noise, SMALL.grid((32, 32)))
    return [result.layout for result in blocks]


def seen_of(layout: Layout) -> tuple[frozenset[tuple[int, int]], tuple[int, ...]]:
    """Film frames in sight with how far before the block they stand, and how far before it those stand that are no
    frame of the film or have lost weight."""
    plain, other = set(), []
    for segment in layout.past:
        for number, frame in enumerate(segment.frames):
            away = layout.query_position - segment.position - number
            faded = segment.fades and segment.fades[number] is not None
            if frame is None or faded or segment.role in (Role.TRANSITION, Role.QUERY):
                other.append(away)
            else:
                plain.add((frame, away))
    return frozenset(plain), tuple(sorted(other))


def shown_by(views: Views, block: int) -> Iterable[tuple[frozenset[tuple[int, int]], tuple[int, ...]]]:
    """The same of each lesson's block."""
    own = views.slots[:, block * BLOCK, None] - views.slots
    for sees, away in zip(views.sight[:, block].tolist(), own.tolist(), strict=True):
        plain = frozenset((frame, away[frame]) for frame in range(FRAMES) if sees[frame])
        yield plain, tuple(sorted(away[at] for at in range(FRAMES, FRAMES + FOLDS) if sees[at]))


STORIES = {
    "one scene": ([BLOCKS], [None], {}),
    "a cut": ([3, 4], [None, Kind.HARD_CUT], {}),
    "a smooth change": ([3, 4], [None, Kind.SMOOTH], {}),
    "a return": ([2, 2, 3], [None, Kind.HARD_CUT, Kind.RECALL], {2: Recall(0, 1.0, ((0, 1.0), (1, 0.0)))}),
}
POLICIES = ("window", "sink", "none", "flush", "recache", "echo-forcing")


@pytest.fixture(scope="module")
def drawn(views: Views) -> dict[int, Counter]:
    """How often each block was drawn with each view."""
    return {block: Counter(shown_by(views, block)) for block in range(2, BLOCKS)}


@pytest.mark.parametrize("story", STORIES)
def test_no_policys_view_is_drawn_more_often_than_anothers(drawn, story):
    counts, kinds, recalls = STORIES[story]
    theirs = {policy: layouts(policy, counts, kinds, recalls) for policy in POLICIES}
    shares = {policy: [drawn[block][seen_of(shown[block])] / 10_000 for block in drawn]
              for policy, shown in theirs.items()}
    for policy, share in shares.items():
        assert sum(share) / len(share) < 0.015, (policy, share)
        assert share[-1] < 0.005, (policy, share)  # the window is full
    for one, other in itertools.combinations(shares.values(), 2):
        assert abs(sum(one) - sum(other)) / len(drawn) < 0.015


def test_lessons_follow_from_the_dice_alone(tmp_path):
    library = Library()
    library.add(small_pool(tmp_path).shard(0))
    one, same, other = (library.draw(4, 3, dice(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.latents, same.latents) and torch.equal(one.sight, same.sight)
    assert not torch.equal(one.latents, other.latents)
    assert one.latents.shape == (3, 12, 24, 8, 12) and one.words.shape[:2] == (3, 4)


def test_a_lone_block_shows_all_of_its_subject(tmp_path):
    library = Library()
    library.add(small_pool(tmp_path, stories=6).shard(0))
    assert library.draw(1, 20, dice()).truth["seen"].min() > 0.9


def test_changes_of_prompt_are_drawn_more_often_than_they_happen(tmp_path):
    library = Library()
    library.add(small_pool(tmp_path, stories=24).shard(0))
    happens = (library.held["segment"][:, ::BLOCK].diff(dim=1) != 0).float().mean()
    drawn = library.draw(2, 200, dice()).words
    changes = (drawn[:, 0] != drawn[:, 1]).any(1).float().mean()
    assert 0 < happens < 0.25 < changes < 0.75
    assert library.draw(7, 20, dice()).latents.shape[:2] == (20, 21)


def test_a_share_of_the_lessons_is_drawn_where_the_subject_bounces(tmp_path):
    library = Library()
    library.add(small_pool(tmp_path, stories=24).shard(0))
    plain, hops = ((library.draw(2, 200, dice(), share).truth["motion"] == BOUNCE).any(1).float().mean()
                   for share in (0.0, 1.0))
    assert plain < 0.6 and hops == 1


def test_a_lesson_is_a_stretch_of_one_story(tmp_path):
    library = Library()
    for number in range(2):
        library.add(small_pool(tmp_path).shard(number))
    held = library.held["latents"].float()
    assert len(held) == 8
    for row in library.draw(3, 12, dice()).latents:
        story, first = divmod(int((held == row[0]).all((2, 3, 4)).flatten().nonzero()[0]), FRAMES)
        assert first % BLOCK == 0 and torch.equal(held[story, first:first + 9], row)


def test_a_shard_is_made_once_and_read_again(tmp_path):
    pool = small_pool(tmp_path)
    made = pool.shard(2)
    written = pool.path(2).stat().st_mtime_ns
    again = pool.shard(2)
    assert pool.path(2).stat().st_mtime_ns == written and torch.equal(made["latents"], again["latents"])
    assert not torch.equal(made["latents"], pool.shard(3)["latents"])
    assert [path.name for path in sorted(pool.folder.iterdir())] == ["shard-0002.safetensors", "shard-0003.safetensors"]
