"""Nothing inside the block loop waits for the device: no host read of a device value, for any policy."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from echo_cli.memory.table import POLICIES
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise
from tests.small import GRID, SHORT, SPEC, model, policy_for, prompts_for, story

WAITING = {"_local_scalar_dense", "item", "is_nonzero", "nonzero", "nonzero_numpy", "masked_select", "equal", "unique",
           "_unique2", "unique_consecutive", "unique_dim", "allclose", "repeat_interleave"}


class HostRead(AssertionError):
    pass


class Refusing(TorchDispatchMode):
    """Refuses every operator whose result, or whose result's shape, the host must wait for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indexed = name in ("index", "index_put", "index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1])
        if name in WAITING or indexed:
            raise HostRead(f"the loop waits for the device: {name}")
        return func(*args, **(kwargs or {}))


@contextmanager
def nothing_waits() -> Iterator[None]:
    """On a CPU some reads pass the dispatcher by: formatting, tolist and numpy are refused by name."""
    def refuse(*_, **__):
        raise HostRead("the loop reads a tensor on the host")

    with pytest.MonkeyPatch.context() as patch, Refusing():
        for name in ("tolist", "numpy", "__array__", "__repr__", "__format__"):
            patch.setattr(torch.Tensor, name, refuse)
        yield


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.sum()),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.tolist(),
        lambda x: f"{x}",
        lambda x: float(x[0]),
        lambda x: x.numpy(),
        lambda x: x.masked_select(x > 0),
        lambda x: torch.equal(x, x),
        lambda x: x.__setitem__(x > 0, 1.0),
        lambda x: 1 if x[0] > 0 else 2,
        lambda x: x.unique(),
        lambda x: [0, 1][x[0].long()],
    ],
)
def test_the_guard_sees_every_kind_of_wait(read) -> None:
    x = torch.arange(3.0)
    with pytest.raises(HostRead), nothing_waits():
        read(x)


@pytest.mark.parametrize("name", POLICIES)
def test_no_policy_waits(name: str) -> None:
    timeline = story()
    noise = KeyedNoise(1, timeline.scenes)
    loop = rollout(timeline, model(), prompts_for(timeline), policy_for(name, timeline), noise, GRID)
    blocks = 0
    with nothing_waits():
        for _ in loop:
            blocks += 1
    assert blocks == len(timeline.blocks)


@pytest.mark.parametrize("settings", [
    {"gate_on_clean": True}, {"true_places": True}, {"forgetting": "suppress"}, {"no_duplicates": True},
    {"candidates_from_whole_scene": True}, {"fold": "token_select"}, {"max_reuse": 2}, {"nearest_anchor": True},
])
def test_no_setting_waits(settings: dict) -> None:
    timeline = story(SHORT)
    policy, noise = policy_for("echo-forcing", timeline, settings), KeyedNoise(1, timeline.scenes)
    with nothing_waits():
        assert sum(1 for _ in rollout(timeline, model(), prompts_for(timeline), policy, noise, GRID)) == 14


def test_no_recall_waits() -> None:
    timeline = story()
    policy = policy_for("echo", timeline, {"eight_bits": True, "recall_strength": 0.5})
    noise = KeyedNoise(1, timeline.scenes)
    with nothing_waits():
        assert sum(1 for _ in rollout(timeline, model(), prompts_for(timeline), policy, noise, GRID)) == 48


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", POLICIES)
def test_cuda_never_synchronises(name: str) -> None:
    timeline = story()
    transformer = model().to("cuda", torch.bfloat16)
    rows = [row.pin_memory() for row in prompts_for(timeline)]
    noise = KeyedNoise(1, timeline.scenes)

    def pinned(block, step, shape):
        return noise(block, step, shape).pin_memory()

    loop = rollout(timeline, transformer, rows, policy_for(name, timeline), pinned, GRID)
    next(loop)  # kernels load and libraries set up in the first block
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in loop:
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert SPEC.depth == len(transformer.blocks)
