"""Exact length, boundaries near where they were put, and the reference's rounding."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.nouns import Continued, Geometry, Scene, Storyboard, Timeline, Timing
from echo_cli.storyboard.timeline import timeline

VECTORS = json.loads((Path(__file__).parents[1] / "golden" / "parser_vectors.json").read_text())
GEOMETRY = Geometry()


def film(seconds: list[float], geometry: Geometry = GEOMETRY, **settings: object) -> Timeline:
    scenes = tuple(Scene(f"s{number}", "x", time, line=number + 1, column=5) for number, time in enumerate(seconds))
    return timeline(Storyboard(scenes, source="film.yaml", **settings), geometry)


@pytest.mark.parametrize(("seconds", "pictures"), [
    ([3.3], 53), ([0.1], 2), ([1.0] * 60, 960), ([24 * 3600.0], 1_382_400), ([10.0] * 3, 480), ([3.3] * 60, 3168),
    ([0.75] * 4, 48), ([1 / 16], 1), ([2.21875], 36), ([0.9, 12.34567, 7.0], 324),
])
def test_the_film_has_exactly_the_asked_length(seconds: list[float], pictures: int) -> None:
    made = film(seconds)
    assert made.pictures == pictures
    assert made.spans[-1].pictures.stop == pictures
    # No block more than the pictures need.
    assert made.geometry.pictures((len(made.blocks) - 1) * 3) < pictures <= made.geometry.pictures(len(made.blocks) * 3)


def test_times_are_the_decimals_that_were_written() -> None:
    # 1.45 is a little less in binary; three of them are 43.5 pictures, and a half rounds up.
    assert film([1.45] * 3, fps=10.0).pictures == 44


def test_a_day_of_short_scenes_does_not_drift() -> None:
    made = film([0.8] * 1_500 + [9.6] * 8_875)
    assert made.pictures == 24 * 3600 * 16
    assert abs(made.spans[-1].pictures.start - (24 * 3600 - 9.6) * 16) <= 6


times = st.integers(750, 60_000).map(lambda milliseconds: milliseconds / 1000)
geometries = st.builds(Geometry, st.integers(1, 6), st.integers(1, 8), st.sampled_from([8.0, 12.5, 16.0, 24.0, 29.97]))


@given(st.lists(times, min_size=1, max_size=40), geometries)
def test_no_boundary_is_more_than_half_a_block_from_where_it_was_put(seconds: list[float], geometry: Geometry) -> None:
    shortest = geometry.block_pictures / geometry.fps
    made = film([max(time, shortest + 0.001) for time in seconds], geometry)
    asked = 0.0
    for span in made.spans:
        assert span.asked[0] == pytest.approx(asked)
        asked = span.asked[1]
        assert abs(span.pictures.start / geometry.fps - span.asked[0]) <= shortest / 2 + 1e-9
    assert abs(made.pictures / geometry.fps - asked) <= 0.5 / geometry.fps + 1e-9


@given(st.lists(times, min_size=1, max_size=40))
def test_scenes_follow_one_another_without_gaps(seconds: list[float]) -> None:
    made = film(seconds)
    assert made.spans[0].blocks.start == made.spans[0].pictures.start == 0
    assert made.spans[-1].blocks.stop == len(made.blocks)
    for earlier, later in zip(made.spans, made.spans[1:], strict=False):
        assert earlier.blocks.stop == later.blocks.start
        assert earlier.pictures.stop == later.pictures.start
    for index, span in enumerate(made.spans):
        blocks = [made.blocks[number] for number in span.blocks]
        assert [block.scene for block in blocks] == [index] * len(blocks)
        assert [block.number for block in blocks] == list(range(len(blocks)))
        assert (blocks[0].opens, blocks[-1].closes) == (True, True)
        assert span.pictures.start == GEOMETRY.pictures(span.blocks.start * 3)


def test_a_scene_that_no_block_shows_is_an_error_with_its_line() -> None:
    with pytest.raises(StoryboardError) as caught:
        film([10.0, 0.1, 10.0, 0.2, 10.0])
    assert caught.value.message.splitlines() == [
        "film.yaml:2:5: scene 's1': 0.1s is too short to be shown here: "
        "the film is rendered in blocks of 0.75s and it would get none; give it at least 0.75s",
        "film.yaml:4:5: scene 's3': 0.2s is too short to be shown here: "
        "the film is rendered in blocks of 0.75s and it would get none; give it at least 0.75s",
    ]
    with pytest.raises(StoryboardError, match="scene 's0': the film is shorter than one picture"):
        film([0.03])


def test_the_storyboards_rate_replaces_the_models() -> None:
    made = film([10.0, 10.0], fps=24.0)
    assert (made.pictures, made.geometry.fps) == (480, 24.0)
    assert abs(made.spans[1].pictures.start / 24 - 10) <= 0.25


@pytest.mark.parametrize("vector", [vector for vector in VECTORS if vector["total_duration"]],
                         ids=lambda vector: vector["prompt"][:20])
def test_reference_timing_counts_as_the_reference_does(vector: dict) -> None:
    made = film(vector["durations"], timing=Timing.REFERENCE)
    counts = [len(span.blocks) for span in made.spans]
    surplus = max(0, vector["latent_frames_from_duration"] // 3 - sum(vector["block_counts"]))
    assert counts[:-1] == vector["block_counts"][:-1]
    assert counts[-1] == vector["block_counts"][-1] + surplus
    assert made.pictures == 1 + (len(made.blocks) * 3 - 1) * 4
    assert [span.asked[1] - span.asked[0] for span in made.spans] == pytest.approx(vector["durations"])


def test_a_week_has_blocks_that_are_made_when_they_are_asked_for() -> None:
    made = film([7 * 24 * 3600.0 - 1.5, 1.5])
    assert len(made.blocks) == 806_401
    last = made.blocks[-1]
    assert (last.index, last.scene, last.number, last.closes) == (806_400, 1, 2, True)
    assert made.blocks[3:5] == (made.blocks[3], made.blocks[4])
    assert next(iter(made.blocks)).opens
    with pytest.raises(IndexError):
        made.blocks[806_401]


@pytest.mark.parametrize("timing", Timing)
def test_a_film_has_a_million_blocks_at_most(timing: Timing) -> None:
    with pytest.raises(StoryboardError) as caught:
        film([7 * 24 * 3600.0], fps=240.0, timing=timing)
    assert caught.value.message == ("film.yaml:1:5: the film would have 12,096,000 blocks of 0.05s, "
                                    "and 1,000,000 is the most; make it shorter, or lower its fps")


@pytest.mark.parametrize(("seconds", "frames"),
                         [(None, 18), (60.0, 18), (4.0, 15), (1.0, 3), (0.5, 2), (0.1, 1), (0, 1)])
def test_a_film_that_continues_pictures_begins_with_frames_that_are_not_shown(seconds: float | None,
                                                                              frames: int) -> None:
    made = film([2.0, 3.0, 1.3], continued=Continued("a.mp4", "a", "a.mp4", seconds))
    assert made.geometry.shown_before == frames and made.pictures == 101
    edges = [0, *(span.pictures.stop for span in made.spans)]
    assert [span.pictures for span in made.spans] == [range(*edge) for edge in pairwise(edges)] and edges[-1] == 101
    assert all(abs(span.pictures.start / 16 - span.asked[0]) <= 0.375 for span in made.spans)
    assert sum(map(made.pictures_of, made.blocks)) >= 101 > sum(map(made.pictures_of, made.blocks[:-1]))
