"""Every metric against damage that was planted in real films of the little world: it must see it, and rank it right."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.bench import metrics
from echo_cli.world.stories import BLOCK, HELD_OUT, PICTURES, StoryKind, first_picture, sample_stories

from .places import grain, layouts, still

KINDS = [(0, 0), (1, 2), (2, 1), (3, 0), (4, 2), (5, 1)]  # place, hour


@pytest.fixture(scope="module")
def cuts() -> list[tuple[Tensor, Tensor, Tensor]]:
    """An old place, a new one, and another of the new one's kind: what the prompt alone would have shown."""
    views = []
    for number, (kind, other) in enumerate(zip(KINDS, KINDS[1:] + KINDS[:1], strict=True)):
        old, (new, alone) = layouts(*kind, 1, 10 * number)[0], layouts(*other, 2, 10 * number + 5)
        views.append((old, new, alone))
    return views


def blurred(pictures: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(pictures, 4), scale_factor=4, mode="bilinear")


# ---------------------------------------------------------------- recall


@pytest.fixture(scope="module")
def returns() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Films of a place with somebody walking through it: a visit, the visit to another place, a second visit."""
    stories = sample_stories(torch.arange(12) + HELD_OUT, 7 * BLOCK, StoryKind.HOLD)
    films = stories.pictures[stories.truth.motion[:, 0] < 2]
    return [(film[:40], other[:40], film[40:]) for film, other in zip(films, films.roll(1, 0), strict=True)]


def places(film: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([metrics.background(pictures) for pictures in film])


@pytest.mark.parametrize(("measure", "sign"), [(metrics.decibels, 1), (metrics.ssim, 1), (metrics.perceptual, -1)])
def test_a_place_that_returns_is_liker_than_one_that_was_damaged_or_swapped(returns, measure, sign):
    for film in returns:
        first, between, back = places(film)
        damaged = torch.stack((back, grain(back), 0.9 * back + 0.1 * between, 0.7 * back + 0.3 * between, between))
        fine, grainy, tenth, third, swapped = (sign * measure(damaged, first.expand_as(damaged))).tolist()
        assert fine > max(grainy, tenth) and tenth > third > swapped
        assert sign * measure(blurred(back[None]), first[None]).item() < fine


def test_who_walks_through_a_place_is_not_part_of_it(returns):
    for first, _, back in returns[:3]:
        still_there = metrics.decibels(*places((first, back))[:, None]).item()
        assert still_there > metrics.decibels(first[-1], back[-1]).item()


def test_a_shifted_picture_looks_liker_than_noise_of_the_same_size():
    """PSNR cannot tell a change of light from damage; the eye does."""
    for kind in KINDS:
        place = layouts(*kind, 1)
        lighter = (0.92 * place + 0.04).clamp(0, 1)
        noisy = grain(place, (lighter - place).square().mean().sqrt().item())
        assert metrics.decibels(lighter, place).item() == pytest.approx(metrics.decibels(noisy, place).item(), abs=1.0)
        assert metrics.perceptual(lighter, place).item() < 0.5 * metrics.perceptual(noisy, place).item()


def test_what_is_the_same_is_the_same():
    place = layouts(0, 0, 2)
    assert metrics.ssim(place, place).tolist() == pytest.approx([1, 1], abs=1e-4)
    assert metrics.perceptual(place, place).tolist() == [0, 0]
    assert metrics.perceptual(place[:1], place[1:]).item() == pytest.approx(
        metrics.perceptual(place[1:], place[:1]).item()
    )


def test_decibels_count_each_picture():
    dark, light = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    light[1] += 0.1
    assert metrics.decibels(dark, light).tolist() == pytest.approx([80.0, 20.0])


# ---------------------------------------------------------------- after a cut


def test_a_tenth_of_the_old_place_is_seen_as_a_tenth(cuts):
    lefts = []
    for old, new, alone in cuts:
        shares = metrics.left_of(
            old, alone, torch.stack((new, 0.9 * new + 0.1 * old, 0.5 * new + 0.5 * old, old))
        ).tolist()
        assert shares[1] - shares[0] == pytest.approx(0.1, abs=0.02)
        assert shares[2] - shares[0] == pytest.approx(0.5, abs=0.08)
        assert shares[3] == pytest.approx(1, abs=0.02)
        lefts.append(shares[0])
    assert abs(sum(lefts) / len(lefts)) < 0.05  # nothing is left where nothing is


def test_a_subject_in_front_hides_nothing():
    stories = sample_stories(torch.arange(4) + HELD_OUT + 300, 4 * BLOCK, StoryKind.CUT)
    for story, film in enumerate(stories.pictures):
        cut = first_picture((stories.truth.segment[story] == 1).int().argmax().item())
        old, new = metrics.background(film[:cut]), stories.panoramas[story, 1, :, :, :film.shape[-1]]
        assert metrics.left_of(old, new, film[cut:]).abs().max().item() < 0.06
        assert metrics.left_of(old, new, 0.9 * film[cut:] + 0.1 * old).mean().item() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("late", [0, 5, 12])
def test_a_scene_that_comes_late_is_late_by_so_many_pictures(cuts, late):
    for old, new, alone in cuts:
        film = grain(torch.cat((still(old, late), still(new, 36 - late))))
        assert metrics.response(old, alone, film, 12) == late


def test_a_fade_is_there_about_half_way_and_a_stuck_film_never(cuts):
    for old, new, alone in cuts:
        share = torch.linspace(0, 1, 24)[:, None, None, None]
        assert 3 <= metrics.response(old, alone, (1 - share) * old + share * new, 12) <= 20
        assert metrics.response(old, alone, still(old, 24), 12) == 24
        flash = torch.cat((still(new, 2), still(old, 10), still(new, 24)))  # what does not last is not there
        assert metrics.response(old, alone, flash, 12) == 12


# ---------------------------------------------------------------- in the course of time


def test_a_smooth_change_is_no_jump_and_a_cut_is():
    smooth = sample_stories(torch.arange(5) + HELD_OUT + 400, 4 * BLOCK, StoryKind.SWITCH)
    hard = sample_stories(torch.arange(5) + HELD_OUT + 400, 4 * BLOCK, StoryKind.CUT)
    jumps = []
    for stories in (smooth, hard):
        for story, film in enumerate(stories.pictures):
            at = first_picture((stories.truth.segment[story] == 1).int().argmax().item())
            jumps.append(metrics.jump(grain(film[:at]), grain(film[at:]), PICTURES))
    assert max(jumps[:5]) < 4 < min(jumps[5:])
    assert sorted(jumps[:5])[2] < 2


def test_more_of_a_seam_is_more_of_a_jump():
    film = sample_stories([HELD_OUT + 7], 6 * BLOCK, StoryKind.HOLD).pictures[0]
    before, after = film[:33], film[33:]
    worse = [metrics.jump(before, (after + light).clamp(0, 1), PICTURES) for light in (0.0, 0.05, 0.15)]
    assert 0.5 < worse[0] < 1.5 and worse[0] < worse[1] < worse[2]


def test_a_frozen_film_does_not_move_and_a_slow_one_moves_less():
    stories = sample_stories(torch.arange(5) + HELD_OUT, 4 * BLOCK, StoryKind.HOLD)
    moving = stories.truth.motion[:, 0] < 3
    for film in stories.pictures[moving]:
        slow = film[:len(film) // 2].repeat_interleave(2, 0)
        assert metrics.motion(still(film[0], 40), PICTURES) == 0
        assert 0 < metrics.motion(slow, PICTURES) < metrics.motion(film, PICTURES)
    lively, quiet = stories.pictures[moving][0], stories.pictures[~moving][0]
    assert metrics.motion(lively, PICTURES) > 5 * metrics.motion(quiet, PICTURES)


def test_a_codec_that_moves_in_jumps_of_a_latent_frame_moves_as_much():
    film = sample_stories([HELD_OUT + 5], 8 * BLOCK, StoryKind.HOLD).pictures[0][1:]
    held = film.unflatten(0, (-1, PICTURES)).mean(1).repeat_interleave(PICTURES, 0)
    assert metrics.motion(held, PICTURES) == pytest.approx(metrics.motion(film, PICTURES), rel=1e-4)


def test_drift_is_told_by_what_drifts():
    film = sample_stories([HELD_OUT + 3], 7 * BLOCK, StoryKind.HOLD).pictures[0]
    first = metrics.look(film[:24])

    def now(pictures: Tensor) -> metrics.Drift:
        return metrics.drift(first, metrics.look(pictures.clamp(0, 1)))

    late = film[48:]
    assert now(late).total < 2
    red = torch.tensor((0.1, 0.0, 0.0))[:, None, None]
    assert now(0.9 * late + red).colour > 4
    assert now(late.mean() + 0.8 * (late - late.mean())).contrast == pytest.approx(-20, abs=3)
    assert now(blurred(late)).sharpness < -15 and abs(now(blurred(late)).colour) < 1
    assert now(grain(late, 0.05)).sharpness > 15
    totals = [now(late + much * red).total for much in (0, 0.3, 0.6, 1)]
    assert totals == sorted(totals)


def test_a_slope_is_that_of_the_line():
    assert metrics.slope([0, 1, 2, 4], [1, 3, 5, 9]) == pytest.approx(2)
    assert metrics.slope([0, 1, 2, 3], [1, -1, -1, 1]) == pytest.approx(0)
