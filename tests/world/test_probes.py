"""The judges: right about real clips, and not fooled by a blur or by a film that stands still."""

import pytest
import torch
from torch.nn import functional as F

from echo_cli.bench.metrics import background
from echo_cli.world.probes import judge, score
from echo_cli.world.stories import BOUNCE, HELD_OUT, LEFT, RIGHT, STILL, Stories, StoryKind, sample_stories


@pytest.fixture(scope="module")
def held() -> Stories:
    """Held-out stories of one scene, with their pictures drawn once."""
    return sample_stories(torch.arange(16) + HELD_OUT, 9, StoryKind.HOLD)


@pytest.fixture(scope="module")
def pictures(held: Stories) -> torch.Tensor:
    return held.pictures


def test_judges_are_right_about_real_clips(held: Stories, pictures: torch.Tensor) -> None:
    right = score(judge(pictures), held)
    assert right.place == 1 and right.time == 1
    assert min(right.colour, right.shape, right.motion) >= 0.9 and right.strict >= 0.85


def test_a_subject_that_is_out_of_sight_in_most_of_the_film_is_judged_where_it_is_seen(
    held: Stories, pictures: torch.Tensor
) -> None:
    left = torch.cat((pictures[:, :8], held.backgrounds(0, 1)[:, :1].expand(-1, 24, -1, -1, -1)), 1)
    right = score(judge(left), held)
    assert right.colour >= 0.9 and right.shape >= 0.9


def test_a_panning_camera_does_not_change_the_motion():
    stories = sample_stories(torch.arange(8) + HELD_OUT + 50, 12, StoryKind.PAN)
    assert score(judge(stories.pictures), stories).motion >= 0.85


def test_a_blob_is_no_strict_shape_and_a_frozen_film_stands_still():
    stories = sample_stories(torch.arange(8) + HELD_OUT, 9, StoryKind.HOLD)
    pictures = stories.pictures
    small = F.avg_pool2d(pictures.flatten(0, 1), 16)
    blurred = F.interpolate(small, scale_factor=16, mode="bilinear").view_as(pictures)
    assert score(judge(blurred), stories).strict < 0.4
    frozen = pictures[:, :1].expand(-1, 17, -1, -1, -1)
    assert (judge(frozen).motion == STILL).all()


def test_a_film_played_backwards_moves_the_other_way(held: Stories, pictures: torch.Tensor) -> None:
    motion = judge(pictures.flip(1)).motion
    turned = torch.tensor([RIGHT, LEFT, BOUNCE, STILL])[held.truth.motion[:, 0]]
    assert (motion == turned).float().mean() >= 0.9


def test_the_background_is_the_place_without_who_crosses_it():
    stories = sample_stories(torch.arange(8) + HELD_OUT, 21, StoryKind.HOLD)
    goes = stories.truth.motion[:, 0] <= RIGHT
    seen, true = background(stories.pictures[goes]), stories.backgrounds(0, 1)[goes, 0]
    assert (seen - true).abs().mean() < 0.004
