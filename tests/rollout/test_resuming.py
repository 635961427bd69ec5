"""A rollout that stopped between any two blocks and goes on from what it said makes the same film, to the last bit."""

import json
from dataclasses import fields, replace

import pytest
import torch

from echo_cli.memory.table import POLICIES
from echo_cli.rollout.rollout import Begun, BlockResult, rollout
from echo_cli.runtime import KeyedNoise, Later
from echo_cli.state import Nest, pack, unpack
from echo_cli.storyboard.nouns import Kind
from tests.small import GRID, STORY, model, policy_for, prompts_for, story

TRANSFORMER = model()
# every border, full twice
BRIEF = [(None, None, 9), (Kind.SMOOTH, None, 2), (Kind.HARD_CUT, None, 1), (Kind.RECALL, "scene0", 8)]
SETTINGS = [
    {"gate_on_clean": True, "no_duplicates": True, "true_places": True},
    {"forgetting": "suppress", "candidates_from_whole_scene": True},
    {"smooth": {"clear_after": 0, "recent_frames": 1}},
    {"nearest_anchor": True},
    {"fold": "token_select"},
    {"max_reuse": 2},
    {"compression": False},
    {"hard_cut": {"source": "select"}, "smooth": {"source": "resink"}},
]


def written(nest: Nest) -> Nest:
    """As it comes back from a file: values through JSON, tensors that share nothing with the run's."""
    tensors, plain = pack(nest)
    return unpack({name: tensor.clone() for name, tensor in tensors.items()}, json.loads(json.dumps(plain)))


def run(name: str, settings: dict, begun: Begun | None = None, scenes: list = BRIEF) -> list[tuple[BlockResult, Nest]]:
    timeline = story(scenes)
    loop = rollout(
        timeline,
        TRANSFORMER,
        prompts_for(timeline),
        policy_for(name, timeline, settings),
        KeyedNoise(1, timeline.scenes),
        GRID,
        begun=begun,
    )
    return [(result, written(result.state())) for result in loop]


def described(result: BlockResult) -> list:
    """What a block was and what the trace would say of it."""
    facts = {item.name: getattr(result.facts, item.name) for item in fields(result.facts)}
    results = {name: value.read() if isinstance(value, Later) else value for name, value in facts.items()}
    return [result.block, replace(result.layout), result.transition, results, result.bytes]


def same(name: str, settings: dict, stops: list[int], scenes: list = BRIEF) -> None:
    whole = run(name, settings, scenes=scenes)
    for stop in stops:
        rest = run(name, settings, Begun(stop, whole[stop - 1][1]), scenes)
        assert [result.block.index for result, _ in rest] == list(range(stop, len(whole)))
        for (before, _), (after, _) in zip(whole[stop:], rest, strict=True):
            assert torch.equal(before.latents, after.latents), f"stopped after {stop}, block {after.block.index}"
            assert repr(described(before)) == repr(described(after)), f"stopped after {stop}, block {after.block.index}"


# inside a scene whose window is full, at every kind of border, and after the last block
STOPS = [8, 11, 13, 20]


@pytest.mark.parametrize("name", POLICIES)
def test_a_stopped_rollout_goes_on_as_if_nothing_had_happened(name: str) -> None:
    same(name, {}, STOPS if name == "echo-forcing" else [13])


@pytest.mark.parametrize(
    "settings", [*SETTINGS[:3], *(pytest.param(each, marks=pytest.mark.slow) for each in SETTINGS[3:])], ids=str
)
def test_with_every_setting(settings: dict) -> None:
    same("echo-forcing", settings, [10])


@pytest.mark.parametrize("settings", [{"eight_bits": True, "recall_strength": 0.5}], ids=str)
def test_with_every_setting_of_a_recall(settings: dict) -> None:
    same("echo", settings, STOPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_between_any_two_blocks(name: str) -> None:
    same(name, {}, list(range(1, sum(count for *_, count in STORY) + 1)), STORY)


def test_state_is_bounded() -> None:
    """What a run says does not grow with the film."""
    made = run("echo-forcing", {}, scenes=[(None, None, 30)])
    sizes = [sum(tensor.numel() * tensor.element_size() for tensor in pack(state)[0].values()) for _, state in made]
    assert max(sizes[15:]) <= max(sizes[:15]) * 1.01 and max(sizes) < made[0][0].bytes
