"""The decoder's stage: the seed decides the losses, a killed run resumes, and only the decoder and its rival learn."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from echo_cli.models.backend import Backend
from echo_cli.models.tiny.codec import DETAIL, TinyCodec
from echo_cli.spec import RANDOM_SMALL, TINY
from echo_cli.training import decoder_stage
from echo_cli.training.decoder_stage import DecoderPlan, DecoderStage, Rival
from echo_cli.training.loop import Budget, run
from echo_cli.training.shelf import ShelfPlan

from .pupils import small_backend

PLAN = DecoderPlan(batch=2, shelf=ShelfPlan(stories=1, groups=3, chapters=1, steps_each=2))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True, scope="module")
def narrow() -> Iterator[None]:
    """A rival that costs little."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoder_stage, "Rival", partial(Rival, (8, 8, 8)))
        yield


@pytest.fixture(scope="module")
def unbroken_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[DecoderStage, list[float]]:
    return trained(tmp_path_factory.mktemp("whole"))


def backend() -> Backend:
    torch.manual_seed(0)
    return small_backend(3, TinyCodec(widths=(4, 4, 4, 8)).requires_grad_(False).eval())


def trained(folder: Path, until: int | None = None, seed: int = 1) -> tuple[DecoderStage, list[float]]:
    one, losses = DecoderStage(PLAN, seed, backend(), CPU), []
    done = run("decoder", one.learner, one.advance, Budget(4), folder, lambda p: losses.append(p.losses["loss"]),
               lambda: until is not None and one.learner.step >= until)
    assert done is (until is None)
    return one, losses


def test_a_killed_run_ends_like_an_unbroken_one_and_another_seed_differs(
        unbroken_run: tuple[DecoderStage, list[float]], tmp_path: Path) -> None:
    whole, unbroken = unbroken_run
    _, before = trained(tmp_path / "broken", until=3)
    resumed, after = trained(tmp_path / "broken")
    assert before + after == unbroken
    for name, value in whole.finished().state_dict().items():
        assert torch.equal(value, resumed.finished().state_dict()[name]), name
    assert trained(tmp_path / "other", until=1, seed=2)[1] != unbroken[:1]


def test_latents_stay_as_they_are(unbroken_run: tuple[DecoderStage, list[float]]) -> None:
    start, one = backend(), unbroken_run[0]
    before, after = start.codec.state_dict(), one.finished().state_dict()
    moved = {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {"decoder"}
    for name, value in start.transformer.state_dict().items():
        assert torch.equal(value, one.backend.transformer.state_dict()[name])


def test_each_loses_for_itself_alone() -> None:
    one = DecoderStage(PLAN, 1, backend(), CPU)
    frames = torch.rand(2, 12, 64, 96)
    decoded = torch.rand(2, 12, 64, 96, requires_grad=True)
    deceit, judged = one.rivalry(frames, decoded)
    deceit.backward()
    assert decoded.grad is not None and all(p.grad is None for p in one.rival.parameters())
    decoded.grad = None
    judged.backward()
    assert decoded.grad is None and all(p.grad is not None for p in one.rival.parameters())


def test_the_rival_is_not_heard_at_first() -> None:
    one = DecoderStage(PLAN, 1, backend(), CPU)
    figures = [set(one.advance(step, spent)) for step, spent in enumerate((0.0, PLAN.alone))]
    assert "deceit" not in figures[0] and "deceit" in figures[1]


def test_models_say_how_large_the_decoder_draws() -> None:
    assert TINY.detail == RANDOM_SMALL.detail == DETAIL
