"""The codec's training: the seed decides every loss, and a run that was stopped goes on as if it had not been."""

import pytest
import torch

from echo_cli.models.tiny import WEIGHTS, load_codec, part_path
from echo_cli.training.codec_stage import CodecPlan, CodecStage, codec_figures, roughness

PLAN = CodecPlan(seed=3, steps=5, batch=2, warmup=2, save_every=2)


def _losses(stage: CodecStage, until: int | None = None) -> list[float]:
    losses: list[float] = []
    stage.run(lambda progress: losses.append(progress.loss), lambda: until is not None and stage.step >= until)
    return losses


def test_a_stopped_run_goes_on_with_the_same_losses(tmp_path):
    whole = CodecStage(PLAN, tmp_path / "whole")
    unbroken = _losses(whole)
    assert len(unbroken) == 5 and len(set(unbroken)) == 5
    first = _losses(CodecStage(PLAN, tmp_path / "broken"), until=3)
    resumed = CodecStage(PLAN, tmp_path / "broken")
    assert resumed.step == 3
    assert first + _losses(resumed) == unbroken
    for name, value in whole.average.items():
        assert torch.equal(value, resumed.average[name]), name


def test_another_seed_draws_other_pictures(tmp_path):
    frames = CodecStage(PLAN, tmp_path / "a")._frames()
    again = CodecStage(PLAN, tmp_path / "b")._frames()
    other = CodecStage(CodecPlan(seed=4, batch=2), tmp_path / "c")._frames()
    assert torch.equal(frames, again) and not torch.allclose(frames, other, atol=0.05)


def test_a_checkpoint_of_another_plan_is_refused(tmp_path):
    CodecStage(PLAN, tmp_path).save()
    with pytest.raises(ValueError, match="another plan"):
        CodecStage(CodecPlan(seed=9), tmp_path)


def test_the_finished_codec_has_latents_of_unit_size(tmp_path):
    stage = CodecStage(PLAN, tmp_path)
    codec = stage.finished(stories=2)
    pictures = torch.rand(1, 5, 3, 128, 192)
    assert codec.encode(pictures).shape == (1, 2, 24, 8, 12)
    assert (codec.std > 0).all()
    figures = codec_figures(codec, stories=2)
    assert 0 < figures.psnr < 60 and figures.worst <= figures.psnr


def test_roughness_of_noise_is_two_and_of_a_plain_is_none():
    torch.manual_seed(0)
    assert abs(roughness(torch.randn(8, 16, 32, 32)).item() - 2) < 0.05
    assert roughness(torch.ones(2, 3, 8, 8)) == 0


def test_the_shipped_codec_carries_clips_that_it_never_saw():
    figures = codec_figures(load_codec(part_path(WEIGHTS, "codec")), stories=3)
    assert figures.psnr > 29 and figures.subject > 20 and figures.psnr - figures.noisy < 0.6
    assert -0.1 < figures.moving <= 1
    assert figures.roughness < 0.9
