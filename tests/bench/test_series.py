"""A place recalled from another film against the same place recalled inside one film, on the weights of the package."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from torch import Tensor

from echo_cli.bench import metrics
from echo_cli.bench.scenarios import SCENARIOS, Scenario, story, timeline_for
from echo_cli.memory.entries import SceneEntry
from echo_cli.memory.scene_files import Folder, read_entry, write_scenes
from echo_cli.memory.table import read_settings
from echo_cli.models.backend import Backend
from echo_cli.models.loaders import load_backend
from echo_cli.render.checks import scene_model
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.runtime import Runtime
from echo_cli.storyboard.nouns import PastScene, Timeline, timeline_of
from echo_cli.storyboard.series import Description, SavedScene, read_scenes

WHOLE = SCENARIOS["recall-1"]  # P4 |A3 |B6 @A3
OPENING, PLACE, BETWEEN, BACK = range(4)
STORIES = range(7000, 7008)  # nobody chose by them


def later(scenario: Scenario, prompts: list[str], backend: Backend) -> Timeline:
    """The film of the last two scenes alone: B, and A recalled from the first film, which is P and A."""
    whole = timeline_for(scenario, prompts, backend.spec)
    between, back = whole.scenes[BETWEEN:]
    scenes = [replace(between, transition=None), replace(back, recall="first/place")]
    return replace(timeline_of(scenes, scenario.counts[BETWEEN:], whole.geometry),
                   past=(PastScene("first", "opening", prompts[OPENING]), PastScene("first", "place", prompts[PLACE])))


@torch.inference_mode()
def latents(backend: Backend, timeline: Timeline, policy: str, seed: int, shelf: Folder | None = None,
            past: Mapping[int, SceneEntry] | None = None) -> list[Tensor]:
    planned = plan_policy(policy, read_settings(policy), backend, timeline)
    return [result.latents for result in film(backend, timeline, planned, seed, past=past or {}, shelf=shelf)]


@torch.inference_mode()
def opening(backend: Backend, blocks: list[Tensor], first: int) -> Tensor:
    """The background of a scene's first three blocks, decoded after the block before them."""
    state = backend.codec.decode(blocks[first - 1], None)[1] if first else None
    pictures = []
    for block in blocks[first:first + 3]:
        seen, state = backend.codec.decode(block, state)
        pictures.append(seen[0])
    return metrics.background(torch.cat(pictures)[::3])[None]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["echo", "echo-forcing", "scene-queries"])
def test_a_place_of_another_film_comes_back_as_well_as_one_of_this_film(policy: str, tmp_path: Path) -> None:
    backend = load_backend("tiny", Runtime(torch.device("cpu"), torch.float32))
    model = scene_model(backend.spec, None, backend.weights_hash)
    inside, across, narrow = [], [], []
    for seed in STORIES:
        prompts, shelf = story(WHOLE, seed), Folder(tmp_path / str(seed), 1, [PLACE])
        whole = latents(backend, timeline_for(WHOLE, prompts, backend.spec), policy, seed, shelf)
        path = tmp_path / f"{seed}.scenes"
        scene = SavedScene("place", prompts[PLACE], 2.25, "first", policy, shelf.parts(PLACE), shelf.numbers(PLACE))
        place = opening(backend, whole, WHOLE.opens(PLACE))
        for bits, results in ((8, narrow), (16, across)):
            write_scenes(path, Description(model, (scene,), bits), shelf.dtype, [shelf.read(PLACE)], [])
            entry = read_entry(read_scenes(path), 0)
            second = latents(backend, later(WHOLE, prompts, backend), policy, seed, past={-1: entry})
            results.append(metrics.decibels(opening(backend, second, WHOLE.counts[BETWEEN]), place).item())
        inside.append(metrics.decibels(opening(backend, whole, WHOLE.opens(BACK)), place).item())
        print(f"{policy} {seed}: inside {inside[-1]:.2f} dB, across {across[-1]:.2f}, in eight bits {narrow[-1]:.2f}, "
              f"file {path.stat().st_size / 1e6:.1f} MB", flush=True)
    print(f"{policy}: inside {fmean(inside):.2f} dB, across {fmean(across):.2f}, in eight bits {fmean(narrow):.2f}")
    assert fmean(across) > fmean(inside) - 0.3 and fmean(narrow) > fmean(across) - 0.1
