"""Frames that are kept on the host make the same film, bit for bit, and whoever reads them gets them on the device."""

import pytest
import torch

from echo_cli.memory.policies.base import Held, SlidingMemory
from echo_cli.memory.store import KVStore, Placement
from echo_cli.memory.table import POLICIES
from tests.small import GRID, SHORT, SPEC, policy_for, run, story

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *((name, {}) for name in POLICIES),
        ("echo-forcing", {"true_places": True}),
        ("echo-forcing", {"fold": "token_select", "nearest_anchor": True}),
    ],
)
@torch.inference_mode()
def test_a_film_that_remembers_on_the_host_is_the_same_bits(name: str, settings: dict) -> None:
    timeline = story(SHORT)
    settings = {**settings, "trained": False} if name in ("echo-infinity", "scene-queries") else settings
    for here, there in zip(run(name, timeline, settings), run(name, timeline, settings, home=CPU), strict=True):
        assert torch.equal(here.latents, there.latents) and here.bytes == there.bytes


@pytest.mark.parametrize("home", [None, CPU])
def test_what_is_written_is_what_is_read(home: torch.device | None) -> None:
    store = KVStore(SPEC, Placement(GRID, home=home), 5, 6)
    slots = store.take(3)
    keys, values = torch.randn(2, SPEC.depth, 1, 3 * GRID.tokens, SPEC.heads, SPEC.head_dim)
    store.write(slots, keys, values)
    store.write(slots[1:2], values[0][:, :GRID.tokens], keys[0][:, :GRID.tokens], 0)
    keys, values = (part.unflatten(2, (3, GRID.tokens)).clone() for part in (keys, values))
    keys[0, :, 1], values[0, :, 1] = values[0, :, 0].clone(), keys[0, :, 0].clone()
    assert all(torch.equal(read, wanted) for read, wanted in zip(store.frames(slots), (keys, values), strict=True))
    assert torch.equal(store.key(slots[2]), keys[:, :, 2])
    in_layer = store.layer_frames(1, slots)
    assert torch.equal(in_layer[1], values[1].flatten(1, 2))
    index = torch.tensor([[3, 0, 17]])
    source = torch.tensor(slots)[index // GRID.tokens] * GRID.tokens + index % GRID.tokens
    chosen = store.layer_tokens(1, slots, index, source)
    assert torch.equal(chosen[0], in_layer[0][:, index[0]]) and torch.equal(chosen[1], in_layer[1][:, index[0]])
    kept = store.state()
    other = KVStore(SPEC, Placement(GRID, home=CPU if home is None else None), 5, 6)
    other.restore(kept)
    assert all(torch.equal(one, two) for one, two in zip(store.frames(slots), other.frames(slots), strict=True))
    assert store.frame_bytes == 2 * store.keys.numel() * 4 < store.bytes


@pytest.mark.parametrize("slots", [3, 5, 12])
def test_a_state_fits_a_store_of_another_size(slots: int) -> None:
    """An edited film may need more slots, or fewer; it takes them in the order in which it would have taken its own."""
    def used(count: int) -> KVStore:
        store = KVStore(SPEC, Placement(GRID), count, 6, fades=count)
        store.take(3)
        store.keep([1])
        return store

    state, other = used(8).state(), KVStore(SPEC, Placement(GRID), slots, 6, fades=slots)
    other.restore(state)
    assert other.used == {1} and other.take(slots - 1) == used(slots).take(slots - 1)


def test_frames_that_an_observer_will_write_are_not_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, each block lays out a full window again, except the history that its first pass chooses."""
    laid, lay = [], KVStore._lay
    monkeypatch.setattr(KVStore, "_lay", lambda store, place, *rest: laid.append(place) or lay(store, place, *rest))
    timeline = story([(None, None, 12)])
    with torch.inference_mode():
        run("echo-forcing", timeline)
    policy = policy_for("echo-forcing", timeline)
    history = set(range(policy.settings.anchor_frames, policy.settings.anchor_frames + policy.history_frames))
    per_block = policy.window - policy.block - len(history)
    assert len(laid) >= per_block and not history & set(laid[-per_block:])


def test_frames_are_expected_by_the_next_block_alone() -> None:
    """Also if that block is prepared for gradients, which need a window of their own."""
    memory = SlidingMemory(policy_for("window", story(SHORT)), KVStore(SPEC, Placement(GRID), 8, 9))
    store = memory.store
    block, later = story(SHORT).blocks[:2]
    memory.past = [Held(slot, 0, number) for number, slot in enumerate(store.take(3))]
    store.keys.normal_()
    store.expect([held.slot for held in memory.past])
    with torch.enable_grad():
        store.keys.requires_grad_()
        store.prepare(memory.arrange(block))
        store.keys = store.keys.detach()
    with torch.inference_mode():
        context = store.prepare(memory.layout(memory.past, later, memory.current))
    assert bool(context.keys[:, :, :3 * GRID.tokens].any(-1).all())


@pytest.mark.parametrize("name", POLICIES)
@torch.inference_mode()
def test_a_full_window_is_all_that_the_store_has_room_for(name: str) -> None:
    """Passes are recorded once the window of the store is full, so one that never fills would never be recorded."""
    timeline = story([(None, None, 12)])
    settings = {"trained": False} if name in ("echo-infinity", "scene-queries") else {}
    most = max(result.layout.tokens for result in run(name, timeline, settings))
    memory = policy_for(name, timeline, settings).allocate(Placement(GRID))
    assert memory.store.prepare(memory.arrange(timeline.blocks[0])).keys.shape[2] == most
