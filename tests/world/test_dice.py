"""Chance that belongs to a seed."""

import torch

from echo_cli.world.dice import between, choose, uniform


def test_numbers_depend_on_seed_stream_and_index_alone():
    seeds = torch.tensor([1, 2, 1 << 48])
    assert torch.equal(uniform(seeds, 3, 8)[1], uniform(seeds[1:2], 3, 8)[0])
    assert torch.equal(uniform(seeds, 3, 8)[:, :4], uniform(seeds, 3, 4))
    assert not torch.equal(uniform(seeds, 3, 8), uniform(seeds, 4, 8))
    assert torch.equal(uniform(torch.tensor([5]), 1, 3), uniform(torch.tensor([5]), 1, 3))


def test_numbers_are_uniform_and_unrelated():
    chance = uniform(torch.arange(4000), 2, 16)
    assert chance.min() >= 0 and chance.max() < 1
    assert (chance.mean(0) - 0.5).abs().max() < 0.03 and (chance.var(0) - 1 / 12).abs().max() < 0.01
    assert (torch.corrcoef(chance.T) - torch.eye(16)).abs().max() < 0.08
    neighbours = torch.stack((chance[:-1, 0], chance[1:, 0]))
    assert torch.corrcoef(neighbours)[0, 1].abs() < 0.08


def test_choices_cover_their_options():
    chance = uniform(torch.arange(500), 0, 1)[:, 0]
    assert choose(chance, 5).bincount().min() > 60
    scaled = between(chance, 2, 3)
    assert scaled.min() >= 2 and scaled.max() < 3
