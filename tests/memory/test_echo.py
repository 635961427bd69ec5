"""A recalled scene resumes: its first frames stand again as they were, and everything goes on from them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from echo_cli.errors import UsageError
from echo_cli.layout import Role
from echo_cli.memory import scoring
from echo_cli.memory.policies.echo import EchoMemory
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Block, Kind, Timeline
from tests.small import GRID, SPEC, memories, model, policy_for, prompts_for, run, story

LEFT = [(None, None, 3), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "scene0", 9)]


def film(timeline: Timeline, number: Callable[[Block], int], prompt: Callable[[int], int]) -> list[Tensor]:
    """The latents of each block; noise by a block's `number`, text by a scene's `prompt`."""
    rows = prompts_for(timeline)

    def noise(block: Block, step: int, shape) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(97 * number(block) + step))

    made = rollout(timeline, model(), [rows[prompt(scene)] for scene in range(len(rows))],
                   policy_for("echo", timeline), noise, GRID)
    return [result.latents for result in made]


def anchors(result: BlockResult) -> list[int | None]:
    return [frame for segment in result.layout.of(Role.ANCHOR) for frame in segment.frames]


def test_a_recalled_scene_begins_with_its_first_frames_in_order_and_at_full_weight() -> None:
    opened = run("echo", story(LEFT))[5]
    assert opened.transition.source == "keyframes" and opened.transition.carried == 6
    segment, block = opened.layout.segments
    assert (segment.role, segment.scene, segment.frames) == (Role.ANCHOR, 0, tuple(range(6)))
    assert segment.fades == (None,) * 6 and segment.expires is None and block.position == 6


def test_a_resumed_scene_goes_on_as_if_it_had_never_been_left() -> None:
    """With the prompt and the noise that the scene would have had, its blocks are the same to the last bit."""
    stayed = film(story([(None, None, 11)]), lambda block: block.index, lambda scene: 0)
    left = film(story(LEFT), lambda block: block.index - 3 if block.scene == 2 else block.index + 50 * block.scene,
                lambda scene: 0 if scene == 2 else scene)
    assert all(torch.equal(one, other) for one, other in zip(stayed[2:], left[5:], strict=True))


def test_a_hard_cut_carries_nothing() -> None:
    opened = run("echo", story(LEFT))[3]
    assert not opened.layout.past and opened.transition.source is None and opened.layout.jump == 0


def test_keyframes_are_kept_until_the_last_recall_and_can_be_handed_on() -> None:
    timeline = story([(None, None, 1), (Kind.HARD_CUT, None, 4), (Kind.RECALL, "scene0", 2), (Kind.RECALL, "scene1", 2),
                      (Kind.RECALL, "scene0", 1), (Kind.RECALL, "scene2", 1)])
    policy = policy_for("echo", timeline)
    kept = memories(policy)
    opened = {result.block.scene: result for result in run("echo", timeline, policy=policy) if result.block.opens}
    frames = list(range(3))
    assert anchors(opened[2]) == frames  # a scene shorter than its keyframes resumes from all it has
    assert anchors(opened[3]) == list(range(3, 9)) and anchors(opened[4]) == frames
    assert anchors(opened[5]) == [*frames, 15, 16, 17]  # its own first frames are those that it resumed from
    memory, = kept
    assert isinstance(memory, EchoMemory) and not memory.kept and not memory.keyframes.state()["kept"]


def test_a_scene_may_recall_otherwise() -> None:
    settings = {"recall": {"source": "recall", "clear_after": 2}}
    opened = run("echo", story(LEFT), settings)[5]
    assert opened.transition.source == "recall" and opened.layout.segments[0].role is Role.TRANSITION


def test_a_window_that_fills_unevenly_goes_on_too() -> None:
    made = run("echo", story([(None, None, 9), (Kind.SMOOTH, None, 9), (Kind.RECALL, "scene1", 9)]),
               {"smooth": {"clear_after": 0, "recent_frames": 1}})
    assert anchors(made[18]) == list(range(27, 33)) and all(result.finite.read() for result in made)


@pytest.mark.parametrize(("settings", "told"), [
    ({"keyframes": 4}, "4 keyframes are not whole blocks"), ({"keyframes": 21}, "21 keyframes"),
    ({"smooth": {"source": "keyframes"}}, "scene 'scene1' cannot begin with keyframes"),
    ({"recall_strength": 1.5}, "must be a number of at least 0 and at most 1"),
    ({"library": 1}, "needs 2 scenes in the library at once")])
def test_what_cannot_be_is_refused(settings: dict, told: str) -> None:
    timeline = story([(None, None, 2), (Kind.SMOOTH, None, 2), (Kind.RECALL, "scene0", 1), (Kind.RECALL, "scene1", 1)])
    with pytest.raises(UsageError, match=told):
        policy_for("echo", timeline, settings)


def test_only_echo_brings_keyframes_back() -> None:
    with pytest.raises(UsageError, match="cannot begin with keyframes"):
        policy_for("echo-forcing", story(LEFT), {"recall": {"source": "keyframes"}})


def test_it_holds_little_more_than_echo_forcing() -> None:
    timeline = story([(None, None, 3), (Kind.HARD_CUT, None, 3), (Kind.RECALL, "scene0", 3),
                      (Kind.RECALL, "scene1", 3)])
    noise = KeyedNoise(1, timeline.scenes)
    held = {name: next(rollout(timeline, model(), prompts_for(timeline), policy_for(name, timeline), noise, GRID)).bytes
            for name in ("echo", "echo-forcing")}
    assert held["echo"] < 4 / 3 * held["echo-forcing"] and SPEC.window == 21


def test_a_recall_of_a_place_that_has_not_been_seen_begins_with_a_hard_cut() -> None:
    scenes = [(None, None, 2), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "auto", 2)]  # the third prompt is like the first
    opened = run("echo", story(scenes), {"least_similarity": 0.99})[4]
    assert opened.transition.kind is Kind.HARD_CUT and not opened.layout.past
    assert opened.transition.recall.refused and opened.transition.recall.similarity < 0.99
    told = run("echo", story(scenes), {"least_similarity": 0.0})[4].transition
    assert told.kind is Kind.RECALL and not told.recall.refused and told.source == "keyframes"


def test_keyframes_may_wait_in_eight_bits_and_the_scene_goes_on_nearly_as_it_would() -> None:
    whole, eight = (torch.cat([result.latents for result in run("echo", story(LEFT), {"eight_bits": bits})[5:]])
                    for bits in (False, True))
    apart = (whole - eight).abs().mean() / whole.abs().mean()
    assert 0 < apart < 0.02


def test_a_smooth_change_keeps_the_first_frame_and_the_last_until_the_new_scene_fills_the_window() -> None:
    made = run("echo", story([(None, None, 5), (Kind.SMOOTH, None, 6), (Kind.SMOOTH, None, 2)]))
    carried = [list(block.layout.of(Role.TRANSITION)) for block in made]
    counts = [sum(len(segment.frames) for segment in segments) for segments in carried]
    assert counts == [0] * 5 + [9] * 4 + [0] * 2 + [9] * 2
    frames = [frame for segment in carried[5] for frame in segment.frames]
    assert frames == [None, *range(7, 15)] and all(fade is None or made[5].facts.weights.read()[fade] == [1.0] * 3
                                                   for segment in carried[5] for fade in segment.fades)


def replaced(strength: float) -> tuple[list[BlockResult], list[float]]:
    made = run("echo", story(LEFT), {"recall_strength": strength})
    told = made[5].facts.decay_map
    return made, told.read() if told else []


def test_a_weaker_recall_gives_the_cells_that_disagree_to_the_new_scene() -> None:
    whole, half = replaced(1.0), replaced(0.0)
    assert not whole[1] and sorted(half[1]) == [0.0] * 3 + [1.0] * 3, "of six cells in a frame, three are replaced"
    assert torch.equal(whole[0][5].latents, half[0][5].latents), "they are compared when the first block is finished"
    assert not torch.equal(whole[0][6].latents, half[0][6].latents)
    assert anchors(half[0][6])[:6] == anchors(whole[0][6])[:6] == list(range(6))
    assert len([rate for rate in replaced(0.66)[1] if not rate]) == 1


def test_the_cells_that_disagree_the_most_are_found() -> None:
    old = torch.randn(2, 1, 6, 2, 4)
    new = old.clone()
    new[:, :, 4] *= -1
    assert scoring.disagreeing(new, [old, old], 1)[0, 0, :, 0, 0].tolist() == [False] * 4 + [True, False]


@pytest.mark.parametrize("name", ["echo-forcing", "scene-queries"])
def test_others_refuse_when_they_are_asked_to(name: str) -> None:
    scenes = [(None, None, 2), (Kind.HARD_CUT, None, 2), (Kind.RECALL, "auto", 2)]
    assert run(name, story(scenes))[4].transition.kind is Kind.RECALL
    assert run(name, story(scenes), {"least_similarity": 0.99})[4].transition.kind is Kind.HARD_CUT
