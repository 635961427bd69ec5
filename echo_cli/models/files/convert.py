"""A model in another layout becomes a folder in ours: every tensor checked, every file hashed, the description last.

Reads and writes a piece of one tensor at a time, so that converting a model larger than memory needs little memory.
"""

import functools
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from echo_cli import __version__
from echo_cli.errors import MissingError, OutputError
from echo_cli.files import PARTIAL, make_folder, output_errors, partial, publish, sha256, write_whole
from echo_cli.models.files.folders import DESCRIPTION, FORMAT, SCALED_DECODER, VERSION, sizes_of, tokenizer_files
from echo_cli.models.files.hashes import known_sha256, remember
from echo_cli.models.files.tensors import SAFETENSORS_DTYPES, Tensors
from echo_cli.models.wan.hashes import PARTS
from echo_cli.models.wan.weights import Weights

_PIECE = 1 << 24  # values checked and written at once
_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}

Progress = Callable[[str, int, int], None]  # the file being written, bytes done, bytes in all


def convert(weights: Weights, out: Path, dtype: torch.dtype | None = None, force: bool = False,
            progress: Progress = lambda what, done, whole: None) -> None:
    """Write the folder `out`. `dtype` is that of all weights, None each one's own."""
    _make_room(weights, out, force)
    growing: dict[Path, str] = {}  # complete, but not named yet: existing files stay until all are written
    config = {
        "transformer": sizes_of(weights.spec),
        "codec": dict(weights.codec_config),
        "text": dict(weights.text_config),
    }
    parts: dict[str, Any] = {}
    for part in PARTS:
        path = out / f"{part}.safetensors"
        written = write_safetensors(path, weights.part(part), dtype, functools.partial(progress, part))
        sources = [{"file": source.name, "sha256": known_sha256(source)} for source in weights.paths(part)]
        parts[part] = {"file": path.name, **written, "config": config[part], "from": sources}
    parts["transformer"] |= {"branch": weights.branch} if weights.branch else {}
    parts["transformer"] |= {"adapter_scale": weights.scale} if weights.files.adapter else {}
    for part, source, tensors in (("fast_decoder", weights.files.fast_decoder, weights.fast_decoder),
                                  ("light_codec", weights.files.light_codec, weights.light_codec)):
        if source and tensors:
            path = out / f"{SCALED_DECODER if source.stem == SCALED_DECODER else part}.safetensors"
            parts[part] = {"file": path.name, **grow_safetensors(path, tensors, dtype)}
            growing[path] = parts[part]["sha256"]
    name_parts(out, growing)
    parts["tokenizer"] = {"folder": "tokenizer", "files": _copy_tokenizer(weights.tokenizer, out / "tokenizer")}
    made = {"by": f"echo-cli {__version__}", "layout": weights.layout.value}
    write_whole(
        out / DESCRIPTION,
        json.dumps(
            {"format": FORMAT, "version": VERSION, "model": weights.spec.name, "parts": parts, "made": made},
            indent=2,
            ensure_ascii=False,
        )
        + "\n",
    )


def _make_room(weights: Weights, out: Path, force: bool) -> None:
    if out.resolve() == weights.folder.resolve():
        raise OutputError(
            f"{out}: a model cannot be converted into the folder it is read from", "Name another folder with -o."
        )
    extras = ("fast_decoder", "light_codec", SCALED_DECODER)
    ours = {DESCRIPTION, "tokenizer", *(f"{part}.safetensors" for part in (*PARTS, *extras))}
    make_folder(out, ours.__contains__, "a conversion")
    there = sorted(path.name for path in out.iterdir() if not path.name.endswith(PARTIAL))
    if there and not force:
        what = "a model" if DESCRIPTION in there else f"{there[0]}, which belongs to no converted model,"
        raise OutputError(f"{out} holds {what} already", "Overwrite it with --force, or write elsewhere with -o.")


def name_parts(out: Path, growing: Mapping[Path, str]) -> None:
    """Give parts their names, by path and sha256. Until it is written again, no description names them."""
    with output_errors(out):
        (out / DESCRIPTION).unlink(missing_ok=True)
    for path, sha in growing.items():
        publish(path)
        remember(path, sha)


