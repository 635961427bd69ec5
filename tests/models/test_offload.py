"""Layers that visit compute the same bits as layers that stay, and are only there while they compute."""

import torch

from echo_cli.models.offload import keep_layers_on_host
from tests.small import SHORT, model, run, story

CPU = torch.device("cpu")


@torch.inference_mode()
def test_a_film_with_visiting_layers_is_the_same_bits() -> None:
    timeline, visiting = story(SHORT), model()
    keep_layers_on_host(visiting, CPU)
    for stayed, visited in zip(run("echo-forcing", timeline), run("echo-forcing", timeline, transformer=visiting), strict=True):
        assert torch.equal(stayed.latents, visited.latents)


@torch.inference_mode()
def test_at_most_one_layer_is_there_ahead_of_the_one_that_computes() -> None:
    visiting = model()
    homes = [block.self_attn.q.weight.data_ptr() for block in visiting.blocks]
    keep_layers_on_host(visiting, CPU)
    seen = []
    for block in visiting.blocks:
        ask = block.ask
        block.ask = lambda *args, ask=ask: seen.append([block.self_attn.q.weight.data_ptr() for block in visiting.blocks]) or ask(*args)
    next(iter(run("window", story(SHORT), transformer=visiting)))
    away = [[at != home for at, home in zip(now, homes, strict=True)] for now in seen]
    assert away[:2] == [[True, False], [False, True]]
    assert [block.self_attn.q.weight.data_ptr() for block in visiting.blocks] == homes


def test_weights_are_still_told_by_their_names() -> None:
    visiting = model()
    names = set(visiting.state_dict())
    keep_layers_on_host(visiting, CPU)
    assert set(visiting.state_dict()) == names
