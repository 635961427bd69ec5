"""Lessons show a block what memory would show it: nothing later, nothing forgotten, positions as policies count
them."""

from random import Random

import pytest
import torch

from echo_cli.training.lessons import Library, look
from echo_cli.world.stories import BLOCK

from .pupils import small_pool

HOLD = ([0] * 21, [0] * 21)
CUT = ([0] * 9 + [1] * 12, [0] * 9 + [1] * 12)
RETURN = ([0] * 9 + [1] * 6 + [2] * 6, [0] * 9 + [1] * 6 + [0] * 6)
SWITCH = ([0] * 9 + [1] * 12, [0] * 21)


@pytest.mark.parametrize("story", [HOLD, CUT, RETURN, SWITCH])
def test_no_block_sees_itself_or_the_future(story):
    for number in range(50):
        sight = look(*story, Random(number)).sight
        for block in range(7):
            assert not sight[block, block * BLOCK:].any()


def test_within_a_scene_the_latest_frames_are_nearest():
    for number in range(50):
        seen = look(*HOLD, Random(number))
        assert seen.slots == list(range(21)) and seen.weight == [1.0] * 21


def test_after_a_cut_a_faded_frame_is_seen_once_and_from_afar():
    faded = [seen for seen in (look(*CUT, Random(number)) for number in range(80)) if min(seen.weight) < 1]
    assert faded
    for seen in faded:
        old = seen.sight[3, :9].nonzero()[:, 0].tolist()
        assert len(old) == 1 and seen.slots[9] == seen.slots[old[0]] + 1 + 45
        assert not seen.sight[4, :9].any()


def test_a_return_mostly_sees_one_frame_of_its_own_place():
    lone = 0
    for number in range(80):
        seen = look(*RETURN, Random(number)).sight[5, :15].nonzero()[:, 0].tolist()
        if len(seen) == 1:
            assert seen[0] < 9
            lone += 1
    assert lone > 40


def test_a_smooth_switch_keeps_the_last_two_frames():
    kept = [look(*SWITCH, Random(number)).sight[3] for number in range(40)]
    assert all(sight[7] and sight[8] for sight in kept)
    assert any(not sight[:6].any() for sight in kept)


def test_positions_stay_inside_the_model():
    for story in (HOLD, CUT, RETURN, SWITCH):
        assert max(max(look(*story, Random(number)).slots) for number in range(200)) < 96


def test_lessons_follow_from_the_dice_alone(tmp_path):
    library = Library()
    library.add(small_pool(tmp_path).shard(0))
    one, same, other = (library.draw(4, 3, Random(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.latents, same.latents) and torch.equal(one.sight, same.sight)
    assert not torch.equal(one.latents, other.latents)
    assert one.latents.shape == (3, 12, 24, 8, 12) and one.words.shape[:2] == (3, 4)


def test_a_lone_block_shows_all_of_its_subject(tmp_path):
    library = Library()
    library.add(small_pool(tmp_path, stories=6).shard(0))
    assert library.draw(1, 20, Random(0)).truth["seen"].min() > 0.9


def test_changes_of_prompt_are_drawn_more_often_than_they_happen(tmp_path):
    library = Library()
    library.add(small_pool(tmp_path, stories=24).shard(0))
    segments = library.shards[0]["segment"][:, ::BLOCK]
    happens = (segments.diff(dim=1) != 0).float().mean()
    drawn = library.draw(2, 200, Random(0)).words
    changes = (drawn[:, 0] != drawn[:, 1]).any(1).float().mean()
    assert 0 < happens < 0.25 < changes < 0.75
    assert library.draw(7, 20, Random(0)).latents.shape[:2] == (20, 21)


def test_a_shard_is_made_once_and_read_again(tmp_path):
    pool = small_pool(tmp_path)
    made = pool.shard(2)
    written = pool.path(2).stat().st_mtime_ns
    again = pool.shard(2)
    assert pool.path(2).stat().st_mtime_ns == written and torch.equal(made["latents"], again["latents"])
    assert not torch.equal(made["latents"], pool.shard(3)["latents"])
    assert [path.name for path in sorted(pool.folder.iterdir())] == ["shard-0002.safetensors", "shard-0003.safetensors"]
