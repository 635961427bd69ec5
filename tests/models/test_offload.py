"""Layers that visit compute the same bits as layers that stay, and are only there while they compute."""

from dataclasses import replace

import pytest
import torch

from echo_cli.models.offload import keep_layers_on_host
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise
from tests.small import GRID, SHORT, SPEC, model, policy_for, prompts_for, run, story

CPU = torch.device("cpu")
LONGER = replace(SPEC, depth=3)


@torch.inference_mode()
def test_a_film_with_visiting_layers_is_the_same_bits() -> None:
    timeline, visiting = story(SHORT), model()
    keep_layers_on_host(visiting, CPU)
    for stayed, visited in zip(
        run("echo-forcing", timeline), run("echo-forcing", timeline, transformer=visiting), strict=True
    ):
        assert torch.equal(stayed.latents, visited.latents)


@torch.inference_mode()
def test_at_most_one_layer_is_there_ahead_of_the_one_that_computes() -> None:
    visiting = model()
    homes = [block.self_attn.q.weight.data_ptr() for block in visiting.blocks]
    keep_layers_on_host(visiting, CPU)
    seen = []
    for block in visiting.blocks:
        ask = block.ask
        block.ask = lambda *args, ask=ask: (
            seen.append([block.self_attn.q.weight.data_ptr() for block in visiting.blocks]) or ask(*args)
        )
    next(iter(run("window", story(SHORT), transformer=visiting)))
    away = [[at != home for at, home in zip(now, homes, strict=True)] for now in seen]
    assert away[:2] == [[True, False], [False, True]]
    assert [block.self_attn.q.weight.data_ptr() for block in visiting.blocks] == homes


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@torch.inference_mode()
def test_layers_take_turns_in_two_places_however_many_they_are(depth: int) -> None:
    """The host launches passes long before the device comes to them: what is allocated for each would pile up."""
    spec, timeline, seen = replace(SPEC, depth=depth), story([(None, None, 2)]), []
    stayed, visiting = model(spec=spec), model(spec=spec)
    keep_layers_on_host(visiting, CPU)
    for block in visiting.blocks:
        ask = block.ask
        # held, so that no address is used again
        block.ask = lambda *args, ask=ask, block=block: seen.append(block.ffn[0].weight) or ask(*args)
    films = [[result.latents for result in rollout(timeline, transformer, prompts_for(timeline, spec),
                                                   policy_for("window", timeline, None, spec),
                                                   KeyedNoise(1, timeline.scenes), GRID)]
             for transformer in (stayed, visiting)]
    assert all(torch.equal(one, other) for one, other in zip(*films, strict=True))
    assert len(seen) == 2 * 5 * depth and len({weight.data_ptr() for weight in seen}) == min(2, depth)


@torch.inference_mode()
def test_a_layer_out_of_turn_still_finds_its_weights() -> None:
    stayed, visiting, text = model(spec=LONGER), model(spec=LONGER), torch.ones(1, 3, SPEC.width)
    keep_layers_on_host(visiting, CPU)
    for index in (0, 2, 2, 0, 1, 0, 2):
        for one, other in zip(stayed.blocks[index].read(text), visiting.blocks[index].read(text), strict=True):
            assert torch.equal(one, other)


def test_weights_are_still_told_by_their_names() -> None:
    visiting = model()
    names = set(visiting.state_dict())
    keep_layers_on_host(visiting, CPU)
    assert set(visiting.state_dict()) == names
