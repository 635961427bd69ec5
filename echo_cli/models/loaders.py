"""How a model of each family is loaded, and what its weights are called in a manifest without loading them.

The hash is asked first, so that a finished film is recognised at once: no torch until a model is loaded.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from echo_cli.errors import MissingError, UsageError
from echo_cli.models.registry import Family, find, models_folder
from echo_cli.models.running import Pictures, Running
from echo_cli.models.tiny.parts import WEIGHTS, check
from echo_cli.models.wan.hashes import told_digest
from echo_cli.spec import WAN_1_3B

if TYPE_CHECKING:
    from echo_cli.models.backend import Backend
    from echo_cli.runtime import Runtime


def _tiny(runtime: "Runtime", folder: Path | None, running: Running) -> "Backend":
    from echo_cli.models.tiny import model as tiny

    if running.pictures is Pictures.FAST or running.fast:
        raise UsageError("model 'tiny' is as fast as it can be: it has one decoder, and no layers in eight bits",
                         hint="Leave --decoder and --fast out.")
    return tiny.load(runtime, folder or tiny.WEIGHTS)


def _wan(runtime: "Runtime", folder: Path | None, running: Running) -> "Backend":
    from echo_cli.models.wan import model as wan

    if folder is None:
        raise MissingError(
            f"the weights of Wan 2.1 are not here: nothing is in {models_folder() / WAN_1_3B.name}",
            hint=f"echo-cli models get {WAN_1_3B.name} fetches them; --model FOLDER/ takes them from elsewhere.",
        )
    return wan.load(runtime, folder, running)


LOADERS: dict[Family, Callable[["Runtime", Path | None, Running], "Backend"]] = {Family.TINY: _tiny, Family.WAN: _wan}


def load_backend(model: str, runtime: "Runtime", running: Running = Running()) -> "Backend":
    """A model by its name, or by the folder of its weights, on the runtime's device."""
    found = find(model)
    return LOADERS[found.family](runtime, found.folder, running)


# by the model's family, as the loaders are; one that has none must be loaded to know
HASHES: dict[str, Callable[[Path | None], str | None]] = {
    "tiny": lambda folder: check(folder or WEIGHTS),
    "wan": told_digest,
}


def told_hash(model: str) -> str | None:
    """The hash that the loaded model would have; None where only loading tells. A MissingError when it is not whole."""
    found = find(model)
    told = HASHES.get(found.family)
    return told(found.folder) if told else None
