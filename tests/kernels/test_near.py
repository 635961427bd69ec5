"""What memory queries absorb by kernels is what they absorb in torch; and the norm of a picture decoder."""

from dataclasses import replace

import pytest
import torch

from echo_cli.kernels import usable
from echo_cli.memory.policies.base import Facts, Held
from echo_cli.memory.policies.echo_infinity import Absorbing
from echo_cli.memory.store import KVStore, Placement
from echo_cli.models.queries import model as queries
from echo_cli.models.queries.model import MemoryQueries, QueryState
from tests.launches import counted
from tests.small import GRID, SPEC

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
READY = usable(DEVICE)

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason="needs Triton, and a GPU or TRITON_INTERPRET=1")]

WIDE = SPEC.grid_of_latents(20, 14)  # more cells than one program reads


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


@pytest.mark.parametrize("near", [2.0, 0.02])
@torch.inference_mode()
def test_kernels_absorb_what_torch_absorbs(near: float, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = MemoryQueries(SPEC, 3).to(DEVICE)
    learned.near.fill_(near)
    learned.gate_out.copy_(drawn(*learned.gate_out.shape, seed=9))
    frame = (WIDE.tokens, SPEC.heads, SPEC.head_dim)
    state = QueryState(*(drawn(SPEC.depth, 1, 3, *frame, seed=seed) for seed in (0, 1)))
    leaving = [drawn(SPEC.depth, 1, 2, *frame, seed=seed) for seed in (2, 3)]
    by_kernels, gate = learned.absorb(state, *leaving, WIDE, first=False)
    monkeypatch.setattr(queries, "usable", lambda device: False)
    plain, plain_gate = learned.absorb(state, *leaving, WIDE, first=False)
    for one, two in zip((*by_kernels, gate), (*plain, plain_gate), strict=True):
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert plain_gate.std() > 0.1


@pytest.mark.parametrize("slots", [[1, 2, 3], [5, 0, 3]], ids=["side by side", "scattered"])
@torch.inference_mode()
def test_queries_are_changed_in_their_slots_and_nothing_else_is(slots: list[int], monkeypatch: pytest.MonkeyPatch
                                                                ) -> None:
    monkeypatch.setattr(queries, "READ_AT_ONCE", 1)  # a layer at a time
    learned, leaving = MemoryQueries(SPEC, 3).to(DEVICE), [6, 4]
    learned.gate_out.copy_(drawn(*learned.gate_out.shape, seed=9))
    pools = [drawn(SPEC.depth, 2, 7, GRID.tokens, SPEC.heads, SPEC.head_dim, seed=seed) for seed in (0, 1)]
    before = [pool.clone() for pool in pools]
    gate = learned.absorb_in_place(*pools, slots, leaving, GRID, first=False)
    monkeypatch.setattr(queries, "usable", lambda device: False)
    state, plain_gate = learned.absorb(QueryState(*(pool[:, :, slots] for pool in before)),
                                       *(pool[:, :, leaving] for pool in before), GRID, first=False)
    torch.testing.assert_close(gate, plain_gate, atol=1e-4, rtol=1e-4)
    others = [slot for slot in range(7) if slot not in slots]
    for pool, wanted, old in zip(pools, state, before, strict=True):
        torch.testing.assert_close(pool[:, :, slots], wanted, atol=1e-4, rtol=1e-4)
        assert torch.equal(pool[:, :, others], old[:, :, others])


@pytest.mark.skipif(DEVICE.type == "cuda", reason="counts with the interpreter")
@torch.inference_mode()
def test_thirty_layers_absorb_in_as_many_launches_as_two() -> None:
    counts = []
    for depth in (2, 30):
        spec = replace(SPEC, depth=depth)
        store = KVStore(spec, Placement(GRID), 12, 9)
        memory = Absorbing(MemoryQueries(spec, 3).requires_grad_(False), 3, "gated", store)
        leaving = [Held(slot, 0, number) for number, slot in enumerate(store.take(3))]
        with counted() as launches:
            memory.absorb(leaving, Facts())
        counts.append(launches.total())
    assert counts[0] == counts[1] < 120
