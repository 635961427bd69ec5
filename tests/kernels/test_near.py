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


def plainly_read(held: torch.Tensor, ask: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, near: torch.Tensor,
                 columns: int) -> list[torch.Tensor]:
    """What `near_read` describes, in float32, with a table of distances."""
    cells, count = torch.arange(held.shape[3], device=held.device), keys.shape[2]
    place = torch.stack((cells // columns, cells % columns), -1).float()
    apart = (place[:, None] - place[None]).square().sum(-1).repeat(1, count)
    asked = torch.einsum("lbfchd,lhde->lbfche", held.float(), ask.float()).to(held.dtype).float()
    long, value = keys.float().flatten(2, 3), values.float().flatten(2, 3)
    score = torch.einsum("lbfchd,lbkhd->lbfhck", asked, long) - near.abs()[:, None, None, :, None, None] * apart
    share = score.softmax(-1)
    key, read = (torch.einsum("lbfhck,lbkhd->lbfchd", share, each) for each in (long, value))
    length = torch.einsum("lbfhck,lbkh->lbfch", share, long.norm(dim=-1))[..., None]
    return [key * length / key.norm(dim=-1, keepdim=True), read]


@pytest.mark.parametrize(("dtype", "dim", "close"), [
    (torch.float32, 16, 1e-4),
    pytest.param(torch.bfloat16, 128, 2e-2, marks=pytest.mark.skipif(
        DEVICE.type != "cuda", reason="the interpreter multiplies the bits of bfloat16 as whole numbers"))], ids=str)
@pytest.mark.parametrize("penalty", [2.0, 0.02])
@torch.inference_mode()
def test_queries_read_what_the_formula_says(dtype: torch.dtype, dim: int, close: float, penalty: float) -> None:
    from echo_cli.kernels.near import Slots, near_read

    layers, batch, heads, rows, columns = 2, 1, 2, 13, 10  # the last patches and tiles are not whole
    frames = [drawn(layers, batch, count, rows * columns, heads, dim, seed=count).to(dtype) for count in (2, 3)]
    values, ask = frames[1].flip(3), (drawn(layers, heads, dim, dim, seed=7) / dim).to(dtype)
    near = torch.full((layers, heads), penalty, device=DEVICE)
    held, keys = map(Slots.of, frames)
    made = near_read(held, ask, keys, Slots(values.contiguous(), keys.slots), near, columns)
    for one, two in zip(made, plainly_read(frames[0], ask, frames[1], values, near, columns), strict=True):
        assert one.dtype is dtype
        torch.testing.assert_close(one.float(), two, atol=close, rtol=close)


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
