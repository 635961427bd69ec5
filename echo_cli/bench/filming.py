"""Films of a scenario under a policy, many seeds at once; only the pictures that are judged are decoded.

Each film is the one that `generate` would render from its story: its own noise, its own prompts, its own recalls; or it
continues the beginning of a given one. Does not know what the pictures are measured for.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from echo_cli.bench.contestants import Contestant
from echo_cli.bench.scenarios import Scenario, geometry_for, timeline_for
from echo_cli.memory.policies.base import Policy
from echo_cli.memory.table import read_settings
from echo_cli.models.backend import Backend
from echo_cli.rollout.plan import plan_policy
from echo_cli.rollout.rollout import Given, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Block, Scene, Timeline
from echo_cli.world.draw import reduced


@dataclass(frozen=True)
class Take:
    """The decoded part of one film: its pictures [picture, 3, y, x] in 0..255 by block of the scenario, and what it
    cost."""

    seed: int
    pictures: Mapping[int, Tensor]
    bytes: int  # the most that memory's tensors ever held
    seconds: float  # processor or device time of a block, without the decoder
    latents: Tensor  # [frame, channel, y, x]

    def of(self, blocks: Sequence[int]) -> Tensor:
        """The pictures of some blocks in [0, 1]."""
        return torch.cat([self.pictures[block] for block in blocks]).float() / 255


@dataclass(frozen=True)
class EachItsOwn:
    """The noise of several films, each keyed by its own seed: a film does not change with its neighbours."""

    seeds: tuple[int, ...]
    scenes: tuple[Scene, ...]

    def __call__(self, block: Block, step: int, shape: Sequence[int]) -> Tensor:
        return torch.cat([KeyedNoise(seed, self.scenes)(block, step, (1, *shape[1:])) for seed in self.seeds])


def takes(backend: Backend, scenario: Scenario, contestant: Contestant, stories: Mapping[int, Sequence[str]],
          wanted: Collection[int], given: Mapping[int, Take] = MappingProxyType({})) -> dict[int, Take]:
    """A take of the story of each seed, with the pictures of the `wanted` blocks. All scenes but the last are those of
    a `given` take of the same story, if there is one."""
    alike: dict[tuple[int | None, ...], dict[int, tuple[Timeline, Policy]]] = {}
    settings = read_settings(contestant.policy, contestant.settings_for(scenario, backend.spec))
    for seed, prompts in stories.items():
        timeline = timeline_for(scenario, prompts, backend.spec)
        policy = plan_policy(contestant.policy, settings, backend, timeline)
        # positions are decided once for a whole batch
        alike.setdefault(tuple(policy.jumps.values()), {})[seed] = timeline, policy
    made: dict[int, Take] = {}
    for policies in alike.values():
        timeline, policy = next(iter(policies.values()))
        made |= _together(backend, timeline, policy, {seed: stories[seed] for seed in policies}, wanted,
                          [given[seed].latents for seed in policies if given])
    return {seed: made[seed] for seed in stories}


@torch.inference_mode()
def _together(backend: Backend, timeline: Timeline, policy: Policy, stories: Mapping[int, Sequence[str]],
              wanted: Collection[int], given: Sequence[Tensor]) -> dict[int, Take]:
    rows = [backend.text.encode(list(prompts)) for prompts in zip(*stories.values(), strict=True)]
    noise = EachItsOwn(tuple(stories), timeline.scenes)
    pictures: list[dict[int, list[Tensor]]] = [{} for _ in stories]
    each_block = geometry_for(backend.spec).block_frames // backend.spec.block_frames  # of a scenario
    latents: list[Tensor] = []

    def opening(scene: int) -> Given | None:
        if not given or scene == len(timeline.scenes) - 1:
            return None
        frames = timeline.frames_of(scene)
        return Given(torch.stack([each[frames.start:frames.stop] for each in given]))

    held, spent, began = 0, [], time.process_time()
    state, before, cuda = None, None, backend.transformer.device.type == "cuda"
    for result in rollout(timeline, backend.transformer, rows, policy, noise, backend.spec.grid(), len(stories),
                          openings=opening):
        latents.append(result.latents)
        spent.append(sum(result.times.read().values()) / 1000 if cuda else time.process_time() - began)
        held = max(held, result.bytes)
        index = result.block.index // each_block
        if index not in wanted:
            state, before = None, result.latents
        else:
            if state is None and before is not None:  # a decoder with a state is shown what came before
                _, state = backend.codec.decode(before, None)
            seen, state = backend.codec.decode(result.latents, state)
            seen = reduced(seen, backend.spec.detail)
            for film, made in zip(pictures, (seen * 255).round().byte().cpu(), strict=True):
                film.setdefault(index, []).append(made)
        began = time.process_time()
    seconds = each_block * sorted(spent)[len(spent) // 2] / len(stories)
    films = zip(stories, pictures, torch.cat(latents, 1), strict=True)
    return {seed: Take(seed, {index: torch.cat(made) for index, made in film.items()}, held // len(stories), seconds,
                       whole) for seed, film, whole in films}
