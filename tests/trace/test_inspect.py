"""The answers: each is checked against what the made-up story is known to hold."""

from dataclasses import replace
from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.layout import Layout, Role, Segment
from echo_cli.storyboard.nouns import Kind, Scene
from echo_cli.trace import inspect
from echo_cli.trace.reader import Trace, read_trace
from echo_cli.trace.records import BlockRecord
from echo_cli.trace.writer import TraceWriter
from tests.trace.story import CELLS, STORY, header, records, timeline, write_story


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return read_trace(write_story(tmp_path / "film.trace.json"))


def test_what_was_in_memory_at_a_second(trace: Trace) -> None:
    film = trace.header.film
    for index in range(len(trace)):
        first, past = trace.block(index).pictures
        assert inspect.block_at(trace, first / film.fps) == index
        assert inspect.block_at(trace, (past - 0.5) / film.fps) == index
    for seconds in (film.seconds, 1e6):
        with pytest.raises(UsageError, match="not in the film, which ends at 0:38.8"):
            inspect.block_at(trace, seconds)


def test_a_stopped_run_has_no_block_after_its_end(tmp_path: Path) -> None:
    trace = read_trace(write_story(tmp_path / "film.trace.json", blocks=10))
    assert inspect.block_at(trace, 5.0) == 6
    with pytest.raises(UsageError, match="blocks 0 to 9"):
        inspect.block_at(trace, 20.0)


def test_why_the_old_background_lingered(trace: Trace) -> None:
    summary = inspect.summarise(trace, inspect.survey(trace))
    _, edge, subway, back = summary.scenes
    [left] = edge.lingering
    assert (left.source, left.blocks, left.tokens, left.to_the_end) == ("rooftop", 5, 3 * CELLS, False)
    assert left.first_weight == 1.0 and 0.80 ** 4 < left.last_weight < 0.95 ** 4
    assert [(each.source, each.blocks) for each in subway.lingering] == [("edge", 1)]
    assert [(each.source, each.blocks, each.tokens) for each in back.lingering] == [("rooftop", 5, CELLS)]


def test_what_stays_to_the_end_of_its_scene_is_said_to(tmp_path: Path) -> None:
    scenes = (Scene("one", "A ball", 3.0), Scene("two", "A box", 3.0, Kind.SMOOTH))
    trace = read_trace(write_story(tmp_path / "film.trace.json", scenes))
    [left] = inspect.answer(trace, trace.scenes[1]).lingering
    assert (left.blocks, left.to_the_end) == (4, True)


def test_which_scene_was_recalled_and_which_were_not(trace: Trace) -> None:
    back = inspect.answer(trace, trace.scenes[3])
    assert (back.begins, back.recalled, back.chosen_by) == ("recall", "rooftop", "named by the storyboard")
    assert [name for name, _ in back.candidates] == ["rooftop", "subway", "edge"]
    assert back.recall_frame.frames == (108, 112, 116)


def test_the_budget_is_bounded_by_a_full_window(trace: Trace) -> None:
    surveyed = inspect.budget(trace, inspect.survey(trace))
    assert (surveyed.tokens, surveyed.bounded) == (21 * CELLS, True)
    assert inspect.block_at(trace, surveyed.reached_at) == 6


def test_memory_that_only_grows_is_not_called_bounded(tmp_path: Path) -> None:
    path = tmp_path / "film.trace.json"
    with TraceWriter(path, header(timeline())) as writer:
        for record in records(timeline()):
            if isinstance(record, BlockRecord):
                everything = Segment(Role.RECENT, 0, (), CELLS * record.block, 0)
                measured = replace(record.measured, weights=record.measured.weights[:1])
                writer.block(replace(record, layout=Layout((everything,), 0), measured=measured))
        writer.finish(1.0)
        writer.publish()
    trace = read_trace(path)
    assert not inspect.budget(trace, inspect.survey(trace)).bounded


def test_a_survey_of_every_third_block_is_every_third_column(trace: Trace) -> None:
    full, third = inspect.survey(trace), inspect.survey(trace, limit=18)
    assert (full.stride, third.stride, third.blocks) == (1, 3, 52)
    assert third.columns == full.columns[::3] and third.bytes == full.bytes[::3]
    assert all(sum(cell.tokens for cell in column) == trace.block(index).layout.tokens
               for index, column in enumerate(full.columns))


def test_scenes_are_found_by_id_or_number(trace: Trace) -> None:
    assert inspect.find_scene(trace, "subway") == inspect.find_scene(trace, "3") == 2
    with pytest.raises(UsageError, match="did you mean 'subway'"):
        inspect.find_scene(trace, "subwy")


def test_two_runs_that_are_the_same_do_not_differ(trace: Trace) -> None:
    difference = inspect.diff(trace, trace)
    assert difference == inspect.Diff((), (), 52, 0, None, ())


def test_two_runs_are_told_apart_by_settings_decisions_and_blocks(trace: Trace, tmp_path: Path) -> None:
    scenes = (*STORY[:3], replace(STORY[3], recall="subway"))
    other = read_trace(write_story(tmp_path / "other.trace.json", scenes, anchor_frames=9))
    difference = inspect.diff(trace, other)
    assert inspect.Change("policy.settings.anchor_frames", 12, 9) in difference.settings
    assert inspect.Change("back: recalled", "rooftop", "subway") in difference.decisions
    assert (difference.first, difference.differing) == (36, 5)


def test_csv_has_a_row_a_block_that_adds_up(trace: Trace) -> None:
    rows = list(inspect.csv_rows(trace))
    assert len(rows) == 52
    assert all(row["tokens"] == sum(row[role.value] for role in Role) for row in rows)
    assert [row["block"] for row in rows if row["begins"]] == [0, 12, 24, 36]
    assert rows[14]["from_other_scenes"] == 72 and rows[14]["lightest_weight"] < 1
    assert rows[7]["rolled_in"] == "11 10 9" and rows[7]["reverse"]
    assert rows[16]["evicted"] == "34 35"
