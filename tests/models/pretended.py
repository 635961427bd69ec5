"""A device that is not there: tensors on `meta` stand for those of a GPU, and nothing but a copy may join them with the
host's. Counts the bytes that are alive on it, and the most there ever were. Events and streams are not pretended."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")
_JOINING = {"copy_", "_to_copy", "_has_compatible_shallow_copy_type"}


class Device(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.most = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name, kwargs = func.overloadpacket.__name__, kwargs or {}
        places = {
            leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor) and leaf.dim()
        }
        if len(places) > 1 and name not in _JOINING:
            raise AssertionError(f"{name} joins tensors of the host and of the device")
        if name == "copy_" and args[0].device.type == "cpu" and args[1].is_meta:
            return args[0]  # home to the host
        out = func(*args, **kwargs)
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor) and made.is_meta:
                self._count(made.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self.bytes += size
            self.most = max(self.most, self.bytes)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.bytes -= size


@contextmanager
def pretended() -> Iterator[Device]:
    with pytest.MonkeyPatch.context() as patch, Device() as device:
        patch.setattr(torch.Tensor, "pin_memory", lambda self: self)
        yield device
