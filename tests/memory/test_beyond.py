"""Settings beyond the release: off by default, and each does what it says."""

import itertools

import pytest
import torch
from torch import Tensor

from echo_cli.context import BlockContext
from echo_cli.layout import Layout, Role, Segment
from echo_cli.memory import scoring
from echo_cli.memory.policies.echo_forcing import EchoForcingMemory
from echo_cli.memory.settings import EchoForcingSettings
from echo_cli.memory.store import KVStore, Placement
from echo_cli.models.layers import attend
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.rope import RopeTable, rotate
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Block, Kind
from tests.small import GRID, SPEC, memories, model, policy_for, prompts_for, run, story

LONG = [(None, None, 10)]


def test_all_are_off_by_default() -> None:
    settings = EchoForcingSettings()
    assert settings.forgetting == "scale"
    assert not any((settings.gate_on_clean, settings.true_places, settings.nearest_anchor, settings.jump_by_gap,
                    settings.candidates_from_whole_scene, settings.no_duplicates))


def chosen_with_other_noise(settings: dict) -> tuple[list, list, list, list]:
    """What block 8 chooses and its gates, under two draws of that block's own noise."""
    out = []
    for other in (False, True):
        timeline = story(LONG)
        keyed = KeyedNoise(1, timeline.scenes)

        def noise(block: Block, step: int, shape, keyed: KeyedNoise = keyed, other: bool = other) -> Tensor:
            return keyed(block, step, shape) * (-1 if other and block.index == 8 else 1)

        results = list(
            rollout(
                timeline, model(), prompts_for(timeline), policy_for("echo-forcing", timeline, settings), noise, GRID
            )
        )
        out += [results[8].facts.gate.read(), results[8].facts.chosen.read()]
    return out[0], out[2], out[1], out[3]


def test_the_gate_on_clean_queries_does_not_see_the_noise() -> None:
    gate, other, chosen, other_chosen = chosen_with_other_noise({"gate_on_clean": True})
    assert gate == other and chosen == other_chosen
    gate, other, *_ = chosen_with_other_noise({})
    assert gate != other


def test_the_gate_on_clean_queries_is_that_of_the_last_clean_pass() -> None:
    timeline = story(LONG)
    policy = policy_for("echo-forcing", timeline, {"gate_on_clean": True})
    before, kept = None, memories(policy)
    for result in rollout(timeline, model(), prompts_for(timeline), policy, KeyedNoise(1, timeline.scenes), GRID):
        if result.facts.gate is not None:
            _, wanted = scoring.drift_gate(before, kept[0].history.query_sum / kept[0].history.tokens, 3.0)
            assert result.facts.gate.read() == pytest.approx(wanted[:, 0].tolist(), abs=1e-6)
        before = kept[0].history.clean_query.clone()


def chosen_keys(settings: dict) -> tuple[Tensor, Tensor, Tensor, RopeTable]:
    """From the first roll: what attention saw in layer 0's history, the raw history, and the chosen tokens."""
    timeline = story(LONG)
    policy = policy_for("echo-forcing", timeline, settings)
    seen: dict[str, Tensor] = {}
    look = EchoForcingMemory.look

    def watched(memory: EchoForcingMemory, block: Block, context: BlockContext):
        choose, store = look(memory, block, context), memory.store
        if choose is None or seen:
            return choose
        raw = torch.cat([store.keys[0, 0, held.slot] for held in memory.history.frames], 0)  # [token, head, dim]

        def chosen(layer: int, *qkv: Tensor) -> None:
            choose(layer, *qkv)
            if layer == 0:
                start = 12 * GRID.tokens
                seen.update(raw=raw, shown=context.keys[0, 0, start:start + 3 * GRID.tokens].clone(), rope=store.rope)

        return chosen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EchoForcingMemory, "look", watched)
        results = list(rollout(timeline, model(), prompts_for(timeline), policy, KeyedNoise(1, timeline.scenes), GRID))
    first = next(result for result in results if result.facts.chosen is not None)
    return seen["shown"], seen["raw"], torch.tensor(first.facts.chosen.read())[0], seen["rope"]


@pytest.mark.parametrize("true_places", [False, True])
def test_true_places_turn_a_token_by_its_own_row_and_column(true_places: bool) -> None:
    shown, raw, chosen, rope = chosen_keys({"true_places": true_places})
    tokens = GRID.tokens
    for place, source in enumerate(chosen.tolist()):
        slot_position, own = 12 + place // tokens, source % tokens if true_places else place % tokens
        rotation = torch.cat((rope.temporal[slot_position], rope.spatial[own]))
        torch.testing.assert_close(shown[place], rotate(raw[source][None], rotation[None])[0], atol=1e-5, rtol=1e-4)


