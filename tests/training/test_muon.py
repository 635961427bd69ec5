"""Muon: orthogonal steps, and nothing lost between a checkpoint and the next step."""

import torch
from torch import nn

from echo_cli.training.muon import Muon, orthogonal


def test_steps_are_nearly_orthonormal():
    torch.manual_seed(0)
    for shape in ((16, 40), (40, 16)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
        assert values.min() > 0.6 and values.max() < 1.3


def _model() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 2, 1))


def _train(model: nn.Module, optimiser: Muon, steps: range) -> list[float]:
    losses = []
    for step in steps:
        x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x[:, :2, 1:-1, 1:-1]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.scale(1 - step / 100)
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_it_learns_and_goes_on_from_a_saved_state():
    model = _model()
    optimiser = Muon(model.parameters())
    whole = _train(model, optimiser, range(60))
    assert whole[-1] < whole[0] / 2
    first = _model()
    before = Muon(first.parameters())
    _train(first, before, range(30))
    second = _model()
    after = Muon(second.parameters())
    second.load_state_dict(first.state_dict())
    after.load_state_dict(before.state_dict())
    assert _train(second, after, range(30, 60)) == whole[30:]
