"""A film's plan: which scene each recall brings back, and the policy that will remember. Decided before any frame.

Joins a timeline, a memory policy and a backend; what comes of them is `rollout`.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from echo_cli.errors import MissingError
from echo_cli.memory.policies import make_policy
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.settings import RECALLING, EchoInfinity, Window
from echo_cli.models.backend import Backend, TextEncoder, text_features
from echo_cli.rollout.rollout import Begun, BlockResult, rollout
from echo_cli.runtime import KeyedNoise, Noise
from echo_cli.storyboard.matching import Similarities, plan_recalls, similarities, stripped
from echo_cli.storyboard.nouns import Kind, Timeline


def plan_policy(name: str, settings: Window, backend: Backend, timeline: Timeline) -> Policy:
    """The policy of one run, told which scenes will be recalled and how like them the recalling prompts are."""
    if isinstance(settings, EchoInfinity) and settings.trained and backend.queries is None:
        raise MissingError(
            f"memory policy '{name}' lives by learned queries, but nobody has trained any for these weights of "
            f"model '{backend.spec.name}'",
            hint="Train them (echo-cli train --memory echo-infinity), or see what unlearned ones do: "
            "--set memory.trained=false.",
        )
    prompts = [scene.prompt for scene in timeline.scenes]
    by_embedding = isinstance(settings, RECALLING) and settings.match == "embedding"
    if by_embedding and any(scene.transition is Kind.RECALL for scene in timeline.scenes):
        likeness: Similarities = Products(text_features(backend.text, stripped(prompts)))
    else:
        likeness = similarities(prompts)
    pool = settings.library if isinstance(settings, RECALLING) else len(prompts)
    return make_policy(name, settings, backend.spec, timeline, plan_recalls(timeline.scenes, likeness, pool),
                       backend.queries)


class Products:
    """Rows of the products of features [scene, dim] with one another; each is computed when a scene asks for it."""

    def __init__(self, features: Tensor) -> None:
        self._features = features

    def __getitem__(self, scene: int, /) -> list[float]:
        return (self._features @ self._features[scene]).tolist()


class Rows(Sequence[Tensor]):
    """The text rows of every scene [1, row, dim], given when a scene asks: a film may have more scenes than memory."""

    def __init__(self, text: TextEncoder, prompts: Sequence[str]) -> None:
        text.prepare(prompts)
        self._text, self._prompts = text, prompts

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, scene: int) -> Tensor:
        return self._text.encode([self._prompts[scene]])


def film(backend: Backend, timeline: Timeline, policy: Policy, seed: int, size: tuple[int, int] | None = None,
         noise: Noise | None = None, begun: Begun | None = None) -> Iterator[BlockResult]:
    """The blocks of a timeline, at `size` pixels or the model's own; with `begun`, those that are missing."""
    rows = Rows(backend.text, [scene.prompt for scene in timeline.scenes])
    return rollout(timeline, backend.transformer, rows, policy, noise or KeyedNoise(seed, timeline.scenes),
                   backend.spec.grid(size), home=backend.home, begun=begun)
