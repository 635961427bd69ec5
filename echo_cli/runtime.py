"""Device, dtype, noise, and values read later: decided here, once.

Nothing else in the project asks which device it runs on, draws random numbers for a film, or waits for the device.
"""

import hashlib
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from echo_cli.errors import MissingError, UsageError
from echo_cli.storyboard.nouns import Block, Scene

DEVICES = "Use auto, cpu, cuda, cuda:N, or cuda:N,cuda:M to decode on a second GPU."
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """`second` is a device that decodes while the first one generates."""

    device: torch.device
    dtype: torch.dtype
    second: torch.device | None = None

    @property
    def decoding(self) -> torch.device:
        return self.second or self.device

    @classmethod
    def choose(cls, device: str = "auto", dtype: str = "auto") -> "Runtime":
        """The devices and dtype a person asked for; `auto` is a GPU in bfloat16 where there is one, else float32. Two
        GPUs are named as `cuda:0,cuda:1`."""
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        first, *others = device.split(",")
        place, seconds = _device(first), [_device(name) for name in others]
        if seconds and (len(seconds) > 1 or {place.type, seconds[0].type} != {"cuda"} or seconds[0] == place):
            raise UsageError(f"'{device}' is not a pair of GPUs",
                             hint="Name the GPU that generates, then the one that decodes: cuda:0,cuda:1.")
        if dtype != "auto" and dtype not in DTYPES:
            raise UsageError(f"no dtype is called '{dtype}'", hint=f"Use auto, {', '.join(DTYPES)}.")
        if place.index is not None and place.type == "cuda":
            torch.cuda.set_device(place)  # events and pinned memory belong to the current device
        default = torch.bfloat16 if place.type == "cuda" else torch.float32
        chosen = default if dtype == "auto" else DTYPES[dtype]
        if place.type == "cpu" and chosen is not torch.float32 and not _survives(chosen):
            raise MissingError(
                f"torch {torch.__version__} dies when this machine's CPU computes in {dtype}",
                hint="Use --dtype float32, or set ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment.",
            )
        return cls(place, chosen, *seconds)


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
    except RuntimeError:
        raise UsageError(f"no device is called '{name}'", hint=DEVICES) from None
    if place.type not in ("cpu", "cuda"):
        raise UsageError(f"device '{name}' is not supported", hint=DEVICES)
    if place.type == "cuda" and (not torch.cuda.is_available() or (place.index or 0) >= torch.cuda.device_count()):
        raise MissingError(
            f"device '{name}' is not here: torch {torch.__version__} sees {torch.cuda.device_count()} CUDA devices",
            hint="Use --device cpu, or install a CUDA build of torch and a driver (echo-cli doctor).",
        )
    return place


def _survives(dtype: torch.dtype) -> bool:
    """Whether a process can multiply matrices in `dtype`: some virtual machines advertise instructions that they then
    refuse, which kills the process without an exception."""
    trial = f"import torch; torch.nn.Linear(64, 64, dtype={dtype})(torch.ones(64, 64, dtype={dtype}))"
    return subprocess.run([sys.executable, "-c", trial], capture_output=True).returncode == 0


class Noise(Protocol):
    """Where a film's randomness comes from: step 0 is what a block starts from, later steps are added as noise."""

    def __call__(self, block: Block, step: int, shape: Sequence[int]) -> Tensor: ...


@dataclass(frozen=True)
class KeyedNoise:
    """Noise keyed by (seed, scene id, block within the scene, step), drawn on the CPU: the same on every machine,
    whatever was drawn before it, and untouched by edits to other scenes."""

    seed: int
    scenes: tuple[Scene, ...]

    def __call__(self, block: Block, step: int, shape: Sequence[int]) -> Tensor:
        scene = self.scenes[block.scene]
        seed = self.seed if scene.seed is None else scene.seed
        key = "\0".join((str(seed), scene.id, str(block.number), str(step)))
        digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "little", signed=True))
        return torch.randn(tuple(shape), generator=generator)


def upload(values: Sequence[Any] | Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Host values to the device without waiting for it."""
    host = torch.as_tensor(values, dtype=dtype)
    return host if device.type == "cpu" else host.pin_memory().to(device, non_blocking=True)


class Later:
    """A small device tensor being copied to the host: copied in stream order, waited for only when read."""

    def __init__(self, tensor: Tensor) -> None:
        tensor = tensor.detach()
        self._done = None
        if tensor.device.type == "cuda":
            self._host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            self._host.copy_(tensor, non_blocking=True)
            self._done = torch.cuda.Event()
            self._done.record()
        else:
            self._host = tensor.clone()

    def read(self) -> Any:
        """The value as Python numbers, in nested lists for more than one."""
        return self._arrived().tolist()

    def array(self) -> np.ndarray:
        """The value as an array, for pictures."""
        return self._arrived().numpy()

    def _arrived(self) -> Tensor:
        if self._done is not None:
            self._done.synchronize()
        return self._host
