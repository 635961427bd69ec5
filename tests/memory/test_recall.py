from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from echo_cli.memory.recall import Keepsake, SceneLibrary, most_at_once
from echo_cli.memory.store import KVStore, Placement
from tests.small import GRID, SPEC, run, story


def keepsake(scene: int, kind: str = "recall") -> Keepsake:
    return Keepsake(kind, scene)


def store(dtype: torch.dtype = torch.float32) -> KVStore:
    """Of frames [2, 1, 6, 2, 6]."""
    return KVStore(replace(SPEC, width=12), Placement(GRID, dtype=dtype), 1, 1)


@pytest.mark.parametrize(("last", "wanted"), [
    ({}, 0),
    ({keepsake(0): 5, keepsake(1): 2, keepsake(2): 3}, 2),  # 1 is given back as 2 opens, before 2 ends
    ({keepsake(0): 9, keepsake(1): 9, keepsake(2): 9}, 3),
    ({keepsake(0): 1, keepsake(0, "select"): 1}, 2),
])
def test_how_many_live_at_once(last: dict[Keepsake, int], wanted: int) -> None:
    assert most_at_once(last) == wanted


def test_the_library_gives_back_what_it_was_given_and_makes_room() -> None:
    library, frame = SceneLibrary(1, store()), torch.randn(2, 1, 6, 2, 6)
    library.put(keepsake(0), frame, -frame)
    held = library.bytes
    keys, values = library.get(keepsake(0))
    assert torch.equal(keys, frame) and torch.equal(values, -frame)
    library.forget(keepsake(0))
    library.put(keepsake(3), -frame, frame)
    assert torch.equal(library.get(keepsake(3))[0], -frame) and library.bytes == held


def test_eight_bits_are_half_as_many_and_close_enough() -> None:
    """Each channel is on a scale of its own, so that a loud one costs the others nothing."""
    loud = torch.tensor([1.0, 1.0, 1.0, 1.0, 1.0, 300.0])
    frame, half = torch.randn(2, 1, 6, 2, 6) * loud, store(torch.bfloat16)
    whole, eight = (SceneLibrary(1, half, eight) for eight in (False, True))
    eight.put(keepsake(0), frame, -frame)
    keys, values = eight.get(keepsake(0))
    assert keys.dtype is torch.bfloat16 and torch.equal(keys, -values)
    assert ((keys - frame).abs() <= 0.008 * frame.abs().amax(2, keepdim=True)).all()
    scales = 2 * 4 * 2 * 2 * 6
    assert eight.bytes == whole.bytes / 2 + scales
    again = SceneLibrary(1, half, eight=True)
    again.restore(eight.state())
    assert torch.equal(again.get(keepsake(0))[0], keys)


def test_what_is_kept_is_read_once_its_copies_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU, a frame is copied to the host while the film continues: a state must not hold half of it."""
    library, waited = SceneLibrary(1, store()), []
    library.put(keepsake(0), *torch.ones(2, 2, 1, 6, 2, 6))
    library._device = torch.device("cuda")
    stream = SimpleNamespace(synchronize=lambda: waited.append(library._keys.fill_(2.0)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    assert bool((library.state()["pools"][0] == 2).all()) and len(waited) == 1
    assert bool((library.kept(keepsake(0))[0] == 2).all()) and len(waited) == 2


def test_a_day_of_scenes_is_planned_at_once() -> None:
    """Planning and running must not look through all scenes at every block."""
    from echo_cli.storyboard.nouns import Kind
    from tests.small import policy_for

    many = story([(None, None, 1)] + [(Kind.SMOOTH, None, 1)] * 20_000)
    looks = 0

    class Counted(dict):
        def values(self):
            nonlocal looks
            looks += 1
            return super().values()

    policy = policy_for("echo-forcing", many)
    policy.wanted = Counted(policy.wanted)
    assert most_at_once(policy.last_wanted) == 1 and policy.wanted[20_000] == keepsake(0)
    few = story([(None, None, 2), (Kind.SMOOTH, None, 2)])
    assert len(run("echo-forcing", few)) == 4 and looks == 0
