"""The eye's stage: what a damaged clip then shows, which prompts are contrasts, and runs that follow from their
seed."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.training.eye_stage import EyePlan, EyeStage, bags_of, damaged, truth_of
from echo_cli.training.loop import Budget, run
from echo_cli.world.eye import ASPECTS, VIEWS, bag
from echo_cli.world.stories import LEFT, RIGHT, STILL, StoryKind, sample_stories

PLAN = EyePlan(batch=4, groups=2, chapters=2, steps_each=2)
CPU = torch.device("cpu")


class Glass(TinyCodec):
    """Nothing is lost and nothing is spent."""

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures

    def decode(self, latents: torch.Tensor, state: bool | None = None) -> tuple[torch.Tensor, bool]:
        return latents, True


GLASS = Glass(widths=(2, 2, 2, 2))


def trained(folder: Path, steps: int, until: int | None = None, seed: int = 1) -> tuple[EyeStage, list[float]]:
    one, losses = EyeStage(PLAN, seed, GLASS, CPU), []
    done = run("eye", one.learner, one.advance, Budget(steps), folder, lambda p: losses.append(p.losses["loss"]),
               lambda: until is not None and one.learner.step >= until)
    assert done is (until is None)
    return one, losses


def test_a_killed_run_ends_like_an_unbroken_one_and_another_seed_does_not(tmp_path):
    whole, unbroken = trained(tmp_path / "whole", 5)
    _, before = trained(tmp_path / "broken", 5, until=3)
    resumed, after = trained(tmp_path / "broken", 5)
    assert before + after == unbroken
    for name, value in whole.finished().state_dict().items():
        assert torch.equal(value, resumed.finished().state_dict()[name]), name
    assert trained(tmp_path / "other", 1, seed=2)[1] != unbroken[:1]


def test_the_eye_learns():
    one = EyeStage(replace(PLAN, batch=12, steps_each=1000), 1, GLASS, CPU)
    # warm already
    figures = [{name: value.item() for name, value in one.advance(40 + step, 0.0).items()} for step in range(16)]
    assert sum(f["loss"] for f in figures[-4:]) < 0.75 * sum(f["loss"] for f in figures[:4])
    assert figures[-1]["ranked"] > 0.6


def test_a_clip_played_backwards_goes_the_other_way_and_a_frozen_one_stands_still():
    motion = list(ASPECTS).index("motion")
    truth = torch.zeros(400, len(ASPECTS), dtype=torch.long)
    truth[:, motion] = torch.arange(400) % 4
    order = torch.linspace(0.2, 0.8, VIEWS)[None, :, None, None, None].expand(400, -1, 3, 8, 8)
    views, after = damaged(order, truth, Random(0), torch.Generator().manual_seed(0))
    slope = (views[:, -1] - views[:, 0]).mean((1, 2, 3))
    back, frozen = slope < -0.2, slope.abs() < 0.1
    assert 30 < back.sum() < 90 and 15 < frozen.sum() < 60
    assert (after[frozen, motion] == STILL).all()
    turned = torch.tensor([RIGHT, LEFT, 2, 3])
    assert torch.equal(after[back, motion], turned[truth[back, motion]])
    untouched = ~back & ~frozen
    assert torch.equal(after[untouched], truth[untouched]) and views.min() >= 0 and views.max() <= 1


def test_truth_is_told_of_the_clip_that_is_shown():
    stories = sample_stories(torch.arange(6) + 100, 9, StoryKind.LEAVE)
    for opens in (0, 5):
        truth, seen = truth_of(stories, opens, torch.tensor([0, 4, 8, 12]))
        pictures = stories.render(opens, opens + VIEWS)[:, -13:]
        first = 0 if opens == 0 else stories.truth.pan.shape[1] - 13
        assert pictures.shape[1] == 13 and (opens == 0 or torch.equal(pictures, stories.pictures[:, first:]))
        assert torch.allclose(seen, stories.truth.visible[:, [first, first + 4, first + 8, first + 12]].mean(1))
        for story, (_, prompt) in enumerate(prompts[0] for prompts in stories.prompts):
            assert torch.equal(bags_of(truth[story], torch.ones(len(ASPECTS), dtype=torch.bool)), bag(prompt))


def parts(truth: list[list[int]], seen: float) -> dict[str, float]:
    """The figures of two clips that look alike."""
    one = EyeStage(PLAN, 1, GLASS, CPU)
    views = torch.rand(1, VIEWS, 3, 64, 96, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1, -1)
    figures = one.loss(views, torch.tensor(truth), torch.full((2,), seen), torch.Generator().manual_seed(5))[1]
    return {name: value.item() for name, value in figures.items()}


def test_a_prompt_that_also_fits_is_no_contrast():
    assert parts([[1, 2, 3, 4, 1], [1, 2, 3, 4, 1]], 1.0)["pairs"] == pytest.approx(0, abs=1e-6)
    assert parts([[1, 2, 3, 4, 1], [0, 1, 2, 3, 0]], 1.0)["pairs"] > 0.1


def test_a_subject_out_of_sight_may_be_any_but_the_place_is_seen():
    ball, star = [[1, 2, 0, 4, 1]] * 2, [[1, 2, 3, 4, 1]] * 2
    desert = [[2, 2, 0, 4, 1]] * 2
    assert parts(ball, 0.0)["shape"] == pytest.approx(parts(star, 0.0)["shape"], abs=1e-6)
    assert parts(ball, 1.0)["shape"] != pytest.approx(parts(star, 1.0)["shape"], abs=1e-3)
    assert parts(ball, 0.0)["place"] != pytest.approx(parts(desert, 0.0)["place"], abs=1e-3)
