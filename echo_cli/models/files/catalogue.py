"""What there is to say about a model: in a line of a list, in full, and whether it is whole.

Lists and descriptions look at small files and at the ends of large ones; only `checked` reads weights, and only for
that is torch needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from echo_cli.errors import EchoError, MissingError
from echo_cli.models.files.download import RELEASES, halves, receipt
from echo_cli.models.files.folders import Layout, description, files_in
from echo_cli.models.files.glance import glance
from echo_cli.models.files.hashes import forget, recalled_sha256
from echo_cli.models.registry import Family, Found, find, folders, models_folder
from echo_cli.models.tiny.parts import WEIGHTS, index, part_path
from echo_cli.models.tiny.parts import check as tiny_hash
from echo_cli.models.tiny.words import TABLES
from echo_cli.models.wan.hashes import PARTS
from echo_cli.spec import TINY

if TYPE_CHECKING:
    from echo_cli.models.files.tensors import Tensors


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in a list. Texts are empty where there is nothing to tell."""

    name: str
    state: str  # complete, incomplete, not here
    layout: str = ""
    bytes: int = 0
    sha256: str = ""  # of the transformer, if it is known without reading it
    where: str = ""
    why: str = ""
    hint: str = ""


def entry(name: str, models: Path | None = None) -> Entry:
    try:
        found = _placed(find(name, models))
    except EchoError as error:
        return Entry(
            name, "incomplete", where=str(models_folder(models) / name), why=error.message, hint=error.hint or ""
        )
    if found.folder is None or found.layout is None:
        return Entry(name, "not here", hint=f"echo-cli models get {name} fetches it" if name in RELEASES else "")
    seen = glance(found.folder, found.layout)
    return Entry(
        name,
        "complete" if seen.whole else "incomplete",
        found.layout.value,
        seen.bytes,
        _known_hash(found.folder, found.layout) if seen.whole else "",
        str(found.folder),
        seen.lacks,
        seen.hint,
    )


def here(models: Path | None = None) -> list[str]:
    """The models that have weights on this machine."""
    return [TINY.name, *folders(models)]


def about(found: Found) -> dict[str, Any]:
    """All there is to say about a model, as plain values."""
    spec, placed = found.spec, _placed(found)
    told: dict[str, Any] = {
        "model": found.name,
        "sizes": {
            "layers": spec.depth,
            "width": spec.width,
            "heads": spec.heads,
            "pictures": f"{spec.size[0]}x{spec.size[1]} at {spec.fps:g} fps",
            "steps": list(spec.steps),
            "window": f"{spec.window} latent frames",
            "block": f"{spec.block_frames} latent frames",
            "tokens": f"{spec.grid().tokens} a latent frame",
        },
    }
    if placed.folder is None or placed.layout is None:
        return told | {
            "state": "not here",
            "hint": f"echo-cli models get {found.name} fetches it" if found.name in RELEASES else None,
        }
    seen = glance(placed.folder, placed.layout)
    told |= {
        "folder": str(placed.folder),
        "layout": placed.layout.value,
        "state": seen.lacks or "complete",
        "bytes": seen.bytes,
    }
    return told | {Layout.TRAINED: _tiny, Layout.OURS: _ours}.get(placed.layout, _foreign)(placed.folder, placed.layout)


def checked(found: Found) -> dict[str, str]:
    """The hash of each part of a model that was read through; a MissingError if something is wrong with it."""
    placed = _placed(found)
    if placed.folder is None:
        raise MissingError(
            f"model '{found.name}' is not in {models_folder()}", hint=f"echo-cli models get {found.name} fetches it."
        )
    if found.family is Family.TINY:
        from echo_cli.models.files.tensors import Safetensors

        hashes = {"all": tiny_hash(placed.folder), **index(placed.folder)["sha256"]}
        _read_through(*(Safetensors([part_path(placed.folder, part)]) for part in hashes if part != "all"))
        return hashes
    from echo_cli.models.wan.weights import open_weights

    if half := halves(placed.folder):
        raise MissingError(f"{half[0]}: half a file, from a fetch or a conversion that was stopped",
                           hint="echo-cli models get goes on where it stopped; a conversion is begun anew.")
    for path in placed.folder.rglob("*"):
        forget(path)
    weights = open_weights(placed.folder)
    hashes = {"all": weights.digest, **weights.hashes}
    _read_through(*map(weights.part, PARTS), *filter(None, [weights.fast_decoder]))
    return hashes


def _read_through(*parts: "Tensors") -> None:
    """Every tensor, once: a MissingError names one that is not of finite numbers."""
    from echo_cli.models.files.tensors import Numbers

    for part in map(Numbers, parts):
        for name in part.names():
            part.read(name)


def _placed(found: Found) -> Found:
    """The model in the package has a folder too."""
    if found.family is Family.TINY and found.folder is None:
        return Found(found.name, found.spec, WEIGHTS, Layout.TRAINED)
    return found


def _known_hash(folder: Path, layout: Layout) -> str:
    if layout is Layout.TRAINED:
        return tiny_hash(folder)
    if layout is Layout.OURS:
        return str(description(folder)["parts"]["transformer"].get("sha256", ""))
    files = files_in(folder, layout).transformer
    return recalled_sha256(files[0]) or "" if len(files) == 1 else ""


def _tiny(folder: Path, layout: Layout) -> dict[str, Any]:
    told = index(folder)
    files = {
        part: {"file": part_path(folder, part).name, "bytes": part_path(folder, part).stat().st_size, "sha256": sha}
        for part, sha in told["sha256"].items()
    }
    return {
        "sha256": tiny_hash(folder),
        "files": files,
        "knows": {
            f"{table}s": {name: list(synonyms) for name, synonyms in concepts.items()}
            for table, concepts in TABLES.items()
        },
        "training": told.get("trained"),
        "memory": told.get("memory"),
        "measured": told.get("measured"),
    }


def _ours(folder: Path, layout: Layout) -> dict[str, Any]:
    told = description(folder)
    parts = {
        part: {name: value for name, value in facts.items() if name != "config"}
        for part, facts in told["parts"].items()
    }
    return {"files": parts, "made": told.get("made")}


def _foreign(folder: Path, layout: Layout) -> dict[str, Any]:
    fetched = receipt(folder)
    hashes: Mapping[str, Any] = {name: file["sha256"] for name, file in fetched.get("files", {}).items()}
    try:
        paths = list(files_in(folder, layout).all())
    except MissingError:  # which `glance` has told
        paths = []
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    files = {
        name: {"bytes": path.stat().st_size, "sha256": hashes.get(name) or recalled_sha256(path)}
        for path, name in names.items()
    }
    return {"files": files, **({"licences": fetched["licences"]} if "licences" in fetched else {})}
