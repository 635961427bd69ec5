"""The little world: its stories belong to their seeds, and its ground truth is what is on the pictures."""

import pytest
import torch

from echo_cli.models.tiny.words import COLOURS, MOTIONS, PLACES, SUBJECTS, TIMES, concepts_of, unknown_words
from echo_cli.world.draw import HEIGHT, WIDTH, reduced
from echo_cli.world.stories import (
    BLOCK,
    BOUNCE,
    LEFT,
    PAN,
    RIGHT,
    STILL,
    TOKEN,
    StoryKind,
    first_picture,
    pictures_of,
    sample_stories,
)


def test_a_story_depends_on_its_seed_alone():
    alone = sample_stories([7], 9)
    beside = sample_stories([3, 7, 11], 9)
    assert beside.prompts[1] == alone.prompts[0]
    assert torch.equal(beside.layouts[1], alone.layouts[0])
    assert torch.allclose(beside.pictures[1], alone.pictures[0], atol=1e-5)
    assert not torch.allclose(beside.pictures[0], beside.pictures[1], atol=0.1)


def test_a_window_shows_the_same_pictures_as_the_whole():
    stories = sample_stories([1, 2], 9)
    whole = stories.pictures
    assert whole.shape == (2, pictures_of(9), 3, HEIGHT, WIDTH)
    assert whole.min() >= 0 and whole.max() <= 1
    assert torch.equal(stories.render(4, 6), whole[:, first_picture(4) : first_picture(6)])
    with pytest.raises(ValueError, match="0 to 9"):
        stories.render(8, 10)


def test_prompts_say_what_is_true_in_words_that_are_known():
    names = {"place": PLACES, "time": TIMES, "subject": SUBJECTS, "colour": COLOURS, "motion": MOTIONS}
    stories = sample_stories(range(64), 21)
    for story, prompts in enumerate(stories.prompts):
        for first, prompt in prompts:
            assert unknown_words(prompt) == []
            read = concepts_of(prompt)
            for table, members in names.items():
                truth = getattr(stories.truth, {"subject": "shape"}.get(table, table))[story, first].item()
                assert read[table] == [list(members)[truth]], prompt
            assert bool(read["camera"]) == (stories.kinds[story] is StoryKind.PAN)


def test_scenes_open_at_block_boundaries():
    stories = sample_stories(range(60), 21)
    for story, prompts in enumerate(stories.prompts):
        opens = [first for first, _ in prompts]
        assert opens[0] == 0 and all(first % BLOCK == 0 for first in opens) and opens == sorted(set(opens))
        changes = (stories.truth.segment[story].diff() != 0).nonzero()[:, 0] + 1
        assert changes.tolist() == opens[1:]


def test_every_kind_does_what_it_says():
    segments = {
        StoryKind.HOLD: 1,
        StoryKind.PAN: 1,
        StoryKind.LEAVE: 1,
        StoryKind.SWITCH: 2,
        StoryKind.CUT: 2,
        StoryKind.RETURN: 3,
    }
    for kind, count in segments.items():
        stories = sample_stories(range(12), 21, kind)
        truth = stories.truth
        assert all(len(prompts) == count for prompts in stories.prompts)
        assert (truth.pan.amax(1) == (PAN if kind is StoryKind.PAN else 0)).all()
        if kind is StoryKind.LEAVE:
            assert (truth.visible.amin(1) == 0).all() and (truth.visible[:, -1] > 0).float().mean() > 0.5
        if kind is StoryKind.SWITCH:
            assert (truth.slot == 0).all()
            traits = torch.stack((truth.shape, truth.colour, truth.motion), -1)
            assert ((traits[:, 0] != traits[:, -1]).sum(-1) <= 1).all()
        if kind in (StoryKind.CUT, StoryKind.RETURN):
            assert (truth.slot.amax(1) == 1).all() and (truth.place.diff() != 0).any(1).all()
        if kind is StoryKind.RETURN:
            assert (truth.slot[:, -1] == 0).all() and (truth.place[:, -1] == truth.place[:, 0]).all()
            assert torch.equal(truth.colour[:, -1], truth.colour[:, 0])
            views = stories.backgrounds(0, 21)
            assert torch.equal(views[:, 0], views[:, -1])  # the same layout, not only the same kind of place


def test_a_story_too_short_for_its_kind_is_refused():
    with pytest.raises(ValueError, match="RETURN"):
        sample_stories([1], 6, StoryKind.RETURN)
    assert all(len(prompts) == 1 for prompts in sample_stories(range(20), 3).prompts)


