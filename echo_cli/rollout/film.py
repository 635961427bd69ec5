"""A film's plan: which scene each recall brings back, and the policy that will remember. Decided before any frame.

Joins a timeline, a memory policy and a backend; what comes of them is `rollout`.
"""

from collections.abc import Iterator

from echo_cli.memory.policies import make_policy
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.settings import EchoForcing, Window
from echo_cli.models.backend import Backend, text_features
from echo_cli.rollout.rollout import BlockResult, rollout
from echo_cli.runtime import KeyedNoise, Noise
from echo_cli.storyboard.matching import plan_recalls, similarities, stripped
from echo_cli.storyboard.nouns import Kind, Timeline


def plan_policy(name: str, settings: Window, backend: Backend, timeline: Timeline) -> Policy:
    """The policy of one run, told which scenes will be recalled and how like them the recalling prompts are."""
    prompts = [scene.prompt for scene in timeline.scenes]
    by_embedding = isinstance(settings, EchoForcing) and settings.match == "embedding"
    if by_embedding and any(scene.transition is Kind.RECALL for scene in timeline.scenes):
        features = text_features(backend.text, stripped(prompts))
        likeness = (features @ features.T).tolist()
    else:
        likeness = similarities(prompts)
    pool = settings.library if isinstance(settings, EchoForcing) else len(prompts)
    return make_policy(name, settings, backend.spec, timeline, plan_recalls(timeline.scenes, likeness, pool))


def film(backend: Backend, policy: Policy, seed: int, size: tuple[int, int] | None = None,
         noise: Noise | None = None) -> Iterator[BlockResult]:
    """The blocks of the policy's timeline, at `size` pixels or the model's own; prompts are read once, before the first."""
    rows = backend.text.encode([scene.prompt for scene in policy.timeline.scenes])
    noise = noise or KeyedNoise(seed, policy.timeline.scenes)
    return rollout(backend.transformer, [row[None] for row in rows], policy, noise, backend.spec.grid(size))
