"""What storyboards may ask for, from the tables of models and memory policies; no torch."""

from collections.abc import Iterator, Mapping
from typing import Any

from echo_cli.memory.settings import DEFAULT_POLICY, SETTINGS, EchoForcing, changed, settings_type
from echo_cli.models.registry import is_folder, names, spec_named
from echo_cli.spec import DEFAULT_MODEL, ModelSpec
from echo_cli.storyboard.nouns import Kind
from echo_cli.storyboard.rules import Rules


class Models(Mapping[str, ModelSpec]):
    """Every model by its name, and any folder of weights by its path."""

    def __getitem__(self, model: str) -> ModelSpec:
        if is_folder(model) or model in names():
            return spec_named(model)
        raise KeyError(model)

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())


def storyboard_rules(model: str | None = None) -> Rules:
    """The rules of this installation; `model` is the one that will be used whatever the storyboard says."""
    return Rules(models=Models(), policies=tuple(SETTINGS), setting_problems=_setting_problems,
                 default_model=DEFAULT_MODEL, default_policy=DEFAULT_POLICY, model=model)


def _setting_problems(policy: str, kind: Kind | None, values: Mapping[str, Any]) -> list[str]:
    settings: Any = settings_type(policy)()
    where = f"memory policy '{policy}'"
    if kind is not None:
        if not isinstance(settings, EchoForcing):
            return [f"{where} has no settings for a single transition"]
        settings, where = settings.cut(kind), f"a {kind} transition of '{policy}'"
    problems: list[str] = []
    changed(settings, values, where, problems)
    return problems
