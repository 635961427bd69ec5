"""Weights as they are in files: names, shapes and dtypes at once, values one tensor at a time.

A part of a model may be more than half of a machine's memory, so nothing here reads a whole one. `read` opens files;
classes that rename or merge wrap the result. Pickled files are opened as bare tensors and nothing else, ever.
"""

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from echo_cli.errors import MissingError
from echo_cli.models.wan.names import adapter_of

_AGAIN = "Download it again, or check the model with `echo-cli models check`."
_CHUNK = 1 << 22  # bytes hashed at once
_SHOWN = 20  # names of a list that are shown


class Tensors(Protocol):
    """Named tensors on the host. `where` names their source, for messages."""

    where: str

    def names(self) -> Sequence[str]: ...

    def shape(self, name: str) -> tuple[int, ...]: ...

    def dtype(self, name: str) -> torch.dtype: ...

    def read(self, name: str) -> Tensor: ...


class Given:
    """Tensors in memory, or mapped from their file and loaded when they are touched."""

    def __init__(self, tensors: Mapping[str, Tensor], where: str) -> None:
        self._tensors, self.where = tensors, where

    def names(self) -> Sequence[str]:
        return tuple(self._tensors)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors[name].dtype

    def read(self, name: str) -> Tensor:
        return self._tensors[name]


class Safetensors:
    """One safetensors file, or the shards of one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        from safetensors import SafetensorError, safe_open

        self.where = str(paths[0]) if len(paths) == 1 else f"{paths[0].parent} ({len(paths)} shards)"
        self._slices: dict[str, Any] = {}
        self._files: dict[str, Any] = {}
        for path in paths:
            try:
                file = safe_open(path, framework="pt")
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            except FileNotFoundError:
                raise MissingError(f"{path}: no such weights file", hint=_AGAIN) from None
            except (SafetensorError, OSError, ValueError) as error:
                raise MissingError(f"{path}: the weights file is damaged or cut short", hint=_AGAIN) from error
            if twice := self._slices.keys() & slices.keys():
                raise MissingError(f"{path}: {min(twice)} is in another shard too", hint=_AGAIN)
            self._slices |= slices
            self._files |= dict.fromkeys(slices, file)

    def names(self) -> Sequence[str]:
        return tuple(self._slices)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._slices[name].get_shape())

    def dtype(self, name: str) -> torch.dtype:
        kind = self._slices[name].get_dtype()
        if kind not in SAFETENSORS_DTYPES:
            raise MissingError(f"{self.where}: {name} is of {kind}, which no weights should be", hint=_AGAIN)
        return SAFETENSORS_DTYPES[kind]

    def read(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)


SAFETENSORS_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def unpickled(path: Path) -> Mapping[str, Any]:
    """The content of a `.pt` or `.pth` file; tensors stay in the file until they are touched."""
    try:
        _check_archive(path)
        held = _bare(path)
    except FileNotFoundError:
        raise MissingError(f"{path}: no such weights file", hint=_AGAIN) from None
    except pickle.UnpicklingError as error:
        raise MissingError(
            f"{path}: {_refusal(str(error))}: refused",
            hint="Do not open it with anything else. Get the weights from their publisher, preferably as safetensors.",
        ) from None
    except _DAMAGES as error:
        raise MissingError(
            f"{path}: the weights file is damaged or cut short ({_first_line(error)})", hint=_AGAIN
        ) from error
    if not isinstance(held, Mapping):
        raise MissingError(f"{path}: this file holds no named weights, but a {type(held).__name__}", hint=_AGAIN)
    return held


# What reading a pickle raises if the file is not one, or is incomplete.
_DAMAGES = (
    RuntimeError,
    ValueError,
    EOFError,
    OSError,
    LookupError,
    AttributeError,
    TypeError,
    ImportError,
    AssertionError,
    zipfile.BadZipFile,
)


def _check_archive(path: Path) -> None:
    """torch stores its archives uncompressed; one that inflates to more than the file holds was not saved by torch."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise MissingError(
            f"{path}: this archive is compressed, which weights saved by torch never are: refused",
            hint="Take the weights from their publisher, best as safetensors.",
        )


