"""What a scene leaves for other films, and how it comes back in one of them."""

import json
from dataclasses import replace

import pytest
import torch

from echo_cli.errors import UsageError
from echo_cli.memory.entries import FRAMES, RECALL, SceneEntry
from echo_cli.memory.policies.base import Memory
from echo_cli.memory.policies.echo_forcing import EchoForcingMemory
from echo_cli.memory.recall import Keepsake
from echo_cli.memory.table import POLICIES
from echo_cli.rollout.rollout import Begun, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.state import Nest, pack, unpack
from echo_cli.storyboard.nouns import Block, Kind, PastScene, Timeline
from echo_cli.storyboard.series import KEYFRAMES
from tests.small import GRID, SPEC, model, policy_for, prompts_for, run, story

FIRST = [(None, None, 4), (Kind.HARD_CUT, None, 1), (Kind.RECALL, "scene0", 2)]
SECOND = [(None, None, 3), (Kind.RECALL, "one/meadow", 3), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "one/meadow", 2)]
PAST = (PastScene("one", "city", "a dark city in the rain"), PastScene("one", "meadow", "a red ball on a green meadow"))
RECALLING = [name for name, row in POLICIES.items() if row.settings().recalling]


class Kept:
    """A shelf that keeps entries."""

    def __init__(self) -> None:
        self.entries: dict[int, SceneEntry] = {}

    def wants(self, scene: int) -> bool:
        return True

    def put(self, scene: int, entry: SceneEntry) -> None:
        assert scene not in self.entries
        self.entries[scene] = entry

    def state(self) -> Nest:
        return list(self.entries)

    def restore(self, state: Nest) -> None:
        assert state == list(self.entries)


def left_by(name: str) -> dict[int, SceneEntry]:
    """What the scenes of a first film leave."""
    timeline, shelf = story(FIRST), Kept()
    policy = policy_for(name, timeline)
    run(name, timeline, policy=policy, shelf=shelf)
    return shelf.entries


def second() -> Timeline:
    return replace(story(SECOND), past=PAST)


@pytest.mark.parametrize("name", POLICIES)
def test_every_scene_leaves_its_first_frames_and_the_one_folded_from_them(name: str) -> None:
    entries = left_by(name)
    assert [entries[scene].count(FRAMES) for scene in range(3)] == [KEYFRAMES, 3, 6]
    frame = (SPEC.depth, 1, GRID.tokens, SPEC.heads, SPEC.head_dim)
    for entry in entries.values():
        assert entry.count(RECALL) == 1 and [part.shape for part in entry.frame(RECALL)] == [frame] * 2
        assert all(tensor.device.type == "cpu" for part in entry.parts.values() for tensor in part)


def test_a_scene_leaves_what_its_own_film_recalls() -> None:
    timeline, shelf = story(FIRST), Kept()
    policy = policy_for("echo-forcing", timeline)
    kept = {}
    close = EchoForcingMemory.close_scene

    def closing(memory: EchoForcingMemory, block: Block) -> None:
        close(memory, block)
        if block.scene == 0:
            kept[0] = [part.clone() for part in memory.library.get(Keepsake("recall", 0))]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EchoForcingMemory, "close_scene", closing)
        run("echo-forcing", timeline, policy=policy, shelf=shelf)
    for mine, left in zip(kept[0], shelf.entries[0].frame(RECALL), strict=True):
        torch.testing.assert_close(mine, left)


@pytest.mark.parametrize("name", ["echo-forcing", "scene-queries", "recache"])
def test_a_film_is_the_same_whether_it_is_recorded_or_not(name: str) -> None:
    timeline = story(FIRST)
    policy = policy_for(name, timeline)
    recorded = run(name, timeline, policy=policy, shelf=Kept())
    for one, other in zip(run(name, timeline), recorded, strict=True):
        assert torch.equal(one.latents, other.latents) and one.layout.current == other.layout.current


@pytest.mark.parametrize("made", ["window", "echo-forcing", "scene-queries"])
@pytest.mark.parametrize("name", RECALLING)
def test_a_scene_made_under_one_policy_is_recalled_under_another(name: str, made: str) -> None:
    entry, timeline = left_by(made)[0], second()
    results = run(name, timeline, past={-1: entry})
    opened = [result.transition for result in results if result.transition]
    assert [transition.source_scene for transition in opened if transition.kind is Kind.RECALL] == [-1, -1]
    blank = replace(entry, parts={part: (keys * 0, values * 0) for part, (keys, values) in entry.parts.items()})
    without = run(name, timeline, past={-1: blank})
    same = [torch.equal(one.latents, other.latents) for one, other in zip(results, without, strict=True)]
    assert same[:3] == [True] * 3 and not any(same[3:6])
    assert all(result.latents.isfinite().all() for result in results)


@pytest.mark.parametrize("name", RECALLING)
def test_an_interrupted_film_needs_no_other_film_and_leaves_the_same(name: str) -> None:
    entry, timeline = left_by("echo-forcing")[0], second()

    def loop(begun: Begun | None, shelf: Kept):
        policy = policy_for(name, timeline)
        return rollout(timeline, model(), prompts_for(timeline), policy, KeyedNoise(1, timeline.scenes), GRID,
                       begun=begun, past={} if begun else {-1: entry}, shelf=shelf)

    whole, shelf = [], Kept()
    for result in loop(None, shelf):
        whole.append(result.latents)
        if result.block.index == 4:
            tensors, plain = pack(result.state())
            state = unpack({at: tensor.clone() for at, tensor in tensors.items()}, json.loads(json.dumps(plain)))
            part = Kept()
            part.entries = dict(shelf.entries)
    rest = [result.latents for result in loop(Begun(5, state), part)]
    assert all(torch.equal(one, other) for one, other in zip(whole[5:], rest, strict=True))
    for scene, left in shelf.entries.items():
        for name_of, tensors in left.parts.items():
            assert all(torch.equal(*pair) for pair in zip(tensors, part.entries[scene].parts[name_of], strict=True))
        assert all(torch.equal(*pair) for pair in zip(left.calibration, part.entries[scene].calibration, strict=True))


def test_a_policy_that_recalls_and_knows_no_other_films_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EchoForcingMemory, "take_in", Memory.take_in)
    with pytest.raises(UsageError, match="'echo-forcing' .*cannot recall scenes of other films"):
        run("echo-forcing", second(), past={-1: left_by("window")[0]})
