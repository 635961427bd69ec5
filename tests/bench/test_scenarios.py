"""Scenarios: told by the seed, and fair to the plainest memory."""

import pytest

from echo_cli.bench.scenarios import SCENARIOS, story, timeline_for, with_length
from echo_cli.memory.table import POLICIES
from echo_cli.models.tiny.words import concepts_of, unknown_words
from echo_cli.spec import TINY
from echo_cli.storyboard.matching import plan_recalls, similarities
from echo_cli.storyboard.nouns import Kind

SEEDS = range(30)


def home(prompt: str) -> tuple[str, str]:
    said = concepts_of(prompt)
    return said["place"][0], said["time"][0]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_stories_are_told_by_the_seed_in_words_that_the_model_knows(scenario):
    stories = [story(scenario, seed) for seed in SEEDS]
    assert stories == [story(scenario, seed) for seed in SEEDS]
    assert len({tuple(prompts) for prompts in stories}) == len(SEEDS)
    for prompts in stories:
        assert not any(unknown_words(prompt) for prompt in prompts)
        assert all(
            len(concepts_of(prompt)[kind]) == 1
            for prompt in prompts
            for kind in ("place", "time", "subject", "colour", "motion")
        )


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_scenes_are_where_the_scenario_says(scenario):
    for seed in SEEDS:
        homes = [home(prompt) for prompt in story(scenario, seed)]
        for scene, act in enumerate(scenario.acts):
            if act.begins in (Kind.SMOOTH, Kind.RECALL):
                assert homes[scene] == homes[scenario.first_in(act.place)]
            if act.begins is Kind.HARD_CUT:
                assert homes[scene][0] != homes[scene - 1][0]  # a cut is a cut
            if act.begins is Kind.RECALL:  # nobody could take another place for it
                others = {home[0] for other, home in zip(scenario.acts, homes, strict=True) if other.place != act.place}
                assert homes[scene][0] not in others
                assert concepts_of(story(scenario, seed)[scene])["motion"][0] in ("left", "right")


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_place_that_returns_has_left_every_window(scenario):
    for scene, act in enumerate(scenario.acts):
        if act.begins is Kind.RECALL:
            last = max(other for other in range(scene) if scenario.acts[other].place == act.place)
            gone = sum(scenario.counts[last + 1:scene]) * TINY.block_frames
            assert gone >= TINY.window - TINY.block_frames


@pytest.mark.parametrize("name", ["recall-1", "recall-2", "recall-5"])
def test_a_place_that_returns_is_neither_in_anchors_nor_what_left_first(name):
    """Either would bring it back with no memory of what came later."""
    scenario = SCENARIOS[name]
    opening = max(POLICIES[policy].settings().anchor_frames for policy in ("sink", "recache", "echo-infinity"))
    back = next(act for act in scenario.acts if act.begins is Kind.RECALL)
    assert scenario.opens(scenario.first_in(back.place)) * TINY.block_frames >= opening + TINY.block_frames


def test_recalls_name_the_place_s_first_scene():
    for scenario in SCENARIOS.values():
        timeline = timeline_for(scenario, story(scenario, 0), TINY.geometry)
        plan = plan_recalls(timeline.scenes, similarities([scene.prompt for scene in timeline.scenes]), 64)
        assert {scene: recall.scene for scene, recall in plan.items()} == {
            scene: scenario.first_in(act.place) for scene, act in enumerate(scenario.acts) if act.begins is Kind.RECALL}
        assert len(timeline.blocks) == scenario.blocks


def test_a_long_scene_can_be_made_longer_and_is_looked_at_as_often():
    longer = with_length(SCENARIOS["long"], 400)
    assert longer.blocks == 400 and 20 <= 400 / longer.stride <= 30
    assert with_length(SCENARIOS["long"], 15).stride == SCENARIOS["long"].stride
