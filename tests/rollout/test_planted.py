"""Mistakes planted on purpose: for each, the recorded scenarios no longer come out. A test that cannot fail proves
nothing."""

from collections.abc import Callable

import pytest
from pytest import MonkeyPatch
from torch import Tensor

from echo_cli.memory.policies import base, echo_forcing
from echo_cli.memory.policies.echo_forcing import EchoForcingMemory, EchoForcingPolicy
from echo_cli.memory.recall import Keepsake
from echo_cli.memory.store import KVStore
from echo_cli.rope import rotate
from echo_cli.storyboard.nouns import Kind
from tests.rollout.replay import Scenario

NOTICED = 2e-5  # twice the tolerance of the golden test


def anchors_roll_the_wrong_way(patch: MonkeyPatch) -> None:
    right = EchoForcingMemory._wave_at
    patch.setattr(EchoForcingMemory, "_wave_at", lambda self, phase: right(self, phase + self.policy.wave))


def weights_on_keys_only(patch: MonkeyPatch) -> None:
    def frame(store: KVStore, position: int, slot: int, row: int | None):
        key, value = rotate(store.keys[:, :, slot], store.rope.frames(position, 1)), store.values[:, :, slot]
        return (key if row is None else key * store.weights[:, :, row, :, None, None]), value

    patch.setattr(KVStore, "_frame", frame)


def decay_one_block_late(patch: MonkeyPatch) -> None:
    set_rates, measure = EchoForcingMemory._set_rates, EchoForcingMemory._measure
    held: list[Tensor] = []  # the rates of a scene whose first block has been measured, or is being

    def hold(self, cut):
        set_rates(self, cut)
        held[:] = [self.store.rates.clone()] * 2
        self.store.rates.fill_(1.0)

    def release(self):
        measure(self)
        if held:
            rates = held.pop()
            if not held:  # the second block
                self.store.rates.copy_(rates)

    patch.setattr(EchoForcingMemory, "_set_rates", hold)
    patch.setattr(EchoForcingMemory, "_measure", release)


def history_includes_the_current_block(patch: MonkeyPatch) -> None:
    right = EchoForcingMemory._roll

    def wrong(self, *args):
        held = self.history.frames
        self.history.frames = held[len(self.current):] + self.current
        right(self, *args)
        self.history.frames = held

    patch.setattr(EchoForcingMemory, "_roll", wrong)


def jump_on_the_queries_alone(patch: MonkeyPatch) -> None:
    right = base.layout_of

    def wrong(*args, jump=None, **kwargs):
        layout = right(*args, jump=None, **kwargs)
        object.__setattr__(layout, "query_position", layout.query_position + (jump or 0))
        return layout

    patch.setattr(echo_forcing, "layout_of", wrong)


def jump_on_the_remembered_frames(patch: MonkeyPatch) -> None:
    right = base.layout_of

    def wrong(*args, first=0, query=None, jump=None, **kwargs):
        layout = right(*args, first=first + (jump or 0), query=query, jump=None, **kwargs)
        object.__setattr__(layout.segments[-1], "position", layout.segments[-1].position - (jump or 0))
        return layout

    patch.setattr(echo_forcing, "layout_of", wrong)


def recall_frame_of_the_wrong_scene(patch: MonkeyPatch) -> None:
    right = EchoForcingPolicy._wanted

    def wrong(self, index: int, chains: list[int]):
        wanted = right(self, index, chains)
        recalls = self.scenes[index].transition is Kind.RECALL
        return Keepsake(wanted.kind, index - 1) if recalls else wanted

    patch.setattr(EchoForcingPolicy, "_wanted", wrong)


def worst(name: str) -> float:
    scenario = Scenario(name)
    apart = 0.0
    for result in scenario.run(scenario.policy()):
        frames = result.block.frames
        apart = max(
            apart, (result.latents - scenario.tensors["latents"][:, frames.start : frames.stop]).abs().max().item()
        )
        if apart > NOTICED:
            break
    return apart


@pytest.mark.parametrize(("plant", "name"), [
    (anchors_roll_the_wrong_way, "s1_single_long"),
    (weights_on_keys_only, "s2_smooth"),
    (decay_one_block_late, "s2_smooth"),
    (history_includes_the_current_block, "s1_single_long"),
    (jump_on_the_queries_alone, "s3_hardcut"),
    (jump_on_the_remembered_frames, "s3_hardcut"),
    (recall_frame_of_the_wrong_scene, "s4_recall_idf"),
])
def test_a_planted_mistake_is_noticed(
    plant: Callable[[MonkeyPatch], None], name: str, monkeypatch: MonkeyPatch
) -> None:
    plant(monkeypatch)
    assert worst(name) > NOTICED
