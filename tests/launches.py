"""Counts what would be launched on a GPU: kernels of our own, which are then not run, and torch's operators."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch.utils._python_dispatch import TorchDispatchMode

FREE = {"empty", "empty_like", "empty_strided", "new_empty", "detach", "lift_fresh", "_unsafe_view"}


class _Counting(TorchDispatchMode):
    def __init__(self, launches: Counter[str]) -> None:
        super().__init__()
        self.launches = launches

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        view = any(made.alias_info is not None and not made.alias_info.is_write for made in func._schema.returns)
        if not view and name not in FREE:
            self.launches[name] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """By the name of the operator or kernel. Needs Triton's interpreter."""
    from triton.runtime import interpreter

    launches: Counter[str] = Counter()

    def skip(executor: interpreter.GridExecutor, *_: object, **__: object) -> None:
        launches[executor.fn.__name__] += 1

    with pytest.MonkeyPatch.context() as patch, _Counting(launches):
        patch.setattr(interpreter.GridExecutor, "__call__", skip)
        yield launches
