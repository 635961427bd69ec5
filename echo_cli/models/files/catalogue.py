"""The description of a model: a line in a list, everything in full, and whether it is complete.

Lists and descriptions look at small files and at the ends of large ones; only `checked` reads weights and needs torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echo_cli.errors import EchoError, MissingError
from echo_cli.models.files.download import receipt
from echo_cli.models.files.folders import Layout, description, files_in
from echo_cli.models.files.glance import glance
from echo_cli.models.files.hashes import recalled_sha256
from echo_cli.models.files.releases import RELEASES, placing
from echo_cli.models.loaders import family_of
from echo_cli.models.registry import Found, find, folders, models_folder
from echo_cli.models.tiny.parts import check as tiny_hash
from echo_cli.models.tiny.parts import index, part_path
from echo_cli.models.tiny.words import TABLES
from echo_cli.spec import TINY


@dataclass(frozen=True, slots=True)
class Entry:
    """A model in a list. Texts are empty where nothing applies."""

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
        model = find(name, models)
        here = family_of(model).is_here(model)
    except EchoError as error:
        return Entry(
            name, "incomplete", where=str(models_folder(models) / name), why=error.message, hint=error.hint or ""
        )
    if not here:
        return Entry(name, "not here", hint=_download(name) if name in RELEASES else "")
    if model.folder is None or model.layout is None:  # it needs no files, or its package keeps them
        return Entry(name, "complete")
    seen = glance(model.folder, model.layout)
    return Entry(
        name,
        "complete" if seen.whole else "incomplete",
        model.layout.value,
        seen.bytes,
        _known_hash(model.folder, model.layout) if seen.whole else "",
        str(model.folder),
        seen.lacks,
        seen.hint,
    )


def _download(name: str) -> str:
    return f"Download it with `echo-cli models get {name}`."


def here(models: Path | None = None) -> list[str]:
    """The models that have weights on this machine."""
    return [TINY.name, *folders(models)]


def about(model: Found, models: Path | None = None) -> dict[str, Any]:
    """The full description of a model, as plain values."""
    spec = model.spec
    record: dict[str, Any] = {
        "model": model.name,
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
    if not family_of(model).is_here(model):
        return record | {
            "state": "not here",
            **(placing(model.name, models_folder(models)) if model.name in RELEASES else {}),
        }
    if model.folder is None or model.layout is None:
        return record | {"state": "complete"}
    seen = glance(model.folder, model.layout)
    record |= {
        "folder": str(model.folder),
        "layout": model.layout.value,
        "state": seen.lacks or "complete",
        "bytes": seen.bytes,
    }
    return record | {Layout.TRAINED: _tiny, Layout.OURS: _ours}.get(model.layout, _foreign)(model.folder, model.layout)


def _known_hash(folder: Path, layout: Layout) -> str:
    if layout is Layout.TRAINED:
        return tiny_hash(folder)
    if layout is Layout.OURS:
        return str(description(folder)["parts"]["transformer"].get("sha256", ""))
    files = files_in(folder, layout).transformer
    return recalled_sha256(files[0]) or "" if len(files) == 1 else ""


def _tiny(folder: Path, layout: Layout) -> dict[str, Any]:
    record = index(folder)
    files = {
        part: {"file": part_path(folder, part).name, "bytes": part_path(folder, part).stat().st_size, "sha256": sha}
        for part, sha in record["sha256"].items()
    }
    return {
        "sha256": tiny_hash(folder),
        "files": files,
        "knows": {
            f"{table}s": {name: list(synonyms) for name, synonyms in concepts.items()}
            for table, concepts in TABLES.items()
        },
        "training": record.get("trained"),
        "memory": record.get("memory"),
        "measured": record.get("measured"),
    }


def _ours(folder: Path, layout: Layout) -> dict[str, Any]:
    record = description(folder)
    parts = {
        part: {name: value for name, value in facts.items() if name != "config"}
        for part, facts in record["parts"].items()
    }
    return {"files": parts, "made": record.get("made")}


def _foreign(folder: Path, layout: Layout) -> dict[str, Any]:
    fetched = receipt(folder)
    hashes: Mapping[str, Any] = {name: file["sha256"] for name, file in fetched.get("files", {}).items()}
    try:
        paths = list(files_in(folder, layout).all())
    except MissingError:  # which `glance` has reported
        paths = []
    names = {path: path.relative_to(folder).as_posix() for path in paths}
    files = {
        name: {"bytes": path.stat().st_size, "sha256": hashes.get(name) or recalled_sha256(path)}
        for path, name in names.items()
    }
    return {"files": files, **({"licences": fetched["licences"]} if "licences" in fetched else {})}
