"""Which models there are and where they lie: in the package, in the models folder, or in any folder given by its path.

Knows folders by their layout and opens no weights; needs no torch, so that a command line may ask.
"""

import os
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from echo_cli.errors import MissingError, UsageError, did_you_mean
from echo_cli.models.files.folders import Layout, layout_of, spec_in
from echo_cli.spec import SPECS, TINY, ModelSpec


class Family(StrEnum):
    """Which loader a model needs."""

    TINY = "tiny"
    WAN = "wan"


@dataclass(frozen=True, slots=True)
class Found:
    """A model by the name it was asked for. No folder: the model in the package, or one that is not here."""

    name: str
    spec: ModelSpec
    folder: Path | None
    layout: Layout | None

    @property
    def family(self) -> Family:
        return Family.TINY if self.spec.name == TINY.name else Family.WAN


def models_folder(chosen: Path | None = None) -> Path:
    """Where models are kept: as chosen, as ECHO_MODELS says, or where this platform keeps the data of programs."""
    if chosen is not None:
        return chosen
    if said := os.environ.get("ECHO_MODELS"):
        return Path(said).expanduser()
    return _platform_folder("XDG_DATA_HOME", ".local/share", "Application Support") / "models"


def cache_folder() -> Path:
    """Where things are kept that can be made again: as ECHO_CACHE says, or where this platform keeps caches."""
    if said := os.environ.get("ECHO_CACHE"):
        return Path(said).expanduser()
    return _platform_folder("XDG_CACHE_HOME", ".cache", "Caches")


def _platform_folder(variable: str, fallback: str, library: str) -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / library / "echo-cli"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "echo-cli"
    return Path(os.environ.get(variable) or Path.home() / fallback) / "echo-cli"


def is_folder(model: str) -> bool:
    """Whether a model is given by the folder of its weights: such a name has a slash in it."""
    return "/" in model or "\\" in model


def spec_named(model: str) -> ModelSpec:
    """The sizes of a model, given by its name, the end of it (wan-1.3b), or the folder of its weights."""
    return find(model).spec


def find(model: str, models: Path | None = None) -> Found:
    """The model of that name or in that folder; `models` is the models folder."""
    if is_folder(model):
        folder = Path(model).expanduser()
        layout = layout_of(folder)
        if layout is None:
            raise MissingError(
                f"{folder}: no model is in this folder" + ("" if folder.is_dir() else " (there is no such folder)"),
                hint="Give the folder of a model's weights, or one of the names that `echo-cli models list` shows.",
            )
        return Found(model, spec_in(folder, layout), folder, layout)
    name = {full.replace("2.1-t2v", ""): full for full in SPECS}.get(model, model)
    if name == TINY.name:
        return Found(name, SPECS[name], None, None)
    here = folders(models)
    if name in here:
        layout = here[name]
        folder = models_folder(models) / name
        return Found(name, spec_in(folder, layout), folder, layout)
    if name in SPECS:
        return Found(name, SPECS[name], None, None)
    known = (*SPECS, *(name for name in here if name not in SPECS))
    raise UsageError(
        f"no model is called '{model}'{did_you_mean(model, known)}", hint=f"The models are: {', '.join(known)}."
    )


def names(models: Path | None = None) -> tuple[str, ...]:
    """What `--model` takes by name: what the program knows, and the folders in the models folder."""
    return tuple(dict.fromkeys((*SPECS, *folders(models))))


def folders(models: Path | None = None) -> dict[str, Layout]:
    """The folders of models in the models folder, by name."""
    place = models_folder(models)
    try:
        inside = sorted(
            path for path in place.iterdir() if path.is_dir() and path.name not in SPECS.keys() & {TINY.name}
        )
    except OSError:
        return {}
    return {path.name: layout for path in inside if (layout := layout_of(path))}
