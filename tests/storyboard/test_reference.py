"""The reference prompt format against recorded vectors."""

import json
from pathlib import Path

import pytest

from echo_cli.storyboard.nouns import AUTO, Geometry, Kind
from echo_cli.storyboard.reference import latent_frames, parse_reference, scenes_of, total_seconds

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "parser_vectors.json").read_text())
NAMES = {"smooth": Kind.SMOOTH, "hardcut": Kind.HARD_CUT, "recall": Kind.RECALL}
GEOMETRY = Geometry()


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["prompt"][:20] or "empty")
def test_recorded_prompts(vector: dict) -> None:
    scenes = parse_reference(vector["prompt"])
    assert [scene.prompt for scene in scenes] == vector["scene_prompts"]
    assert [scene.seconds for scene in scenes] == vector["durations"]
    assert [scene.leads_to for scene in scenes] == [NAMES[mode] for mode in vector["modes"]]
    assert [scene.blocks(GEOMETRY) for scene in scenes] == vector["block_counts"]
    total = total_seconds(scenes)
    assert total == vector["total_duration"]
    if total is not None:
        assert latent_frames(total, GEOMETRY) == vector["latent_frames_from_duration"]


def test_a_mark_belongs_to_the_scene_after_it() -> None:
    first, second, third = scenes_of("a cat[3s#] | a dog[2s@] | birds[1s#]", GEOMETRY)
    assert (first.transition, first.recall) == (None, None)
    assert (second.transition, second.recall) == (Kind.HARD_CUT, None)
    assert (third.transition, third.recall) == (Kind.RECALL, AUTO)
    assert [scene.seconds for scene in (first, second, third)] == [3, 2, 1]
    assert scenes_of("a cat", GEOMETRY)[0].seconds == 21 * 0.75
