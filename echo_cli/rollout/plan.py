"""A film's plan: which scene each recall brings back, and the policy that will remember. Decided before any frame.

Joins a timeline, a memory policy and a backend; `rollout` generates the film from them.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor

from echo_cli.errors import MissingError
from echo_cli.memory.entries import SceneEntry
from echo_cli.memory.policies import make_policy
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.recorder import Shelf
from echo_cli.memory.settings import WindowSettings
from echo_cli.models.backend import Backend, TextEncoder, text_features
from echo_cli.rollout.rollout import Begun, BlockResult, Given, rollout
from echo_cli.runtime import KeyedNoise, Noise
from echo_cli.spec import ModelSpec
from echo_cli.storyboard.matching import Recall, Similarities, recalls_in, similarities, stripped
from echo_cli.storyboard.nouns import Timeline


def plan_policy(name: str, settings: WindowSettings, backend: Backend, timeline: Timeline,
                open_ends: frozenset[int] = frozenset(), lasting: Collection[int] = ()) -> Policy:
    """The policy of one run, which knows the scenes that will be recalled and how similar their prompts are, and keeps
    what an edit of the scenes in `open_ends` would need, and the scenes in `lasting` for a film that continues it."""
    if settings.needs_queries and backend.queries is None:
        raise MissingError(
            f"memory policy '{name}' needs learned queries, but none have been trained for these weights of "
            f"model '{backend.spec.name}'",
            hint="Train them (echo-cli train --memory echo-infinity), or try untrained ones with "
            "--set memory.trained=false.",
        )
    likeness = None
    if _by_embedding(settings, timeline):
        likeness = Products(text_features(backend.text, stripped(timeline.prompts)), _pool(settings))
    recalls = _recalls(settings, timeline, likeness)
    return make_policy(name, settings, backend.spec, timeline, recalls, backend.queries, open_ends, lasting)


def plan_without_model(name: str, settings: WindowSettings, spec: ModelSpec, timeline: Timeline,
                       open_ends: frozenset[int], lasting: Collection[int]) -> Policy | None:
    """The policy that `plan_policy` returns, but without queries: it can be asked, not used. None if its recalls depend
    on the model."""
    if _by_embedding(settings, timeline):
        return None
    return make_policy(name, settings, spec, timeline, _recalls(settings, timeline), open_ends=open_ends,
                       lasting=lasting)


def _by_embedding(settings: WindowSettings, timeline: Timeline) -> bool:
    recalling = settings.recalling
    return (recalling is not None and recalling.match == "embedding"
            and any(scene.recalls for scene in timeline.scenes))


def _pool(settings: WindowSettings) -> int:
    """How many scenes are candidates: a policy that keeps none looks at none."""
    return settings.recalling.library if settings.recalling else 1


def _recalls(settings: WindowSettings, timeline: Timeline,
             likeness: Similarities | None = None) -> Mapping[int, Recall]:
    recalling = settings.recalling
    likeness = likeness or similarities(timeline.prompts, recalling.match if recalling else "idf")
    least = recalling.least if recalling else 0.0
    return recalls_in(timeline, likeness, _pool(settings), least)


class Products:
    """Rows of the pairwise products of features [scene, dim]. Those with the `pool` scenes before the row's own are
    computed in advance, all others on demand."""

    def __init__(self, features: Tensor, pool: int) -> None:
        self._features, self._pool = features, pool

    def __getitem__(self, scene: int, /) -> "ProductRow":
        return ProductRow(self._features, scene, max(0, scene - self._pool))


class ProductRow:
    """The products of one scene's features with those of each scene; `near` are those from `first` to the scene."""

    def __init__(self, features: Tensor, scene: int, first: int) -> None:
        self._features, self._scene, self.first = features, scene, first
        self.near: list[float] = (features[first:scene + 1] @ features[scene]).tolist()

    def __getitem__(self, other: int, /) -> float:
        if self.first <= other <= self._scene:
            return self.near[other - self.first]
        return float(self._features[other] @ self._features[self._scene])


class Rows:
    """The text rows of every scene [1, row, dim], computed when a scene needs them: a film may have too many scenes to
    hold them all."""

    def __init__(self, text: TextEncoder, prompts: Sequence[str]) -> None:
        text.prepare(prompts)
        self._text, self._prompts = text, prompts

    def __getitem__(self, scene: int, /) -> Tensor:
        return self._text.encode([self._prompts[scene]])


def film(backend: Backend, timeline: Timeline, policy: Policy, seed: int, size: tuple[int, int] | None = None,
         noise: Noise | None = None, begun: Begun | None = None, past: Mapping[int, SceneEntry] = MappingProxyType({}),
         shelf: Shelf | None = None,
         openings: Callable[[int], Given | None] = lambda scene: None) -> Iterator[BlockResult]:
    """The blocks of a timeline, at `size` pixels or the model's own; with `begun`, only the missing ones. `past` are
    the scenes of other films that it recalls, `shelf` is where its own scenes are put for others, and `openings` says
    what a scene begins with."""
    rows = Rows(backend.text, [scene.prompt for scene in timeline.scenes])
    return rollout(timeline, backend.transformer, rows, policy, noise or KeyedNoise(seed, timeline.scenes),
                   backend.spec.grid(size), home=backend.home, begun=begun, past=past, shelf=shelf,
                   openings=openings)
