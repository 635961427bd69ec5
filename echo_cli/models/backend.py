"""What a model is to the rest of the program: a transformer, a text encoder, a codec, and one hash for all its weights.

Names of models and where their parts come from are one table here. A backend knows nothing of memory or storyboards.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from echo_cli.errors import MissingError, UsageError
from echo_cli.memory.queries import MemoryQueries
from echo_cli.models.registry import Family, find, models_folder
from echo_cli.models.running import Pictures, Running
from echo_cli.models.spec import WAN_1_3B, ModelSpec
from echo_cli.models.transformer import Transformer
from echo_cli.runtime import Runtime


class TextEncoder(Protocol):
    def prepare(self, prompts: Sequence[str]) -> None:
        """All that will be asked for, before the first of it is: an encoder that is costly to have may go after this."""
        ...

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Text rows [prompt, row, dim]; rows past a prompt's end are zero."""
        ...

    def unknown_words(self, prompt: str) -> Sequence[str]:
        """Words of a prompt that the model has never met, in order."""
        ...


class Codec(Protocol):
    def decode(self, latents: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Latents [batch, frame, channel, height, width] → pictures [batch, picture, 3, y, x] in [0, 1], and the state
        to pass with the next piece of the stream; a stream begins with state None."""
        ...


@dataclass(frozen=True)
class Backend:
    spec: ModelSpec
    transformer: Transformer
    text: TextEncoder
    codec: Codec
    weights_hash: str
    queries: MemoryQueries | None = None  # trained with this transformer, where somebody has
    home: torch.device | None = None  # where remembered frames are kept, if not on the device


def _tiny(runtime: Runtime, folder: Path | None, running: Running) -> Backend:
    from echo_cli.models import tiny

    if running.pictures is Pictures.FAST or running.fast:
        raise UsageError("model 'tiny' is as fast as it can be: it has one decoder, and no layers in eight bits",
                         hint="Leave --decoder and --fast out.")
    return tiny.load(runtime, folder or tiny.WEIGHTS)


def _wan(runtime: Runtime, folder: Path | None, running: Running) -> Backend:
    from echo_cli.models import wan

    if folder is None:
        raise MissingError(f"the weights of Wan 2.1 are not here: nothing is in {models_folder() / WAN_1_3B.name}",
                           hint=f"echo-cli models get {WAN_1_3B.name} fetches them; --model FOLDER/ takes them from elsewhere.")
    return wan.load(runtime, folder, running)


LOADERS: dict[Family, Callable[[Runtime, Path | None, Running], Backend]] = {Family.TINY: _tiny, Family.WAN: _wan}


def load_backend(model: str, runtime: Runtime, running: Running = Running()) -> Backend:
    """A model by its name, or by the folder of its weights, on the runtime's device."""
    found = find(model)
    return LOADERS[found.family](runtime, found.folder, running)


def text_features(text: TextEncoder, prompts: Sequence[str]) -> Tensor:
    """One unit vector a prompt [prompt, dim]: the mean of its non-zero rows."""
    rows = text.encode(prompts).float()
    real = (rows != 0).any(-1, keepdim=True)
    mean = (rows * real).sum(1) / real.sum(1).clamp(min=1)
    return mean / mean.norm(dim=-1, keepdim=True).clamp(min=1e-12)
