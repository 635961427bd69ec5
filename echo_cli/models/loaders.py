"""The families of models, one row each, and how a model is loaded by its name.

A family also knows the hash of a model's weights without loading it, so that a finished film is recognised at once:
torch is imported only when a model is loaded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from echo_cli.errors import MissingError, UsageError
from echo_cli.models.files.download import halves
from echo_cli.models.files.folders import adapter_beside
from echo_cli.models.files.hashes import forget, remember
from echo_cli.models.registry import Family, Found, find, models_folder
from echo_cli.models.running import Pictures, Running
from echo_cli.models.tiny.parts import check, index, part_path
from echo_cli.models.tiny.words import contradictions, unknown_words
from echo_cli.models.wan.hashes import decoder_digest, folder_digest
from echo_cli.spec import WAN_1_3B, Grid

if TYPE_CHECKING:
    from echo_cli.models.backend import Backend
    from echo_cli.models.files.tensors import Tensors
    from echo_cli.models.wan.weights import Choice
    from echo_cli.runtime import Runtime


class Tiny(Family):
    """The embedded model, or one trained in the same way."""

    def refusal(self, model: Found, running: Running) -> UsageError | None:
        if running.pictures is Pictures.FULL and not running.fast:
            return None
        return UsageError(f"model '{model.name}' has only one decoder and no layers in eight bits",
                          hint="Leave out --decoder and --fast.")

    def load(self, model: Found, runtime: "Runtime", running: Running) -> "Backend":
        from echo_cli.models.tiny.model import load

        if refusal := self.refusal(model, running):
            raise refusal
        assert model.folder is not None, "a model of this family always has a folder"
        return load(runtime, model.folder)

    def digest(self, model: Found) -> str | None:
        assert model.folder is not None
        return check(model.folder)

    def check(self, model: Found) -> Mapping[str, str]:
        from echo_cli.models.files.tensors import Safetensors

        assert model.folder is not None
        hashes = {"all": check(model.folder), **index(model.folder)["sha256"]}
        _read_through(*(Safetensors([part_path(model.folder, part)]) for part in hashes if part != "all"))
        return hashes

    def unknown_words(self, prompt: str) -> Sequence[str]:
        return unknown_words(prompt)

    def contradictions(self, prompt: str) -> Sequence[tuple[str, Sequence[str]]]:
        return contradictions(prompt)


class Wan(Family):
    """Wan 2.1 text to video and its variants, in any of the layouts that `files.folders` reads."""

    convertible = True
    takes_generator = True
    has_fast = True

    def load(self, model: Found, runtime: "Runtime", running: Running) -> "Backend":
        from echo_cli.models.wan.model import load

        if model.folder is None:
            raise MissingError(
                f"the weights of {model.name} are not here: nothing is in {models_folder() / model.name}",
                hint=f"Download them with `echo-cli models get {model.name}`, or use your own with --model FOLDER/.")
        return load(runtime, model.folder, running, _choice(model))

    def is_here(self, model: Found) -> bool:
        return model.folder is not None

    def digest(self, model: Found) -> str | None:
        return folder_digest(model.folder, model.generator)

    def decoder_digest(self, model: Found, pictures: Pictures) -> str | None:
        return decoder_digest(model.folder, pictures) if model.folder else None

    def check(self, model: Found) -> Mapping[str, str]:
        from echo_cli.models.files.tensors import read_through
        from echo_cli.models.wan.weights import open_weights

        if model.folder is None:
            raise MissingError(f"model '{model.name}' is not in {models_folder()}",
                               hint=f"Download it with `echo-cli models get {model.name}`.")
        if half := halves(model.folder):
            raise MissingError(f"{half[0]}: half a file, left by an interrupted download or conversion",
                               hint="Run `echo-cli models get` to resume the download, or convert the model again.")
        for path in model.folder.rglob("*"):
            forget(path)
        weights = open_weights(model.folder)
        for path, tensors in weights.files_of_tensors():
            remember(path, read_through(path, tensors))
        return {"all": weights.digest, **weights.hashes}

    def decoding_bytes(self, model: Found, grid: Grid, itemsize: int, pictures: Pictures) -> tuple[int, int]:
        from echo_cli.models.wan.codec import room as full_codec
        from echo_cli.models.wan.fast_decoder import room as fast_decoder
        from echo_cli.models.wan.weights import codec_config, open_weights

        if model.folder is None:
            return 0, 0
        if pictures is Pictures.FAST:
            return fast_decoder(model.spec.channels, grid.height, grid.width, itemsize)
        weights = open_weights(model.folder, _choice(model))
        light = weights.light_codec if pictures is Pictures.LIGHT else None
        return full_codec(codec_config(light) if light else weights.codec_config, grid.height, grid.width, itemsize)


class RandomSmall(Tiny):
    """A model with the parts of the embedded one, a fraction of its size and random weights: its films are noise and
    are rendered in no time. For tests, and for benches that compare files."""

    DIGEST = "random-small"

    def load(self, model: Found, runtime: "Runtime", running: Running) -> "Backend":
        from echo_cli.models.tiny.random import load

        return load(model.spec, runtime, self.DIGEST)

    def digest(self, model: Found) -> str | None:
        return self.DIGEST

    def check(self, model: Found) -> Mapping[str, str]:
        return {"all": self.DIGEST}


GENERATORS = (".pt", ".pth", ".safetensors", ".safetensors.index.json")  # how the file of one ends

FAMILIES: dict[str, Family] = {"tiny": Tiny(), "wan": Wan(), "random": RandomSmall()}


def family_of(model: Found) -> Family:
    return FAMILIES[model.family] if isinstance(model.family, str) else model.family


def _read_through(*parts: "Tensors") -> None:
    """Read every tensor once: a MissingError names one that holds numbers that are not finite."""
    from echo_cli.models.files.tensors import Numbers

    for part in map(Numbers, parts):
        for name in part.names():
            part.read(name)


def locate(model: str, generator: Path | None = None) -> Found:
    """A model by its name, or by the folder of its weights; perhaps with a generator from another file."""
    located = find(model)
    if generator is None:
        return located
    if not family_of(located).takes_generator:
        raise UsageError(f"model '{model}' takes no generator, so --generator {generator} cannot be used with it",
                         hint=f"Add --model {WAN_1_3B.name}, or leave --generator out.")
    if not generator.name.lower().endswith(GENERATORS):
        raise UsageError(f"--generator {generator}: not a generator's checkpoint",
                         hint=f"Name a file that ends in {', '.join(GENERATORS)}.")
    return replace(located, generator=generator)


def load_backend(model: str, runtime: "Runtime", running: Running = Running(),
                 generator: Path | None = None) -> "Backend":
    """The model that `locate` finds, on the runtime's device."""
    located = locate(model, generator)
    return family_of(located).load(located, runtime, running)


def known_digest(model: str, generator: Path | None = None) -> str | None:
    """The hash that the loaded model would have; None if it is known only after loading. A MissingError if it is
    damaged."""
    located = locate(model, generator)
    return family_of(located).digest(located)


def known_decoder(model: str, pictures: Pictures) -> str | None:
    """The hash of the decoder that stands in for the model's codec; None for the codec itself. A MissingError if its
    weights are not here."""
    located = find(model)
    return family_of(located).decoder_digest(located, pictures)


def _choice(model: Found) -> "Choice":
    """How the weights in the model's folder are read: with a generator from elsewhere, and the adapter beside it."""
    from echo_cli.models.wan.weights import Choice

    return Choice(model.generator, adapter_beside(model.generator)) if model.generator else Choice()
