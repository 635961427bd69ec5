"""The terminal's timeline: as wide as asked, nothing forgotten, readable without colour."""

import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from echo_cli.trace import inspect, terminal
from echo_cli.trace.reader import Trace, read_trace
from tests.trace.story import write_story


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    return read_trace(write_story(tmp_path / "film.trace.json"))


def plain(renderable: RenderableType, width: int) -> list[str]:
    console = Console(width=width, color_system=None, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text().splitlines()


def overview(trace: Trace, width: int) -> list[str]:
    surveyed = inspect.survey(trace)
    return plain(terminal.overview(trace, surveyed, inspect.summarise(trace, surveyed), width), width)


@pytest.mark.parametrize("width", [30, 80, 200, 400])
def test_the_timeline_fits_any_width_and_shows_every_role(trace: Trace, width: int) -> None:
    lines = overview(trace, width)
    assert max(map(len, lines)) <= width
    marks = next(number for number, line in enumerate(lines) if "▏" in line)
    stack = "".join(lines[marks + 1:marks + 1 + terminal.HEIGHT])
    for glyph in "╳█▒▓░":
        assert glyph in stack


def test_a_memory_of_one_frame_among_twenty_has_a_row(trace: Trace) -> None:
    """A transition's lone frame is the very thing people look for."""
    surveyed = inspect.survey(trace)
    for index in (24, 36, 40):
        assert any(glyph == "╳" for glyph, _ in terminal._stack(surveyed.columns[index], surveyed.peak_tokens))


def test_stacks_are_as_high_as_their_tokens(trace: Trace) -> None:
    surveyed = inspect.survey(trace)
    for column in surveyed.columns:
        tokens = sum(cell.tokens for cell in column)
        expected = max(len(column), round(terminal.HEIGHT * tokens / surveyed.peak_tokens))
        assert len(terminal._stack(column, surveyed.peak_tokens)) == expected


def test_a_short_transition_survives_a_narrow_terminal(tmp_path: Path) -> None:
    """The hard cut lasts one block of fifty-two: it must not fall between two characters."""
    trace = read_trace(write_story(tmp_path / "film.trace.json"))
    surveyed = inspect.survey(trace)
    assert surveyed.columns[24] in list(terminal._columns(surveyed, 9))


def test_details_name_scenes_frames_and_weights(trace: Trace) -> None:
    block = "\n".join(plain(terminal.block_detail(trace, trace.block(14)), 120))
    for words in ("block 14", "edge", "transition", "rooftop", "34–35", "block 17", "one frame folded from several"):
        assert words in block
    scene = "\n".join(plain(terminal.scene_detail(trace, trace.scenes[3], trace.block(36)), 120))
    for words in ("recall", "rooftop (0.90): named by the storyboard", "→ rooftop", "clear_after_blocks 5",
                  "score weighted of frames 108 (0.93)"):
        assert words in scene


def test_a_run_without_a_block_is_no_failure(tmp_path: Path) -> None:
    path = write_story(tmp_path / "film.trace.json", blocks=1)
    path.write_bytes(path.read_bytes().split(b"\n")[0])
    assert any("no block was finished" in line for line in overview(read_trace(path), 80))
