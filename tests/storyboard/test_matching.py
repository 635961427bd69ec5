"""Matching against recorded vectors, and the properties that a choice of partner rests on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.storyboard import matching
from echo_cli.storyboard.matching import Recall, plan_recalls, similarities, stripped, words
from echo_cli.storyboard.nouns import AUTO, Kind, Scene

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


def plan(*prompts: str, recall: str = AUTO, pool: int = 64, least: float = 0.0) -> Recall:
    """What the last of these scenes recalls."""
    scenes = [Scene(f"s{number}", prompt, 1.0) for number, prompt in enumerate(prompts)]
    scenes[-1] = replace(scenes[-1], transition=Kind.RECALL, recall=recall)
    return plan_recalls(scenes, similarities(prompts), pool, least=least)[len(prompts) - 1]


def test_a_scene_that_is_like_no_earlier_one_is_refused_unless_it_is_named() -> None:
    prompts = ("a rooftop garden", "a subway platform", "a rooftop far away")
    planned = plan(*prompts)
    assert plan(*prompts, least=planned.similarity + 0.01).refused
    assert not plan(*prompts, least=planned.similarity).refused and not planned.refused
    assert not plan(*prompts, recall="s1", least=1.0).refused


def test_the_nearest_earlier_scene_is_chosen_and_the_runner_up_named() -> None:
    planned = plan("a rooftop garden", "a subway platform", "a rooftop, a city", "the rooftop garden again")
    assert planned.scene == 0
    assert planned.similarity == dict(planned.scores)[0] > 0.5
    assert planned.runner_up == (2, dict(planned.scores)[2])
    assert [scene for scene, _ in planned.scores] == [0, 1, 2]


def test_a_named_scene_is_taken_whatever_its_score() -> None:
    planned = plan("a rooftop garden", "a subway platform", "the rooftop garden again", recall="s1")
    assert (planned.scene, planned.similarity) == (1, 0.0)
    assert planned.runner_up is not None and planned.runner_up[0] == 0


def test_a_tie_goes_to_the_oldest() -> None:
    assert plan("red ball", "red ball", "red ball").scene == 0


def test_a_prompt_of_stop_words_resembles_nothing() -> None:
    assert plan("the same", "the same").similarity == 0.0
    assert plan("the same", "red ball", "red ball").scene == 1


def test_scenes_leave_the_pool_oldest_first() -> None:
    film = ("red ball", "blue box", "green star", "red ball")
    assert plan(*film).scene == 0
    assert [scene for scene, _ in plan(*film, pool=2).scores] == [1, 2]
    assert plan(*film, pool=2, recall="s0").scene == 0


@pytest.mark.parametrize("target", ["s3", "s2", "roof"])
def test_only_an_earlier_scene_can_be_recalled(target: str) -> None:
    with pytest.raises(UsageError, match=f"scene 's2': recall of '{target}', but no earlier scene has that id"):
        plan("red ball", "blue box", "red ball", recall=target)


def test_the_first_scene_recalls_nothing() -> None:
    with pytest.raises(UsageError, match="opens the film"):
        plan("red ball")


def test_only_the_scores_that_are_read_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(matching, "likeness", lambda one, other: asked.append(one) or 0.5)
    scenes = [Scene(f"s{number}", "a red ball", 1.0, *((Kind.RECALL, ("s0", AUTO)[number % 2]) if number else ()))
              for number in range(300)]
    planned = plan_recalls(scenes, similarities([scene.prompt for scene in scenes]), 10)
    assert len(asked) <= 299 * 11
    assert all(len(recall.scores) <= 10 for recall in planned.values()) and planned[298].scene == 0
