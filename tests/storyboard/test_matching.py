"""Matching against recorded vectors, and the properties that a choice of partner rests on."""

import json
from pathlib import Path

import pytest

from echo_cli.storyboard.matching import features, likeness, match, similarities, stripped, words

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "parser_vectors.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["prompt"][:20] or "empty")
def test_recorded_similarities(vector: dict) -> None:
    rows = similarities(vector["scene_prompts"])
    for row, recorded in zip(rows, vector["idf_similarity"], strict=True):
        assert row == pytest.approx(recorded, abs=2e-6)
    vocabulary = {word for prompt in vector["scene_prompts"] for word in words(prompt)}
    assert max(1, len(vocabulary)) == vector["idf_vocab_size"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["prompt"][:20] or "empty")
def test_recorded_filtered_prompts(vector: dict) -> None:
    assert stripped(vector["scene_prompts"]) == vector["similar_filtered_prompts"]


def test_the_nearest_earlier_scene_is_chosen_and_the_runner_up_named() -> None:
    rows = features(["a rooftop garden", "a subway platform", "a rooftop, a city", "the rooftop garden again"])
    found = match(3, rows)
    assert found.partner == 0
    assert found.runner_up == (2, likeness(rows[3], rows[2]))
    assert [scene for scene, _ in found.scores] == [0, 1, 2]


def test_a_tie_goes_to_the_oldest() -> None:
    rows = features(["red ball", "red ball", "red ball"])
    assert match(2, rows).partner == 0


def test_a_prompt_of_stop_words_resembles_nothing() -> None:
    rows = features(["the same", "the same", "red ball"])
    assert match(1, rows).score == 0.0
    assert match(2, rows).partner == 0


def test_scenes_leave_the_pool_oldest_first() -> None:
    rows = features(["red ball", "blue box", "green star", "red ball"])
    assert match(3, rows).partner == 0
    assert [scene for scene, _ in match(3, rows, pool=2).scores] == [1, 2]


def test_the_first_scene_has_no_partner() -> None:
    with pytest.raises(ValueError, match="scene 0"):
        match(0, features(["red ball"]))