def outputs_at_weight(suppress: bool, weight: float) -> tuple[Tensor, Tensor]:
    """Attention over two remembered frames, the first of which is worth `weight`; and over the second alone."""
    torch.manual_seed(3)
    store = KVStore(SPEC, Placement(GRID), slots=5, window=21, fades=1, suppress=suppress)
    slots = store.take(5)
    shape = (SPEC.depth, 1, 2 * GRID.tokens, SPEC.heads, SPEC.head_dim)
    store.write(slots[:2], torch.randn(shape), torch.randn(shape))
    store.fade(slice(0, 1), weight)
    query, key, value = (torch.randn(1, 3 * GRID.tokens, SPEC.heads, SPEC.head_dim) for _ in range(3))
    outputs = []
    for kept in (slice(0, 2), slice(1, 2)):
        held = slots[:2][kept]
        past = Segment(
            Role.TRANSITION, 0, (0,) * len(held), len(held) * GRID.tokens, kept.start, None, held, (0, None)[kept]
        )
        current = Segment(Role.CURRENT, 1, (2, 3, 4), 3 * GRID.tokens, 2, None, slots[2:], (None,) * 3)
        outputs.append(attend(*store.prepare(Layout((past, current), 2)).extend(0, query, key, value)))
    return outputs[0], outputs[1]


def test_suppression_gives_a_forgotten_tokens_share_to_the_others() -> None:
    with_it, without = outputs_at_weight(True, 1e-9)
    torch.testing.assert_close(with_it, without, atol=1e-5, rtol=1e-4)
    # the release: the forgotten token keeps its share, and shrinks the rest
    scaled, without = outputs_at_weight(False, 1e-9)
    assert (scaled - without).abs().max() > 1e-2
    whole, _ = outputs_at_weight(True, 1.0)
    torch.testing.assert_close(whole, outputs_at_weight(False, 1.0)[0], atol=1e-6, rtol=1e-5)


def test_the_nearest_anchor_is_the_scene_before() -> None:
    chain = story([(None, None, 2), (Kind.SMOOTH, None, 2), (Kind.SMOOTH, None, 2), (Kind.SMOOTH, None, 1)])

    def anchors(settings: dict) -> list[int]:
        return [result.transition.source_scene for result in run("echo-forcing", chain, settings)
                if result.block.opens and result.block.scene]

    assert anchors({}) == [0, 0, 0]
    assert anchors({"nearest_anchor": True}) == [0, 1, 2]


def test_a_hard_cut_begins_a_new_chain() -> None:
    chain = story([(None, None, 2), (Kind.HARD_CUT, None, 2), (Kind.SMOOTH, None, 2), (Kind.SMOOTH, None, 1)])
    sources = [result.transition.source_scene for result in run("echo-forcing", chain) if result.block.opens][1:]
    assert sources == [0, 1, 1]


def test_a_jump_by_the_chosen_gap() -> None:
    timeline = story([(None, None, 1), (Kind.HARD_CUT, None, 1), (Kind.HARD_CUT, None, 1), (Kind.HARD_CUT, None, 1),
                      (Kind.RECALL, "scene0", 1), (Kind.HARD_CUT, None, 1), (Kind.RECALL, "auto", 1)])

    def jumps(settings: dict) -> dict[int, tuple[int, float]]:
        return {result.block.scene: (result.transition.position_jump, result.transition.recall.similarity)
                for result in run("echo-forcing", timeline, settings) if result.transition and result.transition.recall}

    for jump, similarity in jumps({"jump_by_gap": True}).values():
        assert jump == round(6 * (1 - similarity))
    assert jumps({"jump_by_gap": True}) != jumps({})


def candidate_numbers(settings: dict, blocks: int) -> list[int]:
    timeline = story([(None, None, blocks), (Kind.SMOOTH, None, 1)])
    policy = policy_for("echo-forcing", timeline, settings)
    taken: list[int] = []
    close = EchoForcingMemory.close_scene

    def closing(memory: EchoForcingMemory, block: Block) -> None:
        taken.extend(held.frame for held in memory.folding.candidates if not taken or block.scene == 0)
        close(memory, block)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EchoForcingMemory, "close_scene", closing)
        list(rollout(timeline, model(), prompts_for(timeline), policy, KeyedNoise(1, timeline.scenes), GRID))
    return taken


def test_candidates_from_the_whole_scene() -> None:
    assert candidate_numbers({}, 14) == [0, 4, 8]
    spread = candidate_numbers({"candidates_from_whole_scene": True}, 14)
    assert 2 <= len(spread) <= 3 and spread[-1] >= 14 * 3 // 2
    gaps = {after - before for before, after in itertools.pairwise(spread)}
    assert len(gaps) == 1
    assert len(candidate_numbers({"candidates_from_whole_scene": True}, 40)) <= 3


def anchors_among_history(results: list[BlockResult]) -> int:
    return sum(bool({frame for segment in result.layout.of(Role.ANCHOR) for frame in segment.frames}
                    & set(result.facts.history_frames)) for result in results)


def test_history_without_duplicates() -> None:
    timeline = story([(None, None, 12)])
    assert anchors_among_history(run("echo-forcing", timeline)) > 0
    results = run("echo-forcing", timeline, {"no_duplicates": True})
    assert anchors_among_history(results) == 0
    assert all(result.facts.history_frames for result in results[7:])
