"""Where a block's time goes: named intervals, measured on the device where there is one, read later.

On a CPU a clock is read; on CUDA events are recorded in stream order, and nothing waits until `read`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Stopwatch:
    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._laps: list[tuple[str, torch.cuda.Event | float, torch.cuda.Event | float]] = []

    def _now(self) -> torch.cuda.Event | float:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = self._now()
        yield
        self._laps.append((name, start, self._now()))

    def read(self) -> dict[str, float]:
        """Milliseconds by name; laps of one name add up."""
        totals: dict[str, float] = {}
        for name, start, stop in self._laps:
            if self._cuda:
                stop.synchronize()
                passed = start.elapsed_time(stop)
            else:
                passed = 1000 * (stop - start)
            totals[name] = totals.get(name, 0.0) + passed
        return totals
