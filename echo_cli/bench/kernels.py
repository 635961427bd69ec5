"""Which kernels a piece of work launched, and how long each kind of them took, from torch's profiler: the device's
kernels on a GPU, the operators' own time on a CPU.

A kernel's kind is read off its name. Names differ from one release of torch to the next, so that a kind is a guide, and
the kernels themselves are listed beside it.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

OTHER = "other"
_KINDS = {  # the first that fits
    "attention": r"flash|fmha|attention|sdpa|\b_near\b",
    "convolutions": r"conv|winograd|implicit|xmma_fprop|dgrad",
    "linear": r"gemm|cutlass|nvjet|matmul|addmm|\b(aten::)?b?mm\b|_scaled_mm",
    "norms and rotation": r"norm|rms|\b_(eight|place|turn|move)\b",
    "memory": r"\b_(answers|choose|compare|blend|sums)\b|sort|topk",
    "copies":
        r"copy|memcpy|memset|fill|\b_enlarge\b|\bcat|CatArray|index|gather|scatter|aten::(clone|stack|contiguous)",
    "element by element":
        r"elementwise|vectorized|reduce|softmax|\b_add\b|aten::(mul|add|sub|div|exp|sum|mean|gelu|silu|pow|where)",
}


@dataclass(frozen=True, slots=True)
class Kernel:
    name: str
    kind: str
    ms: float
    count: int


def kind_of(name: str) -> str:
    return next((kind for kind, pattern in _KINDS.items() if re.search(pattern, name, re.IGNORECASE)), OTHER)


def kernels_of(run: Callable[[], Any], device: torch.device) -> tuple[Kernel, ...]:
    """Every kernel that `run` launched, the longest first."""
    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiled:
        run()
        if cuda:
            torch.cuda.synchronize(device)
    rows = [(row.key, (row.self_device_time_total if cuda else row.self_cpu_time_total) / 1000, row.count)
            for row in profiled.key_averages()]
    return tuple(Kernel(name, kind_of(name), ms, count) for name, ms, count in sorted(rows, key=lambda row: -row[1]))


def by_kind(kernels: Iterable[Kernel]) -> dict[str, float]:
    """Milliseconds by kind, the longest first."""
    kinds = dict.fromkeys((*_KINDS, OTHER), 0.0)
    for kernel in kernels:
        kinds[kernel.kind] += kernel.ms
    return {kind: ms for kind, ms in sorted(kinds.items(), key=lambda pair: -pair[1]) if ms}