def _bare(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols; reading shows whether the file is readable
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # a file older than its format's zip


def _refusal(said: str) -> str:
    """Why a pickle was not opened. torch's own message ends with how to open it anyway, so it is left out."""
    if wanted := re.search(r"GLOBAL ([\w.]+)|(?:but got|class|function) <[a-z -]*'?([\w.]+)'?>", said):
        return f"this file is not bare weights: it wants to call {wanted[1] or wanted[2]}"
    reason = re.search(r"WeightsUnpickler error:\s*(.+)", said)
    return f"this file is not bare weights, or damaged ({reason[1] if reason else 'it cannot be read'})"


def _first_line(error: BaseException) -> str:
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def opened(paths: Sequence[Path]) -> Tensors:
    """The weights in one file of either kind, or in shards."""
    if all(path.suffix == ".safetensors" for path in paths):
        return Safetensors(paths)
    path, = paths
    return flat(unpickled(path), str(path))


def flat(held: Mapping[str, Any], where: str) -> Given:
    """A mapping from names to tensors; anything else in it is an error."""
    if strange := [
        str(name) for name, value in held.items() if not isinstance(name, str) or not isinstance(value, Tensor)
    ]:
        raise MissingError(f"{where}: there are other things than weights: {shown(strange)}", hint=_AGAIN)
    if not held:
        raise MissingError(f"{where}: no weights are in this file", hint=_AGAIN)
    return Given(held, where)


BRANCHES = ("generator_ema", "generator", "model")


def checkpoint(path: Path, branch: str | None = None, merged_with: bool = False) -> tuple[Tensors, str]:
    """A generator in a training checkpoint, and its branch of the checkpoint, empty if it has none.

    The average over training is preferred to the last step; if an adapter is to be merged, the last step is used, since
    the adapter was trained on it.
    """
    held = unpickled(path)
    branches = [name for name in BRANCHES if isinstance(held.get(name), Mapping) and held[name]]
    if merged_with and "generator" in branches:
        branches = ["generator"]
    if branch is not None:
        if branch not in held or not isinstance(held[branch], Mapping):
            raise MissingError(
                f"{path}: no '{branch}' is in this checkpoint, but {shown([str(name) for name in held])}",
                hint=f"The usual branches are {', '.join(BRANCHES)}.",
            )
        branches = [branch]
    if not branches:
        return flat(held, str(path)), ""
    return flat(held[branches[0]], f"{path} ({branches[0]})"), branches[0]


class Renamed:
    """Tensors under other names."""

    def __init__(self, tensors: Tensors, rename: Callable[[str], str]) -> None:
        self._tensors, self.where = tensors, tensors.where
        self._names: dict[str, str] = {}
        for name in tensors.names():
            if (ours := rename(name)) in self._names:
                raise MissingError(
                    f"{self.where}: {self._names[ours]} and {name} are the same weight, {ours}", hint=_AGAIN
                )
            self._names[ours] = name

    def names(self) -> Sequence[str]:
        return tuple(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(self._names[name])

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors.dtype(self._names[name])

    def read(self, name: str) -> Tensor:
        return self._tensors.read(self._names[name])


class Numbers:
    """Tensors that a model can compute with: floating-point ones, asked at once, and finite ones, as each is read."""

    def __init__(self, tensors: Tensors) -> None:
        self._tensors, self.where = tensors, tensors.where
        check_dtypes({name: tensors.dtype(name) for name in tensors.names()}, self.where)

    def names(self) -> Sequence[str]:
        return self._tensors.names()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._tensors.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self._tensors.dtype(name)

    def read(self, name: str) -> Tensor:
        return finite(name, self._tensors.read(name), self.where)


def check_dtypes(dtypes: Mapping[str, torch.dtype], where: str) -> None:
    """Raise a MissingError for weights that are integers, Booleans or complex numbers."""
    wrong = [f"{name} is of {str(kind).removeprefix('torch.')}" for name, kind in dtypes.items()
             if not kind.is_floating_point]
    if wrong:
        raise MissingError(
            f"{where}: weights must be floating-point numbers: {shown(wrong)}",
            hint="Take the file in float32, bfloat16 or float16 from its publisher; quantised weights cannot be read.",
        )


def finite(name: str, tensor: Tensor, where: str) -> Tensor:
    """The tensor; a MissingError if it holds NaN or infinities."""
    values = tensor.detach()
    if values.dtype.itemsize == 1:  # sums of eight-bit numbers are not known everywhere
        values = values.to(torch.bfloat16)
    # A sum is finite only if every value is, and takes one reading. Where it is not, it may still have overflowed.
    if not torch.isfinite(values.sum(dtype=torch.float32)) and not torch.isfinite(values).all():
        raise MissingError(f"{where}: {name} holds values that are not finite (NaN or infinity)", hint=_AGAIN)
    return tensor


def read_through(path: Path, tensors: Tensors) -> str:
    """The sha256 of the file that all the tensors are in. Each is checked as soon as its bytes have been hashed, while
    they are still in memory: the disk is read once."""
    check_dtypes({name: tensors.dtype(name) for name in tensors.names()}, tensors.where)
    mapped = sorted(((tensor.data_ptr(), tensor, name) for name in tensors.names()
                     for tensor in [tensors.read(name).detach()]), key=lambda place: place[0])
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        for start, tensor, name in mapped:
            while done < start + tensor.nbytes - mapped[0][0] and (chunk := file.read(_CHUNK)):
                digest.update(chunk)
                done += len(chunk)
            finite(name, tensor, tensors.where)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Without(Renamed):
    """Tensors without some of their names."""

    def __init__(self, tensors: Tensors, left_out: Iterable[str]) -> None:
        super().__init__(tensors, str)
        for name in left_out:
            self._names.pop(name, None)


class Merged:
    """Weights with a low-rank adapter added: W + scale · B A, in float32, as each tensor is read."""

    def __init__(self, base: Tensors, adapter: Tensors, scale: float = 1.0) -> None:
        check_dtypes({name: adapter.dtype(name) for name in adapter.names()}, adapter.where)
        self._base, self._scale = base, scale
        self.where = f"{base.where} with {adapter.where}"
        sides: dict[str, dict[str, str]] = {}
        strange = []
        for name in adapter.names():
            if match := adapter_of(name):
                sides.setdefault(f"{match[0]}.weight", {})[match[1]] = name
            else:
                strange.append(f"unexpected: {name}")
        names = set(base.names())
        for target, pair in sides.items():
            if target not in names:
                strange.append(f"of no linear layer: {min(pair.values())}")
            elif len(pair) < 2:
                strange.append(f"half of a pair: {min(pair.values())}")
            elif self._product(adapter, pair) != base.shape(target):
                strange.append(
                    f"another shape: {pair['B']} {adapter.shape(pair['B'])} and {pair['A']} {adapter.shape(pair['A'])} "
                    f"for {base.shape(target)}"
                )
        if strange or not sides:
            raise MissingError(
                f"{adapter.where}: this adapter does not fit the generator:\n  {lines(strange or ['it is empty'])}",
                hint="Check that the two belong together.",
            )
        self._adapter, self._sides = adapter, sides

    @staticmethod
    def _product(adapter: Tensors, pair: Mapping[str, str]) -> tuple[int, ...] | None:
        down, up = adapter.shape(pair["A"]), adapter.shape(pair["B"])
        return (up[0], down[1]) if len(up) == len(down) == 2 and up[1] == down[0] else None

    def names(self) -> Sequence[str]:
        return self._base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        return self._base.shape(name)

    def dtype(self, name: str) -> torch.dtype:
        return self._base.dtype(name)

    def read(self, name: str) -> Tensor:
        weight = self._base.read(name)
        if name not in self._sides:
            return weight
        pair = self._sides[name]
        change = self._adapter.read(pair["B"]).float() @ self._adapter.read(pair["A"]).float()
        return (weight.float() + self._scale * change).to(weight.dtype)


def adapter(path: Path) -> Tensors:
    """The adapter of a generator in a checkpoint: its own branch, or the whole file."""
    if path.suffix == ".safetensors":
        return Safetensors([path])
    held = unpickled(path)
    inside = held.get("generator_lora", held)
    if not isinstance(inside, Mapping):
        raise MissingError(f"{path}: no adapter is in this file", hint=_AGAIN)
    return flat(inside, str(path))


def misfits(wanted: Mapping[str, tuple[int, ...]], present: Mapping[str, tuple[int, ...]]) -> list[str]:
    """A line for every name that is missing, unexpected or of another shape."""
    return [*(f"missing: {name} {shape}" for name, shape in wanted.items() if name not in present),
            *(f"unexpected: {name} {shape}" for name, shape in present.items() if name not in wanted),
            *(f"another shape: {name} is {present[name]}, not {shape}" for name, shape in wanted.items()
              if name in present and present[name] != shape)]


def check(wanted: Mapping[str, tuple[int, ...]], present: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise a MissingError that lists every name missing, unexpected or of another shape."""
    if wrong := misfits(wanted, present):
        raise MissingError(
            f"{where}: these weights do not fit the model ({len(wrong)} of {len(wanted)} names):\n  {lines(wrong)}",
            hint="Check that the file belongs to this model and is complete.",
        )


def shapes(tensors: Tensors) -> dict[str, tuple[int, ...]]:
    return {name: tensors.shape(name) for name in tensors.names()}


def lines(items: Sequence[str]) -> str:
    more = [f"… and {len(items) - _SHOWN} more"] if len(items) > _SHOWN else []
    return "\n  ".join([*items[:_SHOWN], *more])


def shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
