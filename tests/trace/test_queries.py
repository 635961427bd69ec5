"""Queries in a trace: what is in them scene by scene, how far their gates open, and who draws it."""

import json
from importlib.resources import files
from io import StringIO
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from rich.console import Console

from echo_cli.layout import Role
from echo_cli.render.trace_records import block_record, measured, recall_frame_record, scene_record
from echo_cli.storyboard.nouns import Kind
from echo_cli.trace.html import page
from echo_cli.trace.inspect import QUERY_STEPS, Cell, column_of, csv_rows, lingering, survey
from echo_cli.trace.reader import Trace, read_trace
from echo_cli.trace.records import QueryFrame
from echo_cli.trace.terminal import block_detail
from echo_cli.trace.writer import TraceWriter
from tests.small import GRID, policy_for, run, story
from tests.trace.story import header

TOLD = [(None, None, 9), (Kind.HARD_CUT, None, 7), (Kind.RECALL, "scene0", 7)]


@pytest.fixture(scope="module", params=["echo-infinity", "scene-queries"])
def trace(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What a real rollout of a small model said of itself."""
    timeline = story(TOLD)
    policy = policy_for(request.param, timeline)
    path = tmp_path_factory.mktemp(request.param) / "film.trace.json"
    with TraceWriter(path, header(timeline)) as writer:
        for result in run(request.param, timeline, policy=policy):
            if result.block.opens:
                writer.scene(scene_record(result, policy))
            writer.block(block_record(result, timeline))
            writer.measure(result.block.index, measured(result, GRID))
            if kept := recall_frame_record(result, policy):
                writer.recall_frame(kept)
        writer.finish(1.0)
        writer.publish()
    return read_trace(path)


def test_the_file_is_as_the_schema_says_and_comes_back(trace: Trace) -> None:
    schema = json.loads(files("echo_cli.trace").joinpath("schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(json.loads(trace.path.read_text("utf-8")))
    said = trace.block(8).measured.queries
    assert len(said) == 6 and all(isinstance(frame, QueryFrame) and 0 <= frame.gate <= 1 for frame in said)
    assert all(scene == 0 and 0 < share <= 1.0001 for frame in said for scene, share in frame.left)
    assert trace.block(2).measured.queries == ()


def test_queries_are_divided_among_the_scenes_in_them(trace: Trace) -> None:
    tokens = 6 * GRID.tokens
    for index in range(len(trace)):
        cells = [cell for cell in column_of(trace.row(index)) if cell.role is Role.QUERY]
        assert not cells or sum(cell.tokens for cell in cells) == tokens
    cells = {cell.scene: cell.tokens for cell in column_of(trace.row(15)) if cell.role is Role.QUERY and cell.weight}
    if len(cells) == 2:  # echo-infinity has both places in it, after seven blocks of the second
        assert set(cells) == {0, 1}
    surveyed = survey(trace)
    assert len({id(column) for column in surveyed.columns}) < len(trace)  # steps are coarse: neighbours look alike
    assert [gate is None for gate in surveyed.gates][:5] == [True] * 4 + [False]


def test_shares_become_tokens_in_steps_and_what_was_learned_weighs_nothing() -> None:
    segment = {"role": "query", "scene": 2, "tokens": 48, "frames": [None, None], "position": 0}
    row = {
        "layout": {"segments": [segment]},
        "measured": {
            "weights": [[1, 1, 1]],
            "queries": [{"left": [[0, 0.5], [2, 0.24]]}, {"left": [[None, 0.25], [2, 0.26]], "gate": 0.5}],
        },
    }
    assert column_of(row) == (Cell(Role.QUERY, 0, 18, 100), Cell(Role.QUERY, 2, 12, 100), Cell(Role.QUERY, 2, 18, 0))
    assert 48 % QUERY_STEPS == 0
    row["measured"]["queries"] = []
    assert column_of(row) == (Cell(Role.QUERY, 2, 48, 100),)


def test_page_terminal_and_table_tell_of_them(trace: Trace) -> None:
    html = page(trace)
    assert (
        'class="lane query"' in html
        and "How far the queries&#x27; gates opened" in html
        and "learned tokens that summarise the past" in html
    )
    console = Console(width=140, record=True, file=StringIO())
    console.print(block_detail(trace, trace.block(8)))
    said = console.export_text()
    assert "query 1" in said and "query 6" in said and "gate 0." in said and "as trained" in said
    rows = list(csv_rows(trace))
    assert rows[2]["query_gate"] is None and 0 < rows[8]["query_gate"] < 1 and rows[8]["query"] == 6 * GRID.tokens


def test_a_scene_that_came_back_lingers_in_the_queries(trace: Trace) -> None:
    left = {each.source: each for each in lingering(trace, trace.scenes[2])}
    assert left["scene0"].to_the_end


def test_a_recalled_scene_says_what_stood_for_it(tmp_path: Path) -> None:
    timeline = story(TOLD)
    for settings, said in (({}, "its queries and its recall frame"), ({"recall_frame": False}, "its queries")):
        policy = policy_for("scene-queries", timeline, settings)
        opened = next(result for result in run("scene-queries", timeline, policy=policy) if result.block.scene == 2)
        text = scene_record(opened, policy)
        assert text.recalled == 0 and text.chosen_by.endswith(f"; {said}") and text.candidates
