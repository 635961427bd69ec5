"""The table of memory policies: a name, the class that decides. A new method is one file and one row."""

from collections.abc import Mapping
from types import MappingProxyType

from echo_cli.memory.policies.base import Plan, Policy, Sliding
from echo_cli.memory.policies.echo_forcing import EchoForcing
from echo_cli.memory.policies.echo_infinity import EchoInfinity
from echo_cli.memory.policies.flush import Flushing
from echo_cli.memory.policies.recache import Recaching
from echo_cli.memory.policies.scene_queries import SceneQueries
from echo_cli.memory.settings import Window, settings_type
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import Timeline

POLICIES: dict[str, type[Policy]] = {
    "window": Sliding,
    "sink": Sliding,
    "flush": Flushing,
    "recache": Recaching,
    "none": Flushing,
    "echo-forcing": EchoForcing,
    "echo-infinity": EchoInfinity,
    "scene-queries": SceneQueries,
}


def make_policy(name: str, settings: Window, spec: ModelSpec, timeline: Timeline,
                recalls: Mapping[int, Recall] = MappingProxyType({}), queries: MemoryQueries | None = None) -> Policy:
    """A policy for one run, or a UsageError that says which settings cannot be. `queries` are those learned for the
    model; policies that live by them begin with unlearned ones where there are none."""
    assert type(settings) is settings_type(name), f"settings of '{name}' are {settings_type(name).__name__}"
    return POLICIES[name](name, settings, Plan(spec, timeline, recalls, queries))
