"""The hashes of a model of Wan's family: one for each part, and one for everything that a film depends on.
No torch.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from echo_cli.errors import MissingError
from echo_cli.models.files.download import check_receipt
from echo_cli.models.files.folders import (
    DESCRIPTION,
    SCALED_DECODER,
    Files,
    Layout,
    decoders_in,
    description,
    files_in,
    layout_of,
    tokenizer_files,
)
from echo_cli.models.files.hashes import known_sha256
from echo_cli.models.queries.files import QUERIES, made_for, queries_path
from echo_cli.models.running import Pictures

PARTS = ("transformer", "codec", "text")


def paths_of(files: Files, part: str) -> tuple[Path, ...]:
    """The files that a part is read from."""
    own: tuple[Path, ...] = getattr(files, part)
    return (*own, files.adapter) if part == "transformer" and files.adapter else own


def part_hashes(folder: Path, layout: Layout, files: Files, branch: str = "", scale: float = 1.0) -> dict[str, str]:
    """The sha256 of each part, checked against the folder's description or the publisher; that of queries, if they
    belong to this transformer. `branch` of a checkpoint and `scale` of an adapter: the same files read in another way
    are different weights."""
    check_receipt(folder)
    hashes = {part: _together(*map(known_sha256, paths_of(files, part))) for part in PARTS}
    if branch or files.adapter:
        hashes["transformer"] = _together(hashes["transformer"], branch, str(scale))
    if layout is Layout.OURS:
        own = {part for part in PARTS if paths_of(files, part) == (folder / f"{part}.safetensors",)}
        _compare(folder, {part: sha for part, sha in hashes.items() if part in own})
    if made_for(queries_path(folder)) == hashes["transformer"]:
        hashes[QUERIES] = known_sha256(queries_path(folder))
    return {
        **hashes,
        "tokenizer": _together(*(f"{path.name} {known_sha256(path)}" for path in tokenizer_files(files.tokenizer))),
    }


def digest(hashes: Mapping[str, str]) -> str:
    return _together(*(f"{part} {sha}" for part, sha in sorted(hashes.items())))


def folder_digest(folder: Path | None, generator: Path | None = None) -> str | None:
    """The digest of a model in our layout, perhaps with another generator; None for one whose weights must be opened to
    know how they are read."""
    if folder is None or layout_of(folder) is not Layout.OURS or (generator and generator.suffix != ".safetensors"):
        return None
    files = files_in(folder, Layout.OURS, generator)
    return None if files.lacking() else digest(part_hashes(folder, Layout.OURS, files))


def decoder_digest(folder: Path, pictures: Pictures) -> str | None:
    """The hash of the decoder that stands in for the codec; None for the codec itself. A MissingError if it is not in
    the folder."""
    if pictures is Pictures.FULL:
        return None
    fast, light = decoders_in(folder)
    path, what, names = {Pictures.FAST: (fast, "fast decoder", "taew2_1 or lighttaew2_1"),
                         Pictures.LIGHT: (light, "light codec", "lightvaew2_1")}[pictures]
    if path is None:
        raise MissingError(f"{folder}: there is no {what}",
                           hint=f"Put {names} (.safetensors or .pth) into the folder, or use --decoder full.")
    # A scaled decoder is recognised by its name, so the same bytes under another name make other pictures.
    return _together(known_sha256(path), "scaled") if path.stem == SCALED_DECODER else known_sha256(path)


def _together(*hashes: str) -> str:
    """One hash for several; a single one is itself."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _compare(folder: Path, actual: Mapping[str, str]) -> None:
    parts = description(folder)["parts"]
    for part, sha in actual.items():
        recorded = parts.get(part, {}).get("sha256")
        if recorded != sha:
            raise MissingError(
                f"{folder / f'{part}.safetensors'}: not the weights that {DESCRIPTION} names; the file is damaged or "
                f"was replaced (sha256 {sha[:12]}…, not {str(recorded)[:12]}…)",
                hint="Convert or copy the model again.",
            )
