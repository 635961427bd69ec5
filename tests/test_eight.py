"""Attention in eight bits: near exact attention, with codes that are always those of the window."""

from typing import Any

import pytest
import torch
from torch import Tensor

from echo_cli.context import BlockContext
from echo_cli.eight import GREATEST, HEADROOM, Codes, EightBitLayers, EightBitWindow, attend_to_codes, codes
from echo_cli.memory.store import KVStore
from echo_cli.memory.table import POLICIES
from echo_cli.models.fp8 import attend_in_eight_bits
from echo_cli.models.layers import attend
from echo_cli.models.transformer import Transformer
from echo_cli.rollout.rollout import Begun, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.state import pack, unpack
from echo_cli.storyboard.nouns import Kind
from tests.small import GRID, SPEC, model, policy_for, prompts_for, run, story

BRIEF = [(None, None, 9), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "scene0", 2)]


def eight(layers: tuple[int, ...] | None = None) -> Transformer:
    transformer = model()
    attend_in_eight_bits(transformer, layers)
    return transformer


def window(keys: Tensor, values: Tensor, bound: float = 10.0) -> EightBitWindow:
    """One frame [batch, token, head, dim] as a window of one layer."""
    bounds = torch.full((1, keys.shape[2]), bound)
    made = EightBitWindow(EightBitLayers((0,), bounds, bounds), keys[None], keys.shape[1])
    made.measure(keys[None], values[None], [0])
    made.write(keys[None], values[None], [0])
    return made


def test_attention_in_eight_bits_is_near_and_a_common_part_of_the_keys_costs_nothing() -> None:
    torch.manual_seed(0)
    query, keys, values = (torch.randn(1, count, 2, 24) for count in (30, 200, 200))
    exact = attend(query, keys, values)
    moved = [float((attend_to_codes(window(keys + common, values).seen(0, query, 200)) - exact).norm() / exact.norm())
             for common in (0.0, 50.0)]
    assert 1e-3 < moved[0] < 0.1 and moved[1] == pytest.approx(moved[0], rel=0.05)


def test_mean_and_scale_are_those_of_each_head() -> None:
    torch.manual_seed(0)
    keys, values = torch.randn(1, 50, 2, 24) + 3, torch.randn(1, 50, 2, 24) * torch.tensor([1.0, 100.0])[:, None]
    made = window(keys, values)
    torch.testing.assert_close(made.mean[0], keys.mean(1))
    torch.testing.assert_close(made.value_scale[0], values.abs().amax((1, 3)) * HEADROOM / GREATEST)
    for exact, code, scale in ((keys - made.mean[0, :, None], made.keys[0], made.key_scale[0]),
                               (values, made.values[0], made.value_scale[0])):
        back = code.float() * scale[:, None, :, None]
        assert ((back - exact).norm(dim=3) <= 0.05 * exact.norm(dim=3)).all()


def test_what_is_greater_than_was_measured_is_cut_off_not_made_infinite() -> None:
    assert codes(torch.tensor([[1e9, -1e9]]), torch.ones(1)).float().tolist() == [[GREATEST, -GREATEST]]


