"""The memory policies, and how one is made for a run."""

from collections.abc import Collection, Mapping
from types import MappingProxyType

from echo_cli.memory.policies.base import Plan, Policy
from echo_cli.memory.settings import WindowSettings
from echo_cli.memory.table import policy_type, settings_type
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import Timeline


def make_policy(name: str, settings: WindowSettings, spec: ModelSpec, timeline: Timeline,
                recalls: Mapping[int, Recall] = MappingProxyType({}), queries: MemoryQueries | None = None,
                open_ends: frozenset[int] = frozenset(), lasting: Collection[int] = ()) -> Policy:
    """A policy for one run, or a UsageError that says which settings are impossible. `queries` are those learned for
    the model; a policy that uses queries begins with untrained ones if there are none. `open_ends` are the scenes that
    an edit may replace, `lasting` those that a film which continues this one may recall."""
    assert type(settings) is settings_type(name), f"settings of '{name}' are {settings_type(name).__name__}"
    return policy_type(name)(name, settings, Plan(spec, timeline, recalls, queries, open_ends, tuple(lasting)))
