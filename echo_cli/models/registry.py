"""Which models there are and where they are: in this package, in the models folder, in any folder given by its path,
or in another package.

Knows folders by their layout and opens no weights. Needs no torch, so that a command line can ask.
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from echo_cli.errors import MissingError, UsageError, did_you_mean
from echo_cli.machine import platform_folder
from echo_cli.models.files.folders import Layout, block_frames_of, in_blocks, layout_of, spec_in
from echo_cli.models.files.releases import RELEASES
from echo_cli.models.running import Pictures, Running
from echo_cli.models.tiny.parts import WEIGHTS
from echo_cli.plugins import Table
from echo_cli.spec import RANDOM_FRAMEWISE, RANDOM_SMALL, TINY, WAN_1_3B, WAN_1_3B_FRAMEWISE, Grid, ModelSpec
from echo_cli.storyboard.rules import WEIGHTS_FILES

if TYPE_CHECKING:
    from echo_cli.models.backend import Backend
    from echo_cli.runtime import Runtime


class Family(ABC):
    """How the models of one family are used. Only `load` has to be given; the rest has defaults for a small model whose
    weights are always there. Methods other than `load` need no torch."""

    convertible = False  # whether `models convert` can put its weights into our own layout
    takes_generator = False  # whether a generator from another file can replace its transformer
    has_fast = False  # whether its linear layers and attention can be computed in eight bits

    @abstractmethod
    def load(self, model: "Found", runtime: "Runtime", running: Running) -> "Backend":
        """The model on the runtime's device. A MissingError if its weights are missing, a UsageError for a way of
        running that it does not have."""

    def refusal(self, model: "Found", running: Running) -> UsageError | None:
        """The error for a way of running that the model does not have, as far as that is known before loading."""
        return None

    def is_here(self, model: "Found") -> bool:
        """Whether its weights are on this machine."""
        return True

    def digest(self, model: "Found") -> str | None:
        """The hash that the loaded model will have (`Backend.weights_hash`); None if it is known only after loading. A
        MissingError if the weights are damaged."""
        return None

    def decoder_digest(self, model: "Found", pictures: Pictures) -> str | None:
        """The hash of a decoder that stands in for the codec (`Backend.decoder_hash`); None where `digest` has it all.
        A MissingError if its weights are not here."""
        return None

    def check(self, model: "Found") -> Mapping[str, str]:
        """The hash of each part after reading all of it; a MissingError if something is wrong with it."""
        return {"all": self.digest(model) or ""}

    def decoding_bytes(self, model: "Found", grid: Grid, itemsize: int, pictures: Pictures) -> tuple[int, int]:
        """Bytes that the codec keeps on the device, and bytes that decoding a block needs temporarily. Zero for one
        that is too small to matter."""
        return 0, 0

    def unknown_words(self, prompt: str) -> Sequence[str]:
        """Words of a prompt that the model does not know, in order."""
        return ()

    def contradictions(self, prompt: str) -> Sequence[tuple[str, Sequence[str]]]:
        """What a prompt says in several ways of which the model shows one, and those words."""
        return ()


@dataclass(frozen=True, slots=True)
class Model:
    """A model that has a name. `family` is its own family, or the name of one of ours (`loaders.FAMILIES`); `folder`
    holds the weights of a model that comes with its package. A model that is not `listed` is for tests and benches."""

    spec: ModelSpec
    family: str | Family
    folder: Path | None = None
    listed: bool = True


@dataclass(frozen=True, slots=True)
class Found:
    """A model under the name it was requested by. It has no folder if its weights are not here, or it needs none. A
    `generator` from elsewhere takes the place of the transformer in its folder."""

    name: str
    spec: ModelSpec
    folder: Path | None
    layout: Layout | None
    family: str | Family
    generator: Path | None = None


# Another package adds a model under an entry point in this group, which gives its `Model`.
MODELS: Table[Model] = Table("echo_cli.models", Model, {
    TINY.name: Model(TINY, "tiny", WEIGHTS),
    WAN_1_3B.name: Model(WAN_1_3B, "wan"),
    f"{WAN_1_3B.name}-longlive": Model(WAN_1_3B, "wan"),
    f"{WAN_1_3B.name}-causal-forcing": Model(WAN_1_3B, "wan"),
    f"{WAN_1_3B.name}-causal-forcing-framewise": Model(WAN_1_3B_FRAMEWISE, "wan"),
    RANDOM_SMALL.name: Model(RANDOM_SMALL, "random", listed=False),
    RANDOM_FRAMEWISE.name: Model(RANDOM_FRAMEWISE, "random", listed=False),
})


def models_folder(chosen: Path | None = None) -> Path:
    """Where models are kept: `chosen`, else ECHO_MODELS, else the platform's folder for application data."""
    if chosen is not None:
        return chosen
    if folder := os.environ.get("ECHO_MODELS"):
        return Path(folder).expanduser()
    return platform_folder("XDG_DATA_HOME", ".local/share", "Application Support") / "models"


