"""What there is to say about a model: in a line of a list, in full, and whether it is whole.

Lists and descriptions look at small files and at the ends of large ones; only `checked` reads weights, and only for
that is torch needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_cli.errors import EchoError, MissingError
from echo_cli.models.files.download import RELEASES, receipt
from echo_cli.models.files.folders import Layout, description, files_in
from echo_cli.models.files.glance import glance
from echo_cli.models.files.hashes import recalled_sha256
from echo_cli.models.loaders import family_of
from echo_cli.models.registry import Found, find, folders, models_folder
from echo_cli.models.tiny.parts import check as tiny_hash
from echo_cli.models.tiny.parts import index, part_path
from echo_cli.models.tiny.words import TABLES
from echo_cli.spec import TINY


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
        found = find(name, models)
        here = family_of(found).is_here(found)
    except EchoError as error:
        return Entry(
            name, "incomplete", where=str(models_folder(models) / name), why=error.message, hint=error.hint or ""
        )
    if not here:
        return Entry(name, "not here", hint=f"echo-cli models get {name} fetches it." if name in RELEASES else "")
    if found.folder is None or found.layout is None:  # it needs no files, or its package keeps them
        return Entry(name, "complete")
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
    spec = found.spec
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
    if not family_of(found).is_here(found):
        return told | {
            "state": "not here",
            "hint": f"echo-cli models get {found.name} fetches it." if found.name in RELEASES else None,
        }
    if found.folder is None or found.layout is None:
        return told | {"state": "complete"}
    seen = glance(found.folder, found.layout)
    told |= {
        "folder": str(found.folder),
        "layout": found.layout.value,
        "state": seen.lacks or "complete",
        "bytes": seen.bytes,
    }
    return told | {Layout.TRAINED: _tiny, Layout.OURS: _ours}.get(found.layout, _foreign)(found.folder, found.layout)


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
