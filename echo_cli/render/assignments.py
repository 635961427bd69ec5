"""Settings of a memory as NAME=VALUE, written and read: `memory.smooth.recent_frames=3`.

So the command line gives them, and manifests and planned commands keep them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.memory.table import setting_names


def assignments(settings: Mapping[str, Any] | Sequence[str]) -> tuple[str, ...]:
    """As NAME=VALUE; a mapping may nest, as the storyboard's `memory` does."""
    if isinstance(settings, Mapping):
        return tuple(_assigned(settings, "memory"))
    words = (settings,) if isinstance(settings, str) else tuple(settings)
    for word in words:
        _check_name(word)
    return words


def _check_name(word: Any) -> None:
    if not isinstance(word, str):
        raise UsageError(f"--set {word!r:.60}: must be NAME=VALUE", "Write NAME=VALUE, such as memory.recent_frames=3.")


def _assigned(settings: Mapping[str, Any], within: str) -> list[str]:
    words: list[str] = []
    for name, value in settings.items():
        _check_name(name)
        full = name if name == within or name.startswith("memory.") else f"{within}.{name}"
        words += _assigned(value, full) if isinstance(value, Mapping) else [f"{full}={_json(full, value)}"]
    return words


def _json(setting: str, value: Any) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        raise UsageError(f"--set {setting}: {value!r:.60} is no value of a setting",
                         "Give a number, a text, True or False.") from None


def read_assignments(words: Sequence[str], policy: str, option: str = "--set ") -> dict[str, Any]:
    """Nested values; a wrong name is answered with the nearest right one. Errors begin with the option, if one gave
    them."""
    import yaml

    settings = setting_names(policy)
    known = [f"memory.{name}" for name in settings]
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise UsageError(f"{option}{word}: it has no '='", "Write NAME=VALUE, such as memory.recent_frames=3.")
        if key not in known:
            near = did_you_mean(key, settings, "memory.")
            groups = dict.fromkeys(name if name.count(".") == 1 else f"{name.rpartition('.')[0]}.…" for name in known)
            raise UsageError(f"{option}{word}: there is no setting '{key}' of {policy}{near}",
                             "Write NAME=VALUE" + ("." if near else f"; settings are {', '.join(groups)}."))
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        for part in reversed(key.split(".")[1:]):
            value = {part: value}
        values = merged(values, value)
    return values


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    joined = dict(below)
    for key, value in above.items():
        under = joined.get(key)
        joined[key] = merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return joined