def test_subjects_move_as_their_motion_says():
    stories = sample_stories(range(80), 9, StoryKind.HOLD)
    truth, centre = stories.truth, stories.truth.centre
    step = centre.diff(dim=1).median(1).values[:, 0]
    height = centre[..., 1].amax(1) - centre[..., 1].amin(1)
    motion = truth.motion[:, 0]
    assert (step[motion == LEFT] <= -2).all() and (step[motion == RIGHT] >= 2).all()
    assert (step[motion >= BOUNCE] == 0).all()
    assert (height[motion == BOUNCE] > 25).all() and (height[motion != BOUNCE] == 0).all()
    assert len(motion.unique()) == 4 and (centre[motion == STILL].std(1) == 0).all()


def test_a_switch_never_makes_the_subject_jump():
    stories = sample_stories(range(80), 21, StoryKind.SWITCH)
    step = stories.truth.centre.diff(dim=1).abs()
    sideways = torch.where(step[..., 0] > WIDTH / 2, 0.0, step[..., 0])  # out on one side, in on the other
    assert sideways.max() <= 3.1
    same = stories.truth.shape[:, 0] == stories.truth.shape[:, -1]  # another shape has its middle elsewhere
    assert step[same][..., 1].max() < 6


def test_the_truth_is_on_the_pictures():
    stories = sample_stories(range(24), 6)
    changed = (stories.pictures - stories.backgrounds(0, 6)).abs().amax(2) > 0.12
    x, y = torch.arange(WIDTH) + 0.5, (torch.arange(HEIGHT) + 0.5)[:, None]
    left, top, right, bottom = stories.truth.box[..., None, None].unbind(2)
    inside = (x > left - 2) & (x < right + 2) & (y > top - 2) & (y < bottom + 8)  # the shadow lies below
    assert not (changed & ~inside & (y < stories.truth.ground[..., None, None] - 6)).any()
    middle = [first_picture(frame) + (2 if frame else 0) for frame in range(6)]
    share = changed[:, middle].float().unflatten(2, (-1, TOKEN)).unflatten(4, (-1, TOKEN)).mean((3, 5))
    assert (stories.truth.token_cover - share).abs().mean() < 0.02
    assert torch.corrcoef(torch.stack((stories.truth.token_cover.flatten(), share.flatten())))[0, 1] > 0.95


def test_token_truth_is_whole():
    stories = sample_stories(range(16), 21)
    truth = stories.truth
    assert truth.token_cover.shape == (16, 21, HEIGHT // TOKEN, WIDTH // TOKEN)
    assert torch.allclose(truth.token_depths.sum(-1), torch.ones(()), atol=1e-5)
    assert (truth.token_depths[:, :, 0, :, 0].mean((0, 1)) > 0.3).all()  # sky above
    assert (truth.token_depths[:, :, -1, :, 3].mean((0, 1)) > 0.9).all()  # ground below
    assert (truth.token_velocity[truth.token_cover == 0] == 0).all()
    speed = truth.token_velocity[..., 0][(truth.token_cover > 0) & (truth.motion == RIGHT)[..., None, None]]
    assert speed.median() > 1.9


def test_places_differ_with_the_seed_and_fill_the_picture():
    stories = sample_stories(range(40), 1, StoryKind.HOLD)
    views = stories.backgrounds(0, 1)[:, 0]
    kind = stories.truth.place[:, 0] * 3 + stories.truth.time[:, 0]
    for one in kind.unique():
        same = views[kind == one]
        for a in range(len(same) - 1):
            assert (same[a] - same[a + 1]).square().mean() > 1e-4
    assert stories.truth.place.unique().tolist() == list(range(len(PLACES)))


def test_a_story_may_be_drawn_twice_as_large() -> None:
    small, large = (sample_stories(torch.arange(6) + 50, 6, detail=detail) for detail in (1, 2))
    assert large.prompts == small.prompts and torch.equal(large.truth.centre, small.truth.centre)
    assert large.pictures.shape[-2:] == (256, 384)
    off = (reduced(large.pictures, 2) - small.pictures).square().mean()
    assert -10 * off.log10() > 45
    # It is drawn, not enlarged: edges are as wide in dots as they were in pixels.
    steep = [said.pictures.diff(dim=-1).abs().amax() for said in (small, large)]
    assert steep[1] > 0.9 * steep[0]
