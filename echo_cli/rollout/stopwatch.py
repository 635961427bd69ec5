"""Where a block's time goes: named intervals, measured on the device if there is one, and read later.

On a CPU a clock is read; on CUDA events are recorded in stream order, and nothing waits until `read`.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch


class Stopwatch:
    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._laps: list[tuple[str, float]] = []  # milliseconds
        self._events: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._cuda:
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((name, begin, end))
        else:
            began = time.perf_counter()
            yield
            self._laps.append((name, 1000 * (time.perf_counter() - began)))

    def read(self) -> dict[str, float]:
        """Milliseconds by name; laps of one name add up."""
        totals: dict[str, float] = {}
        for name, passed in chain(self._laps, self._read_events()):
            totals[name] = totals.get(name, 0.0) + passed
        return totals

    def _read_events(self) -> Iterator[tuple[str, float]]:
        for name, begin, end in self._events:
            end.synchronize()
            yield name, begin.elapsed_time(end)
