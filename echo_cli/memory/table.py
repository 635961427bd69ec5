"""Every memory policy by name, and how its settings are read. A new policy is a file and a row here.

Other packages add rows through the entry points `echo_cli.policies`, each of which names a `PolicyRow`. Needs no
torch: a policy's class is imported when a film is rendered, not when its settings are checked or its name is listed.
"""

import types
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_type_hints

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.memory.settings import (
    EchoForcingSettings,
    EchoInfinitySettings,
    EchoSettings,
    FlushSettings,
    NothingSettings,
    RecacheSettings,
    SceneQueriesSettings,
    SinkSettings,
    WindowSettings,
    changed,
)
from echo_cli.plugins import Table

if TYPE_CHECKING:
    from echo_cli.memory.policies.base import Policy


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """One memory policy, as everything outside this folder sees it. The settings say what depends on them (whether
    scenes can be recalled, whether trained queries are needed); the policy says what depends on sizes."""

    summary: str  # one line, for help
    settings: type[WindowSettings]
    policy: str  # where its class is, as module:Class

    def __post_init__(self) -> None:
        if not (isinstance(self.settings, type) and issubclass(self.settings, WindowSettings)):
            raise TypeError(f"{getattr(self.settings, '__name__', self.settings)} is no WindowSettings")

    def load(self) -> "type[Policy]":
        module, _, name = self.policy.partition(":")
        cls: type[Policy] = getattr(import_module(module), name)
        return cls


_HOME = "echo_cli.memory.policies"
POLICIES: Table[PolicyRow] = Table("echo_cli.policies", PolicyRow, {
    "window": PolicyRow("the last frames", WindowSettings, f"{_HOME}.base:SlidingPolicy"),
    "sink": PolicyRow("the first frames of the film and the last", SinkSettings, f"{_HOME}.base:SlidingPolicy"),
    "flush": PolicyRow("as sink; a change of prompt leaves only the first frame and the last two", FlushSettings,
                       f"{_HOME}.flush:FlushPolicy"),
    "recache": PolicyRow("as sink; a change of prompt encodes all of it again", RecacheSettings,
                         f"{_HOME}.recache:RecachePolicy"),
    "none": PolicyRow("as sink; a change of prompt leaves nothing", NothingSettings, f"{_HOME}.flush:FlushPolicy"),
    "echo": PolicyRow("as echo-forcing inside a scene; a recalled scene resumes from its first frames", EchoSettings,
                      f"{_HOME}.echo:EchoPolicy"),
    "echo-forcing": PolicyRow("rolling anchors, selected history, recent frames; scenes can be recalled",
                              EchoForcingSettings, f"{_HOME}.echo_forcing:EchoForcingPolicy"),
    "echo-infinity": PolicyRow("the first frames, learned queries that absorb the rest, the last frames",
                               EchoInfinitySettings, f"{_HOME}.echo_infinity:EchoInfinityPolicy"),
    "scene-queries": PolicyRow("learned queries of each scene, which return when it is recalled",
                               SceneQueriesSettings, f"{_HOME}.scene_queries:SceneQueriesPolicy"),
})
DEFAULT_POLICY = "echo"


def settings_type(policy: str) -> type[WindowSettings]:
    if policy not in POLICIES:
        raise UsageError(f"no memory policy is called '{policy}'{did_you_mean(policy, tuple(POLICIES))}",
                         hint=f"The policies are: {', '.join(POLICIES)}.")
    return POLICIES[policy].settings


def policy_type(policy: str) -> "type[Policy]":
    with POLICIES.blamed(policy):
        return POLICIES[policy].load()


def read_settings(policy: str, values: Mapping[str, Any] = types.MappingProxyType({})) -> WindowSettings:
    """The policy's settings with `values` in place of defaults; every wrong key or value in one UsageError."""
    problems: list[str] = []
    settings = changed(settings_type(policy)(), values, f"memory policy '{policy}'", problems)
    if problems:
        raise UsageError(
            "; ".join(problems),
            hint=f"Settings of '{policy}': {', '.join(item.name for item in fields(settings_type(policy)))}.",
        )
    return settings


def setting_names(policy: str) -> tuple[str, ...]:
    """Dotted names of all settings: `recent_frames`, `smooth.clear_after`."""
    def names(cls: Any, prefix: str) -> list[str]:
        out, hints = [], get_type_hints(cls)
        for item in fields(cls):
            nested = hints[item.name]
            deeper = isinstance(nested, type) and is_dataclass(nested)
            out += names(nested, f"{prefix}{item.name}.") if deeper else [prefix + item.name]
        return out

    return tuple(names(settings_type(policy), ""))
