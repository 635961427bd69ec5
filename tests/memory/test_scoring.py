import json
import math
from pathlib import Path

import pytest
import torch

from echo_cli.memory import scoring
from echo_cli.rope import frequencies
from tests.small import SPEC

HEADS, DIM = SPEC.heads, SPEC.head_dim


def test_phase_scores_are_the_mean_of_cosines() -> None:
    """The linear form equals the sum it stands for, term by term: Σ |μ||K| cos(ωΔ + arg μK̄), mean over offsets and
    heads."""
    key, query = torch.randn(5, HEADS, DIM), torch.randn(HEADS, DIM)
    mean = scoring.complex_pairs(query)
    phases = scoring.phase_table(SPEC, 21, torch.device("cpu"))
    age = 7
    linear = (key.flatten(1) @ scoring.expectation(mean, phases)[age - 1]) / HEADS

    pairs, time = scoring.complex_pairs(key), SPEC.pairs[0]
    omega = torch.cat((frequencies(time), torch.zeros(DIM // 2 - time))).float()
    explicit = torch.zeros(5)
    for offset in (1, 2, 4, 8, 16):
        angle = omega * (age + offset) + torch.angle(mean * pairs.conj())
        explicit += (mean.abs() * pairs.abs() * torch.cos(angle)).sum(-1).mean(-1) / 5
    torch.testing.assert_close(linear, explicit, atol=1e-5, rtol=1e-5)


def test_loudness_is_what_the_mean_query_hides() -> None:
    key, mean, absolute = (
        torch.randn(5, HEADS, DIM),
        torch.randn(HEADS, DIM // 2) * (1 + 0j),
        torch.rand(HEADS, DIM // 2) + 5,
    )
    explicit = ((absolute - mean.abs()) * scoring.complex_pairs(key).abs()).sum(-1).mean(-1)
    torch.testing.assert_close(scoring.loudness(key, mean, absolute), explicit)
    assert scoring.loudness(key, mean, mean.abs()).abs().max() == 0


def test_the_best_come_in_order_of_index_and_overused_ones_never() -> None:
    scores = torch.tensor([[5.0, -torch.inf, 9.0, 1.0, -torch.inf, 7.0]])
    index, valid = scoring.best(scores, 3)
    assert index.tolist() == [[0, 2, 5]] and valid.all()
    index, valid = scoring.best(scores, 6)
    assert valid.tolist() == [[True] * 4 + [False] * 2] and index[0, :4].tolist() == [0, 2, 3, 5]
    index, valid = scoring.best(scores, 9)  # more places than tokens
    assert valid.sum() == 4 and index.shape == (1, 9)


def test_a_gate_opens_for_familiar_queries_alone() -> None:
    query = torch.randn(1, HEADS, DIM)
    similarity, gate = scoring.drift_gate(query, query * 3, 3.0)
    assert similarity.item() == pytest.approx(1) and gate.item() == pytest.approx(1)
    _, against = scoring.drift_gate(query, -query, 3.0)
    assert against.item() == pytest.approx(math.exp(-6))


def test_tokens_that_disagree_fade_faster() -> None:
    new = torch.randn(1, 6, HEADS, DIM)
    old = new.clone()
    old[:, 2] = -new[:, 2]
    rates = scoring.difference_rates(new, old, 0.8, 0.95)
    assert rates[0, 2].item() == pytest.approx(0.8)
    assert rates[0, [0, 1, 3, 4, 5]].tolist() == pytest.approx([0.95] * 5)
    assert scoring.difference_rates(new, new, 0.8, 0.95).tolist()[0] == pytest.approx([0.95] * 6)


def test_folding() -> None:
    keys, values, query = torch.randn(2, 3, 6, HEADS, DIM), torch.randn(2, 3, 6, HEADS, DIM), torch.randn(2, HEADS, DIM)
    folded, _, shares = scoring.fold(keys, values, query, 0.9, weighted=True)
    torch.testing.assert_close(shares.sum(1), torch.ones(2, 6))
    torch.testing.assert_close(folded, torch.einsum("bft,bfthd->bthd", shares, keys))
    share = torch.einsum("bfthd,bhd->bft", keys, query).div(HEADS).softmax(1)
    torch.testing.assert_close(folded, 0.9 * keys[:, 0] + 0.1 * torch.einsum("bft,bfthd->bthd", share, keys))
    picked, picked_values, shares = scoring.fold(keys, values, query, 0.9, weighted=False)
    winner = share.argmax(1)
    assert torch.equal(shares.argmax(1), winner) and shares.sum() == 12
    for token in range(6):
        assert torch.equal(picked[0, token], keys[0, winner[0, token], token])
        assert torch.equal(picked_values[1, token], values[1, winner[1, token], token])
    one, _, _ = scoring.fold(keys[:, :1], values[:, :1], query, 0.9, weighted=True)
    assert torch.equal(one, keys[:, 0])


VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "rope_jump_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=range(len(VECTORS)))
def test_golden_position_jumps(vector: dict) -> None:
    assert (
        scoring.position_jump(vector["similarity"], vector["pool"], vector["min_value"], vector["max_value"])
        == vector["jump"]
    )


def test_a_jump_by_gap_is_its_own_measure() -> None:
    assert scoring.gap_jump(1.0, 0, 6) == 0
    assert scoring.gap_jump(0.0, 0, 6) == 6
    assert scoring.gap_jump(0.5, 0, 6) == 3
    assert scoring.gap_jump(-0.7, 0, 6) == 6
