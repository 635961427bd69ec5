"""Scenarios: told by the seed, and fair to the plainest memory."""

from itertools import product
from statistics import fmean

import pytest

from echo_cli.bench.scenarios import SCENARIOS, story, timeline_for, with_length
from echo_cli.memory.settings import LEAST_SIMILARITY
from echo_cli.memory.table import POLICIES
from echo_cli.models.tiny.words import concepts_of, unknown_words
from echo_cli.spec import TINY
from echo_cli.storyboard.matching import Match, plan_recalls, similarities
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
        timeline = timeline_for(scenario, story(scenario, 0), TINY)
        plan = plan_recalls(timeline.scenes, similarities([scene.prompt for scene in timeline.scenes]), 64)
        assert {scene: recall.scene for scene, recall in plan.items()} == {
            scene: scenario.first_in(act.place) for scene, act in enumerate(scenario.acts) if act.begins is Kind.RECALL}
        assert len(timeline.blocks) == scenario.blocks


def scores(match: Match, seeds: range) -> tuple[list[bool], list[float], list[float]]:
    """Of every return: whether the right place is the most similar one, and the best score; and that of the same
    stories without the place."""
    right, seen, unseen = [], [], []
    for name, seed in product(("recall-1", "recall-2", "recall-5", "to-and-fro", "mixed"), seeds):
        scenario, prompts = SCENARIOS[name], story(SCENARIOS[name], seed)
        for scene, act in enumerate(scenario.acts):
            if not act.returns:
                continue
            row = similarities(prompts, match)[scene]
            best = max(range(scene), key=lambda other: row[other])
            right.append(scenario.acts[best].place == act.place)
            seen.append(row[best])
            others = [prompts[other] for other in range(scene) if scenario.acts[other].place != act.place]
            row = similarities([*others, *prompts[scene:]], match)[len(others)]
            unseen.append(max((row[other] for other in range(len(others))), default=0.0))
    return right, seen, unseen


@pytest.mark.parametrize(("match", "known", "kept", "refused"), [("places", 99, 99, 99), ("idf", 70, 35, 90)])
@pytest.mark.parametrize("first", [0, 200_000])
def test_a_return_is_told_from_a_place_that_has_not_been_seen(match: Match, known: float, kept: float, refused: float,
                                                             first: int) -> None:
    """`pytest -s` prints the percentages."""
    right, seen, unseen = scores(match, range(first, first + 20))
    least = LEAST_SIMILARITY[match]
    shares = [100 * fmean(each) for each in (right, [score >= least for score in seen],
                                             [score < least for score in unseen])]
    print(match, first, len(seen), *(f"{share:.1f}" for share in shares))
    assert all(share >= wanted for share, wanted in zip(shares, (known, kept, refused), strict=True))


def test_a_long_scene_can_be_made_longer_and_is_looked_at_as_often():
    longer = with_length(SCENARIOS["long"], 400)
    assert longer.blocks == 400 and 20 <= 400 / longer.stride <= 30
    assert with_length(SCENARIOS["long"], 15).stride == SCENARIOS["long"].stride