@pytest.mark.parametrize("name", POLICIES)
@torch.inference_mode()
def test_codes_are_always_those_of_the_window(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is laid out, kept, chosen or written by a pass."""
    checked, seen = [], EightBitWindow.seen

    def check(self: EightBitWindow, layer: int, query: Tensor, end: int) -> Codes:
        keys, values = context[-1].keys[layer, :, :end], context[-1].values[layer, :, :end]
        given = seen(self, layer, query, end)
        row = self._rows[layer]
        assert torch.equal(given.keys.float(), codes(keys - self.mean[row, :, None], given.key_scale[:, None]).float())
        assert torch.equal(given.values.float(), codes(values, given.value_scale[:, None]).float())
        checked.append(layer)
        return given

    context: list[BlockContext] = []
    prepare = KVStore.prepare
    monkeypatch.setattr(KVStore, "prepare", lambda *given: context.append(prepare(*given)) or context[-1])
    monkeypatch.setattr(EightBitWindow, "seen", check)
    run(name, story(BRIEF), transformer=eight((1,)))
    assert set(checked) == {1} and len(checked) >= 50


@torch.inference_mode()
def test_a_film_moves_a_little_and_only_in_the_layers_that_are_chosen() -> None:
    timeline = story(BRIEF)
    exact, near, none = (run("echo-forcing", timeline, transformer=each) for each in (model(), eight(), eight(())))
    assert torch.equal(near[0].latents, exact[0].latents), "nothing is remembered yet"
    for one, two, three in zip(exact[1:], near[1:], none[1:], strict=True):
        assert 1e-5 < float((two.latents - one.latents).norm() / one.latents.norm()) < 0.1
        assert torch.equal(one.latents, three.latents)
    assert near[0].bytes > exact[0].bytes


@pytest.mark.parametrize("name", ["echo", "echo-forcing", "window"])
@torch.inference_mode()
def test_an_interrupted_film_resumes_with_the_same_bits(name: str) -> None:
    timeline, whole, kept = story(BRIEF), [], []

    def blocks(begun: Begun | None = None) -> Any:
        return rollout(timeline, eight(), prompts_for(timeline), policy_for(name, timeline),
                       KeyedNoise(1, timeline.scenes), GRID, begun=begun)

    for result in blocks():
        whole.append(result.latents.clone())
        tensors, plain = pack(result.state())
        kept.append(unpack({key: tensor.clone() for key, tensor in tensors.items()}, plain))
    for stop in (3, 8, 10):
        rest = [result.latents for result in blocks(Begun(stop, kept[stop - 1]))]
        assert all(torch.equal(one, two) for one, two in zip(rest, whole[stop:], strict=True))


@pytest.mark.parametrize("before", [None, (0,), (0, 1)])
@torch.inference_mode()
def test_a_film_continues_one_that_attended_exactly_or_in_eight_bits_elsewhere(before: tuple[int, ...] | None) -> None:
    """Its `--fast` need not be that of the film before: mean and scale are measured when it begins."""
    timeline, count = story(BRIEF), 6
    policy, noise = policy_for("echo", timeline), KeyedNoise(1, timeline.scenes)

    def blocks(transformer: Transformer, begun: Begun | None = None) -> Any:
        return rollout(timeline, transformer, prompts_for(timeline), policy, noise, GRID, begun=begun)

    first = blocks(model() if before is None else eight(before))
    state = [next(first) for _ in range(count)][-1].state()
    exact, rest = next(blocks(model(), Begun(count, state))), list(blocks(eight((1,)), Begun(count, state)))
    assert len(rest) == len(timeline.blocks) - count and all(bool(each.finite.read()) for each in rest)
    assert 1e-5 < float((rest[0].latents - exact.latents).norm() / exact.latents.norm()) < 0.1


def test_all_tensors_that_a_recorded_pass_reads_are_named() -> None:
    """A film whose tensors lie elsewhere must not launch the recording of another."""
    made = window(torch.randn(1, 4, 2, 24), torch.randn(1, 4, 2, 24))
    held = {id(each) for each in vars(made).values() if isinstance(each, Tensor)}
    assert held == {id(each) for each in made.tensors}


@torch.inference_mode()
def test_weights_that_are_a_bias_are_attended_to_exactly() -> None:
    """The kernel takes no bias; a recalled scene that fades by suppression has one."""
    timeline, settings = story(BRIEF), {"forgetting": "suppress"}
    contexts: list[BlockContext] = []
    prepare = KVStore.prepare
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KVStore, "prepare", lambda *given: contexts.append(prepare(*given)) or contexts[-1])
        run("echo-forcing", timeline, settings, transformer=eight())
    assert any(context.bias is not None for context in contexts)
    assert all((context.eight is None) == (context.bias is not None or context.past == 0) for context in contexts)
    assert SPEC.depth > 1
