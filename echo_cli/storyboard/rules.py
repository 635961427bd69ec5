"""What a storyboard may ask for, passed in from above: names of models and policies, sizes, settings.

The parser knows no model and no policy; its caller passes plain tables. `Rules()` accepts every name.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from echo_cli.storyboard.nouns import Continued, Geometry, Kind

WEIGHTS_FILES = (".pt", ".pth", ".ckpt", ".bin", ".gguf", ".safetensors")


class Model(Protocol):
    """What the parser knows of a model. `grid` raises an EchoError for sizes that it cannot render; `was_seen` says
    whether pictures of a size look right; `sized` is the size of a shape."""

    @property
    def name(self) -> str: ...

    @property
    def geometry(self) -> Geometry: ...

    def grid(self, size: tuple[int, int] | None = None) -> object: ...

    def was_seen(self, size: tuple[int, int]) -> bool: ...

    def sized(self, aspect: tuple[int, int]) -> tuple[int, int]: ...


def any_setting(policy: str, kind: Kind | None, values: Mapping[str, Any]) -> list[str]:
    return []


def any_file(what: str, path: Path, begins: float | None = None) -> str | None:
    return None


def any_film(path: str, folder: Path, state: bool) -> Continued:
    return Continued(path, Path(path).stem, path, state=state)


@dataclass(frozen=True)
class Rules:
    """`setting_problems(policy, kind, values)` lists what is wrong with a policy's settings or its `kind` of cut;
    `file_problem(what, path, begins)` says why a file cannot be the `what` (the key that names it) of a film, a clip
    from second `begins` on; `continued(path, folder, state)` is the film at a path in a folder, with the memory beside
    it or without, or a UsageError."""

    models: Mapping[str, Model] = field(default_factory=dict)
    policies: Sequence[str] = ()
    setting_problems: Callable[[str, Kind | None, Mapping[str, Any]], list[str]] = any_setting
    file_problem: Callable[[str, Path, float | None], str | None] = any_file
    continued: Callable[[str, Path, bool], Continued] = any_film
    default_model: str = ""
    default_policy: str = ""
    model: str | None = None  # the model that will be used, whatever the storyboard says

    def model_for(self, asked: str | None) -> Model | None:
        return self.models.get(self.model or asked or self.default_model)
