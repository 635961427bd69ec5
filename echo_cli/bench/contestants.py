"""What is measured: every memory policy, each setting of `echo-forcing` beyond the release, and rows to compare with.

`one-frame` is the plainest recall: one raw frame, which does not fade. `everything` is a window as long as the film:
nothing is forgotten, though the model was trained for less. `never-left` is the ceiling: the place that returns is not
left at all. A setting that cannot act in a scenario gives the same film as `echo-forcing`, so it is not
rendered again; `differs` says when. Host integers and settings; no tensor.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from echo_cli.bench.scenarios import Scenario, geometry_for
from echo_cli.errors import UsageError, did_you_mean
from echo_cli.memory.table import DEFAULT_POLICY, POLICIES, read_settings, settings_type
from echo_cli.render.assignments import read_assignments
from echo_cli.spec import ModelSpec

BLANK = "none"  # the prompt alone: what every other memory is measured against


@dataclass(frozen=True)
class Contestant:
    """A policy with some settings; `parts` names the settings beyond the release that are on."""

    name: str
    policy: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    stays: bool = False  # its films never leave the place that returns
    whole: bool = False  # its window is as long as the film

    def takes_part(self, scenario: Scenario, spec: ModelSpec) -> bool:
        """Whether the scenario says anything about it, and the model can."""
        if self.whole:
            return scenario.returns and spec.window < _frames(scenario, spec) <= spec.positions
        return not self.stays or (scenario.returns and not scenario.shared)

    def settings_for(self, scenario: Scenario, spec: ModelSpec) -> Mapping[str, Any]:
        return {**self.settings, "window": _frames(scenario, spec)} if self.whole else self.settings

    def differs(self, scenario: Scenario, spec: ModelSpec) -> bool:
        """Whether its film of the scenario can differ from that of the contestant it varies."""
        if self.parts:
            return any(_ACTS[part](scenario, spec) for part in self.parts)
        # With nothing to forget, `none` is `sink`.
        return self.policy != BLANK or len(scenario.acts) > 1


BEYOND: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "gate_on_clean": {"gate_on_clean": True},
    "true_places": {"true_places": True},
    "suppress": {"forgetting": "suppress"},
    "nearest_anchor": {"nearest_anchor": True},
    "jump_by_gap": {"jump_by_gap": True},
    "whole_scene": {"candidates_from_whole_scene": True},
    "no_duplicates": {"no_duplicates": True},
})
TOGETHER = "together"
VARIED = "echo-forcing"  # whose settings go beyond the release
COMPARED = ("one-frame", "everything", "never-left")


def _frames(scenario: Scenario, spec: ModelSpec) -> int:
    return scenario.blocks * geometry_for(spec).block_frames


def _rolls(scenario: Scenario, spec: ModelSpec) -> bool:
    """Some scene outlasts the window, so that anchors roll and history is selected."""
    return any(act.blocks * geometry_for(spec).block_frames > spec.window for act in scenario.acts)


def _changes(scenario: Scenario, spec: ModelSpec) -> bool:
    return len(scenario.acts) > 1


def _chains(scenario: Scenario, spec: ModelSpec) -> bool:
    """Two smooth changes in a row: from the second on, the chain's first scene is not the nearest."""
    return any(one.continues and other.continues for one, other in itertools.pairwise(scenario.acts))


def _returns(scenario: Scenario, spec: ModelSpec) -> bool:
    return any(act.returns for act in scenario.acts)


def _remembers_a_late_frame(scenario: Scenario, spec: ModelSpec) -> bool:
    """Some scene's recall frame is used, and the scene is longer than the twelve frames that the release considers."""
    head, wanted = 0, set()
    for index, act in enumerate(scenario.acts):
        if index:
            wanted.add(scenario.first_in(act.place) if act.returns else index - 1 if act.cuts else head)
        head = head if act.continues else index
    return any(scenario.counts[scene] * geometry_for(spec).block_frames > 12 for scene in wanted)


_ACTS: Mapping[str, Callable[[Scenario, ModelSpec], bool]] = {
    "gate_on_clean": _rolls,
    "true_places": _rolls,
    "no_duplicates": _rolls,
    "suppress": _changes,
    "nearest_anchor": _chains,
    "jump_by_gap": _returns,
    "whole_scene": _remembers_a_late_frame,
}


def _with(name: str, *parts: str) -> Contestant:
    return Contestant(name, VARIED, {key: value for part in parts for key, value in BEYOND[part].items()}, parts)


CONTESTANTS: Mapping[str, Contestant] = MappingProxyType(
    {
        each.name: each
        for each in (
            *(Contestant(name, name) for name in POLICIES),
            *(_with(f"+{part}", part) for part in BEYOND),
            _with(f"+{TOGETHER}", *BEYOND),
            Contestant("one-frame", VARIED, {"recall": {"source": "select", "strategy": "fixed"}}),
            Contestant("everything", "window", whole=True),
            Contestant("never-left", DEFAULT_POLICY, stays=True),
        )
    }
)


def contestant(name: str) -> Contestant:
    """By name; settings may be joined, as in +jump_by_gap+whole_scene, or follow a policy, as in
    echo-infinity:update=initial."""
    parts = name.split("+")[1:]
    if name.startswith("+") and len(parts) > 1 and set(parts) <= set(BEYOND):
        return _with(name, *parts)
    policy, colon, said = name.partition(":")
    if colon and policy in POLICIES:
        values = read_assignments([f"memory.{part}" for part in said.split(",")], policy)
        read_settings(policy, values)
        return Contestant(name, policy, values)
    if name not in CONTESTANTS:
        raise UsageError(
            f"no policy or setting is called '{name}'{did_you_mean(name, tuple(CONTESTANTS))}",
            hint=f"There are {', '.join(CONTESTANTS)}. Settings may be joined, as in +jump_by_gap+whole_scene, and "
            "any may follow a memory, as in echo-infinity:update=initial.",
        )
    if name in POLICIES:
        settings_type(name)  # a package that cannot be loaded is an error before anything is rendered
    return CONTESTANTS[name]