def write_safetensors(path: Path, tensors: Tensors, dtype: torch.dtype | None = None,
                      progress: Callable[[int, int], None] = lambda done, whole: None) -> dict[str, Any]:
    """One file of weights, complete or absent; its size, hash and contents."""
    facts = grow_safetensors(path, tensors, dtype, progress)
    publish(path)
    remember(path, facts["sha256"])
    return facts


def grow_safetensors(path: Path, tensors: Tensors, dtype: torch.dtype | None = None,
                     progress: Callable[[int, int], None] = lambda done, whole: None) -> dict[str, Any]:
    """`write_safetensors`, but without giving the file its final name."""
    header, whole = _header(tensors, dtype)
    growing, digest = partial(path), hashlib.sha256()
    with output_errors(path):
        try:
            with growing.open("wb") as file:
                _write(file, digest, len(header).to_bytes(8, "little") + header)
                for name in tensors.names():
                    for piece in _pieces(tensors, name, dtype):
                        _write(file, digest, piece.view(torch.uint8).numpy().data)
                        progress(file.tell() - 8 - len(header), whole)
        except BaseException:
            growing.unlink(missing_ok=True)
            raise
    size = growing.stat().st_size
    assert size == 8 + len(header) + whole, f"{size} bytes were written"
    kinds = sorted({str(_kind(tensors, name, dtype)).removeprefix("torch.") for name in tensors.names()})
    values = sum(_count(tensors.shape(name)) for name in tensors.names())
    return {
        "bytes": size,
        "sha256": digest.hexdigest(),
        "tensors": len(tensors.names()),
        "values": values,
        "dtype": ", ".join(kinds),
    }


def _write(file: BinaryIO, digest: Any, data: Any) -> None:
    digest.update(data)
    file.write(data)


def _header(tensors: Tensors, dtype: torch.dtype | None) -> tuple[bytes, int]:
    """The file's table of contents, and how many bytes of values follow it."""
    table, at = {}, 0
    for name in tensors.names():
        kind, shape = _kind(tensors, name, dtype), tensors.shape(name)
        if kind not in _NAMES:
            raise MissingError(
                f"{tensors.where}: {name} is of {kind}, which no weights should be", hint="Download the file again."
            )
        end = at + _count(shape) * kind.itemsize
        table[name] = {"dtype": _NAMES[kind], "shape": list(shape), "data_offsets": [at, end]}
        at = end
    header = json.dumps({"__metadata__": {"format": "pt"}, **table}, separators=(",", ":")).encode()
    return header + b" " * (-len(header) % 8), at


def _kind(tensors: Tensors, name: str, dtype: torch.dtype | None) -> torch.dtype:
    own = tensors.dtype(name)
    return dtype if dtype is not None and own.is_floating_point else own


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _pieces(tensors: Tensors, name: str, dtype: torch.dtype | None) -> Iterator[Tensor]:
    """A tensor's values in order, flat, as they are written; an error if one of them is not finite."""
    tensor: Tensor = tensors.read(name).detach()
    kind = _kind(tensors, name, dtype)
    for piece in tensor.reshape(-1).split(_PIECE):
        piece = piece.to(kind)
        if kind.is_floating_point and not bool(torch.isfinite(piece.float()).all()):
            raise MissingError(
                f"{tensors.where}: {name} holds values that are not finite"
                + (f" in {str(kind).removeprefix('torch.')}" if kind != tensors.dtype(name) else ""),
                hint="The file is damaged, or the dtype is too narrow for it: "
                "download it again, or convert with another --dtype.",
            )
        yield piece.contiguous()


def _copy_tokenizer(source: Path, target: Path) -> dict[str, str]:
    """The tokenizer's files, and the hash of each."""
    with output_errors(target):
        target.mkdir(exist_ok=True)
        for path in target.iterdir():
            path.unlink()
        for path in tokenizer_files(source):
            shutil.copyfile(path, partial(target / path.name))
            publish(target / path.name)
    return {path.name: sha256(path) for path in tokenizer_files(target)}
