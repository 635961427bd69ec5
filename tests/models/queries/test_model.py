"""Memory queries by themselves: they read what leaves, near its place, at a cost that never grows."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from echo_cli.errors import MissingError
from echo_cli.models.queries import model as module
from echo_cli.models.queries.files import made_for, queries_path
from echo_cli.models.queries.model import MemoryQueries, QueryState
from echo_cli.models.queries.weights import load_queries, save_queries
from echo_cli.spec import WAN_1_3B, Grid, ModelSpec
from tests.small import GRID, SPEC


def frames(
    count: int = 3, batch: int = 2, grid: Grid = GRID, spec: ModelSpec = SPEC, seed: int = 0
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (spec.depth, batch, count, grid.tokens, spec.heads, spec.head_dim)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def absorbed(queries: MemoryQueries, times: int, grid: Grid = GRID) -> QueryState:
    state = queries.start(2, grid.tokens)
    for number in range(times):
        state, _ = queries.absorb(state, *frames(grid=grid, seed=number), grid, first=number == 0)
    return state


def test_what_is_held_never_grows_and_stays_finite() -> None:
    queries = MemoryQueries(SPEC, 3)
    first, late = absorbed(queries, 1), absorbed(queries, 60)
    assert [part.shape for part in first] == [part.shape for part in late] == [(2, 2, 3, GRID.tokens, 2, 24)] * 2
    assert all(part.isfinite().all() for part in late)
    # Keys keep the length of keys, however many were mixed.
    real = frames()[0].norm(dim=-1).mean()
    assert 0.7 < late.keys.norm(dim=-1).mean() / real < 1.3


def test_a_query_reads_its_own_cell_first() -> None:
    """Values that name their cell come back at that cell, though every key is the same."""
    queries = MemoryQueries(SPEC, 2)
    keys, values = frames()
    keys = keys[:, :, :1, :1].expand_as(keys)
    values = torch.arange(float(GRID.tokens))[:, None, None].expand_as(values)
    state, _ = queries.absorb(queries.start(2, GRID.tokens), keys, values, GRID, True, gated=False)
    rows = state.values.mean((0, 1, 2, 4, 5)).unflatten(0, (GRID.rows, GRID.cols))
    cells = torch.arange(float(GRID.tokens)).unflatten(0, (GRID.rows, GRID.cols))
    assert (rows.diff(dim=0) > 0).all() and (rows.diff(dim=1) > 0).all()
    assert ((rows - cells).abs() < GRID.cols).all()
    torch.nn.init.zeros_(queries.near)  # without the pull of the place there is none
    state, _ = queries.absorb(queries.start(2, GRID.tokens), keys, values, GRID, True, gated=False)
    torch.testing.assert_close(state.values.mean((0, 1, 2, 4, 5)), torch.full((GRID.tokens,), (GRID.tokens - 1) / 2))


def test_the_gate_decides_how_much_is_taken() -> None:
    queries, (keys, values) = MemoryQueries(SPEC, 2), frames()
    before = queries.start(2, GRID.tokens)
    open_, _ = queries.absorb(before, keys, values, GRID, False, gated=False)
    for bias, wanted in ((-30.0, before), (30.0, open_)):
        torch.nn.init.constant_(queries.gate_bias, bias)
        after, gate = queries.absorb(before, keys, values, GRID, False)
        assert ((gate > 0.999) if bias > 0 else (gate < 0.001)).all()
        torch.testing.assert_close(after.values, wanted.values)
        torch.testing.assert_close(after.keys, wanted.keys, atol=1e-4, rtol=1e-4)


def test_each_place_that_is_met_keeps_a_query_frame_of_its_own() -> None:
    """Before anything is learned: a frame that is spare takes the new place, one that is not keeps what it has."""
    queries, places = MemoryQueries(SPEC, 5), [frames(seed=seed) for seed in range(3)]
    state = queries.start(2, GRID.tokens)
    for number, seed in enumerate((0, 1, 1, 2, 2, 2)):
        state, _ = queries.absorb(state, *places[seed], GRID, number == 0)
    held = state.values.flatten(-2)
    read = torch.stack([queries.absorb(state, *place, GRID, False, gated=False)[0].values for place in places]).flatten(
        -2
    )
    alike = torch.cosine_similarity(held, read, -1).mean((1, 2, 4))  # [place, frame]
    assert alike.argmax(0).tolist() == [0, 1, 2, 2, 2]
    assert alike.amax(0).min() > 0.7


def test_members_of_a_batch_and_layers_are_apart() -> None:
    queries, (keys, values) = MemoryQueries(SPEC, 2), frames()
    one, _ = queries.absorb(queries.start(2, GRID.tokens), keys, values, GRID, True)
    keys[1, 1] += 1.0
    values[1, 1] -= 1.0
    two, _ = queries.absorb(queries.start(2, GRID.tokens), keys, values, GRID, True)
    same = (one.values == two.values).flatten(2).all(-1)
    assert same.tolist() == [[True, True], [True, False]]


def test_gradients_reach_everything_that_is_learned() -> None:
    queries = MemoryQueries(SPEC, 3)
    torch.nn.init.normal_(queries.gate_out)
    state = absorbed(queries, 3)
    (state.keys.square().sum() + state.values.sin().sum()).backward()
    assert {name for name, p in queries.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0} == set()


def test_a_large_model_is_worked_on_layer_by_layer_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    queries = MemoryQueries(SPEC, 2)
    whole = absorbed(queries, 2)
    monkeypatch.setattr(module, "AT_ONCE", 1)
    monkeypatch.setattr(module, "SCORES_AT_ONCE", 1)
    for one, other in zip(whole, absorbed(queries, 2), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_any_compression_and_any_picture_size(count: int) -> None:
    queries, wide = MemoryQueries(SPEC, count), SPEC.grid_of_latents(6, 10)
    assert absorbed(queries, 2, wide).keys.shape[2:4] == (count, wide.tokens)
    half = QueryState(*(part[:, :, :1] for part in queries.start(2, GRID.tokens)))
    state, gate = queries.absorb(half, *frames(), GRID, True)
    assert state.keys.shape[2] == gate.shape[2] == 1


# The real size, as far as it can be had here: random queries, few layers.
REAL = replace(WAN_1_3B, depth=2)


def test_queries_of_the_real_size_are_saved_and_loaded_by_name(tmp_path: Path) -> None:
    queries = MemoryQueries(REAL, 3)
    for p in queries.parameters():
        torch.nn.init.normal_(p, std=0.02)
    save_queries(tmp_path, queries, "abc", {"seed": 1}, torch.float32)
    loaded = load_queries(tmp_path, REAL)
    assert made_for(queries_path(tmp_path)) == "abc" and not any(p.requires_grad for p in loaded.parameters())
    assert list(loaded.state_dict()) == list(queries.state_dict()) and loaded.frames == 3
    assert all(torch.equal(value, queries.state_dict()[name]) for name, value in loaded.state_dict().items())
    grid = REAL.grid((64, 32))
    given = frames(3, 1, grid, REAL)
    for one, other in zip(queries.absorb(queries.start(1, grid.tokens), *given, grid, True)[0],
                          loaded.absorb(loaded.start(1, grid.tokens), *given, grid, True)[0], strict=True):
        assert torch.equal(one, other) and one.shape == (2, 1, 3, grid.tokens, 12, 128)


def test_queries_of_another_model_are_refused_by_name(tmp_path: Path) -> None:
    save_queries(tmp_path, MemoryQueries(SPEC, 2), "abc", {})
    with pytest.raises(MissingError, match="another shape: keys") as caught:
        load_queries(tmp_path, REAL)
    assert "gate_in" in str(caught.value)
    with pytest.raises(MissingError, match="no such weights file"):
        load_queries(tmp_path / "nowhere", REAL)
    assert made_for(tmp_path / "nowhere") is None
    queries_path(tmp_path).write_bytes(b"not weights")
    assert made_for(queries_path(tmp_path)) is None
    with pytest.raises(MissingError, match="damaged"):
        load_queries(tmp_path, SPEC)