def cache_folder() -> Path:
    """Where caches are kept: ECHO_CACHE, or the platform's cache folder."""
    if folder := os.environ.get("ECHO_CACHE"):
        return Path(folder).expanduser()
    return platform_folder("XDG_CACHE_HOME", ".cache", "Caches")


def is_folder(model: str) -> bool:
    """Whether a model is given as the folder of its weights: by a path, which contains a slash."""
    return "/" in model or "\\" in model


def spec_named(model: str, generator: Path | None = None) -> ModelSpec:
    """The sizes of a model, given by its name, the end of it (wan-1.3b), or the folder of its weights; perhaps with a
    generator from elsewhere."""
    return in_blocks(find(model).spec, block_frames_of(generator))


def find(model: str, models: Path | None = None) -> Found:
    """The model of that name or in that folder; `models` is the models folder."""
    if is_folder(model):
        folder = Path(model).expanduser()
        layout = layout_of(folder)
        if layout is None:
            check_not_a_file(model)
            if not folder.exists():
                _check_not_a_repository(model)
            raise MissingError(
                f"{folder}: no model is in this folder" + ("" if folder.is_dir() else " (there is no such folder)"),
                hint="Give the folder of a model's weights, or one of the names that `echo-cli models list` shows.",
            )
        return _in_folder(model, folder, layout)
    name = {full.replace("2.1-t2v", ""): full for full in MODELS.own}.get(model, model)
    here = folders(models)
    if name in here:
        return _in_folder(name, models_folder(models) / name, here[name])
    if name in MODELS:
        known = MODELS[name]
        return Found(name, known.spec, known.folder, layout_of(known.folder) if known.folder else None, known.family)
    check_not_a_file(model)
    raise UsageError(f"no model is called '{model}'{did_you_mean(model, names(models))}",
                     hint=f"The models are: {', '.join(names(models))}.")


def check_not_a_file(model: str) -> None:
    """A UsageError if it is a single file of weights, or named like one."""
    if model.lower().endswith(WEIGHTS_FILES) or Path(model).expanduser().is_file():
        raise UsageError(
            f"--model {model}: this is one file of weights, and a model is a folder of several",
            hint=f"A generator's checkpoint needs a codec and a text encoder: `echo-cli models get {WAN_1_3B.name}` "
            f"downloads them, and --model {WAN_1_3B.name} --generator FILE uses the checkpoint with them.",
        )


def _check_not_a_repository(model: str) -> None:
    """A MissingError for the id of a repository, naming the model if it is a known one."""
    for name, sources in RELEASES.items():
        if model in [source.repository for source in sources]:
            raise MissingError(f"'{model}' is a repository; its weights are those of the model {name}",
                               hint=f"Use --model {name}, after `echo-cli models get {name}`.")
    if re.fullmatch(r"[\w.-]*[A-Z\d][\w.-]*/[\w.-]*[A-Z\d][\w.-]*", model):
        raise MissingError(
            f"{model}: there is no such folder, and repositories are not read by their ids",
            hint="If it is a repository, download it into a folder, then give --model FOLDER/. The models that "
            f"`echo-cli models get` downloads are {', '.join(RELEASES)}.",
        )


def _in_folder(name: str, folder: Path, layout: Layout) -> Found:
    return Found(name, spec_in(folder, layout), folder, layout, "tiny" if layout is Layout.TRAINED else "wan")


def names(models: Path | None = None, hidden: bool = False) -> tuple[str, ...]:
    """What `--model` takes by name: the models that the program and other packages know, and the folders in the models
    folder. `hidden` adds those for tests and benches."""
    known = (name for name in MODELS if hidden or name not in MODELS.own or MODELS[name].listed)
    return tuple(dict.fromkeys((*known, *folders(models))))


def folders(models: Path | None = None) -> dict[str, Layout]:
    """The folders of models in the models folder, by name. Models that come with this package or another are not looked
    for there."""
    place = models_folder(models)
    fetched = {name for name, model in MODELS.own.items() if model.family == "wan"}
    try:
        inside = sorted(path for path in place.iterdir()
                        if path.is_dir() and (path.name in fetched or path.name not in MODELS))
    except OSError:
        return {}
    return {path.name: layout for path in inside if (layout := layout_of(path))}
