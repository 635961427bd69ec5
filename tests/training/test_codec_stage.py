"""The codec's training: the seed decides every loss, a run that was stopped resumes as if it had not been, and the true
motion is known."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from echo_cli.models.tiny.codec import DETAIL, KEY
from echo_cli.models.tiny.model import WEIGHTS, load_codec, part_path
from echo_cli.training import codec_stage
from echo_cli.training.codec_stage import CodecPlan, CodecStage, codec_figures, flow_errors, motion_of, roughness
from echo_cli.training.loop import Budget, run
from echo_cli.world.stories import StoryKind, first_picture, sample_stories

PLAN = CodecPlan(batch=2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def short() -> Iterator[None]:
    """Stories and chapters that are quickly drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec_stage, "_LENGTH", 6)
        patch.setattr(codec_stage, "_CHAPTER", 4)  # fewer steps than a run has
        yield


def trained(folder: Path, until: int | None = None, seed: int = 3) -> tuple[CodecStage, list[float]]:
    stage = CodecStage(PLAN, seed, CPU)
    losses: list[float] = []
    run(
        "codec",
        stage.learner,
        stage.advance,
        Budget(5),
        folder,
        lambda progress: losses.append(progress.losses["loss"]),
        lambda: until is not None and stage.learner.step >= until,
    )
    return stage, losses


@pytest.fixture(scope="module")
def unbroken_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[CodecStage, list[float]]:
    return trained(tmp_path_factory.mktemp("whole"))


def test_a_stopped_run_resumes_with_the_same_losses(unbroken_run, tmp_path):
    whole, unbroken = unbroken_run
    assert len(unbroken) == 5 and len(set(unbroken)) == 5
    _, before = trained(tmp_path / "broken", until=3)
    resumed, after = trained(tmp_path / "broken")
    assert len(after) == 2 and before + after == unbroken
    for name, value in whole.learner.average.items():
        assert torch.equal(value, resumed.learner.average[name]), name


def test_another_seed_draws_other_pictures():
    one, again, other = (CodecStage(PLAN, seed, CPU).frames(0)[0] for seed in (3, 3, 4))
    assert torch.equal(one, again) and not torch.allclose(one, other, atol=0.05)


def test_the_finished_codec_has_latents_of_unit_size(unbroken_run):
    codec = unbroken_run[0].finished(stories=2)
    pictures = torch.rand(1, 5, 3, 128, 192)
    assert codec.encode(pictures).shape == (1, 2, 24, 8, 12)
    assert (codec.std > 0).all()
    figures = codec_figures(codec, stories=2)
    assert 0 < figures.psnr < 60 and figures.worst <= figures.psnr


def test_true_flow_moves_the_key_picture_onto_the_others():
    stories = sample_stories([5, 6, 7, 8], 12, StoryKind.PAN)
    for frame in (3, 8):
        motion = motion_of(stories.truth, frame)
        pan = motion[:, [t for t in range(4) if t != KEY], 0] - motion[:, KEY : KEY + 1, 0]
        flow = torch.zeros(4, 3, 2, 256, 384)
        flow[:, :, 0] = DETAIL * pan[..., None, None]
        assert flow_errors(flow, motion)[1] == 0
        pictures = stories.backgrounds(frame, frame + 1)
        key = torch.stack([torch.roll(pictures[:, KEY], -int(step), -1) for step in pan[0]], 1)
        others = pictures[:, [t for t in range(4) if t != KEY]]
        assert torch.equal(key[..., 3:-3], others[..., 3:-3])
    still = flow_errors(torch.zeros(4, 3, 2, 256, 384), motion_of(stories.truth, 8))
    assert still[1] > 0


def test_a_films_only_first_picture_has_no_flow():
    stories = sample_stories([5], 3)
    assert motion_of(stories.truth, 0).shape == (1, 4, 4) and first_picture(1) == 1
    assert flow_errors(torch.zeros(1, 3, 2, 256, 384), motion_of(stories.truth, 0)) == (0, 0)


def test_roughness_of_noise_is_two_and_of_a_plain_is_none():
    torch.manual_seed(0)
    assert abs(roughness(torch.randn(8, 16, 32, 32)).item() - 2) < 0.05
    assert roughness(torch.ones(2, 3, 8, 8)) == 0


@pytest.mark.slow
def test_the_shipped_codec_carries_clips_that_it_never_saw(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(codec_stage, "_LENGTH", 21)
    figures = codec_figures(load_codec(part_path(WEIGHTS, "codec")), stories=3)
    assert figures.psnr > 29 and figures.subject > 20 and figures.psnr - figures.noisy < 0.6
    assert 0.2 < figures.moving <= 1 and 0.4 < figures.sharp < 1.2
    assert figures.roughness < 0.9
