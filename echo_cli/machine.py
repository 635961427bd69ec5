"""What this machine is, and its peak speed: measured speeds mean nothing without both.

Imports torch only to measure a device.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from echo_cli.text import plural

if TYPE_CHECKING:
    from echo_cli.runtime import Runtime

_SIDE = {"cpu": 1024, "cuda": 8192}  # of the square matrices whose product is timed
_SECONDS = 0.6


def name() -> str:
    """The processor, how many cores of it we may use, and the system."""
    return f"{_processor()}, {plural(cores(), 'core')}, {platform.system()}"


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def platform_folder(variable: str, fallback: str, library: str) -> Path:
    """Where this platform keeps the data, caches or settings of programs, and ours in it."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / library / "echo-cli"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "echo-cli"
    return Path(os.environ.get(variable) or Path.home() / fallback) / "echo-cli"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def memory() -> int | None:
    """Bytes of the machine's memory, if the system reports them."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def age() -> float:
    """Seconds since this process began; 0 where the system does not say."""
    try:
        ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def device_name(runtime: "Runtime") -> str:
    import torch

    return torch.cuda.get_device_name(runtime.device) if runtime.device.type == "cuda" else _processor()


def peak(runtime: "Runtime") -> float:
    """Floating-point operations a second in the runtime's dtype: the best of many products of large matrices, measured
    now, with the same number of threads as everything else."""
    import torch

    side, cuda = _SIDE[runtime.device.type], runtime.device.type == "cuda"
    with torch.inference_mode():
        one, other = (torch.randn(side, side, device=runtime.device, dtype=runtime.dtype) for _ in range(2))
        out = torch.empty_like(one)
        best, began = float("inf"), time.perf_counter()
        while time.perf_counter() - began < _SECONDS:
            if cuda:
                torch.cuda.synchronize(runtime.device)
            start = time.perf_counter()
            torch.mm(one, other, out=out)
            if cuda:
                torch.cuda.synchronize(runtime.device)
            best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best
