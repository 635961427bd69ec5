"""The frames that a decoder learns from: what a chapter holds, and that half of it is the transformer's."""

from dataclasses import replace

import pytest
import torch

from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.training.draws import noise_like
from echo_cli.training.shelf import Shelf, ShelfPlan
from echo_cli.world.stories import BOUNCE, StoryKind, bouncing, sample_stories

from .pupils import small_backend

CPU = torch.device("cpu")


def shelf(plan: ShelfPlan) -> Shelf:
    torch.manual_seed(0)
    return Shelf(plan, "test", 6, 0, 1, small_backend(3, TinyCodec(widths=(4, 4, 4, 8)).requires_grad_(False).eval()),
                 CPU)


def test_half_of_the_latents_are_finished_by_the_transformer() -> None:
    chapter = shelf(ShelfPlan(stories=1, groups=4))._chapter(0)
    assert chapter.finished.float().mean() == 0.5
    assert chapter.pictures.shape == (12, 12, 256, 384) and chapter.pictures.dtype == torch.uint8


def test_a_chapter_follows_from_its_number_and_holds_some_blocks_of_each_story() -> None:
    plan = ShelfPlan(stories=2, groups=1, blocks=2)
    one, two = shelf(plan)._chapter(3), shelf(plan)._chapter(3)
    assert torch.equal(one.latents, two.latents) and torch.equal(one.pictures, two.pictures)
    assert len(one.latents) == 2 * 2 * 3
    assert not torch.equal(one.pictures, shelf(plan)._chapter(4).pictures)


def test_a_story_that_bounces_is_known_by_its_seed() -> None:
    seeds = torch.arange(64)
    moves = sample_stories(seeds, 1, StoryKind.HOLD).truth.motion[:, 0]
    assert torch.equal(bouncing(seeds), moves == BOUNCE) and 5 < (moves == BOUNCE).sum() < 30


def test_a_share_of_the_groups_bounces() -> None:
    plan = ShelfPlan(stories=1, groups=1, hops=0.6)
    hops = [bool(bouncing(shelf(plan)._seeds(place, True)).all()) for place in range(20)]
    assert all(hops)
    heights = [chapter.motions[:, :, 2].diff(dim=1).abs().max() > 0.5
               for chapter in (shelf(replace(plan, hops=share))._chapter(n) for share in (0.0, 1.0) for n in range(6))]
    assert sum(heights[6:]) == 6 > sum(heights[:6])


def test_finishing_does_the_last_of_the_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    one, times = shelf(ShelfPlan()), []
    net = one.backend.transformer
    monkeypatch.setattr(net, "forward", lambda latents, at, *rest: times.append(at[0, 0].item()) or 0 * latents)
    latents = torch.randn(1, 3, 24, 8, 12)
    generator = torch.Generator().manual_seed(0)
    made = one.finish(latents, ["a red ball"], len(one.sigmas) - 1, generator)
    assert times == [pytest.approx(1000 * one.sigmas[-1])]
    noise = noise_like(latents, torch.Generator().manual_seed(0))
    assert torch.allclose(made, (1 - one.sigmas[-1]) * latents + one.sigmas[-1] * noise)
