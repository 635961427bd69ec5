"""The motion stage: the seed decides the losses, only the decoder learns, near the subject what is drawn counts and
elsewhere what the decoder drew before."""

from dataclasses import replace
from pathlib import Path

import torch

from echo_cli.models.backend import Backend
from echo_cli.models.tiny.codec import DETAIL, TinyCodec
from echo_cli.training.loop import Budget, run
from echo_cli.training.motion_stage import MOVING, MotionPlan, MotionStage, cut, surroundings
from echo_cli.training.shelf import Frames

from .pupils import small_backend

PLAN = MotionPlan(batch=2, shelf=replace(MOVING, stories=1, chapters=1, steps_each=2))
CPU = torch.device("cpu")


def backend() -> Backend:
    torch.manual_seed(0)
    return small_backend(3, TinyCodec(widths=(4, 4, 4, 8)).requires_grad_(False).eval())


def stage(seed: int = 1) -> MotionStage:
    return MotionStage(PLAN, seed, backend(), CPU)


def test_the_seed_decides_the_losses_and_only_the_decoder_learns() -> None:
    one, two, other = stage(), stage(), stage(2)
    steps = [(one.advance(step, 0.0), two.advance(step, 0.0)) for step in range(3)]
    assert all(torch.equal(a["loss"], b["loss"]) for a, b in steps)
    assert not torch.equal(other.advance(0, 0.0)["loss"], steps[0][0]["loss"])
    before = backend().codec.state_dict()
    moved = {name.split(".")[0] for name, value in one.finished().state_dict().items()
             if not torch.equal(value, before[name])}
    assert moved == {"decoder"}


def test_a_run_that_is_continued_is_held_to_what_was_drawn_before_it(tmp_path: Path) -> None:
    def trained(model: Backend, steps: int) -> MotionStage:
        one = MotionStage(PLAN, 1, model, CPU)
        assert run("motion", one.learner, one.advance, Budget(steps), tmp_path, lambda progress: None, lambda: False)
        return one

    first = trained(backend(), 2)
    later = trained(replace(backend(), codec=first.finished()), 3)
    for name, value in backend().codec.state_dict().items():
        assert torch.equal(value, later.before.state_dict()[name]), name


def test_near_the_subject_the_world_counts_and_elsewhere_what_was_drawn_before() -> None:
    one, size = stage(), (256, 192)
    motions = torch.tensor([[0.0, 48.0, 80.0, 20.0]]).repeat(4, 1)[None]
    drawn = Frames(torch.zeros(1, 24, 8, 6), torch.randint(256, (1, 12, *size), dtype=torch.uint8), motions,
                   torch.tensor([False]))
    near = surroundings(motions, PLAN.near, torch.Size(size))
    assert near[0, 0, 160, 96] == 1 and near[0, 0, 20, 96] == 0 and 0.1 < near.mean() < 0.5
    before, flow = torch.rand(1, 12, *size), torch.zeros(1, 3, 2, *size)
    right = torch.where(near > 0, drawn.pictures.float() / 255, before)
    for moves in (False, True):
        best, same = (one.losses(decoded, flow, before, drawn, moves)["loss"] for decoded in (right, before))
        assert best < 1e-6 and same > 0.01, moves


def test_a_window_of_columns_shows_the_subject_where_it_says() -> None:
    chapter = stage().shelf._chapter(0)
    near = cut(chapter, 6)
    assert near.latents.shape[-1] == 6 and near.pictures.shape[-1] == 6 * 16 * DETAIL
    for whole, part, moved, stood in zip(chapter.pictures, near.pictures, near.motions, chapter.motions, strict=True):
        left = round((stood[0, 1] - moved[0, 1]).item()) * DETAIL
        assert torch.equal(part, whole[..., left:left + part.shape[-1]])
        if 60 < stood[:, 1].mean() < 130:
            assert 30 < moved[:, 1].mean() < 66
