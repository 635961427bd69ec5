"""What farms match by pattern must not change by accident."""

import io
import json
import re
from dataclasses import replace

import pytest

from echo_cli.errors import OutputError
from echo_cli.render import progress
from echo_cli.render.progress import (
    Bar,
    JsonLines,
    OpenJobDescription,
    Pace,
    Plain,
    Progress,
    Step,
    Style,
    WholePercents,
    plain_line,
)

STEP = Step(
    block=17, blocks=40, scene=2, scenes=5, scene_id="subway", picture=204, pictures=480, memory_bytes=1_234_567,
    new=12, seconds=0.5,
)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_plain_line_keeps_its_form() -> None:
    assert plain_line(STEP, 31.24, 3723.4) == (
        "Progress: 42.5% | block 17/40 | scene 2/5 subway | picture 204/480 | "
        "31.2 pictures/s | left 1:02:03 | memory 1.2 MB"
    )
    assert re.search(r"Progress: (\d+)", plain_line(STEP, 0, 0))[1] == "42"


def test_lines_come_seconds_apart_and_the_last_always(clock: list[float]) -> None:
    stream = io.StringIO()
    with Plain(stream) as teller:
        for block in range(1, 41):
            clock[0] += 1
            teller.step(replace(STEP, block=block, picture=12 * block, seconds=1.0))
    results = [int(re.search(r"block (\d+)", line)[1]) for line in stream.getvalue().splitlines()]
    assert results == [1, 6, 11, 16, 21, 26, 31, 36, 40]
    assert "12.0 pictures/s | left 0:00:00" in stream.getvalue().splitlines()[-1]


def test_time_left_follows_the_recent_speed(clock: list[float]) -> None:
    pace = Pace()
    for second in range(1, 101):
        clock[0] += 1
        rate = pace.mark(10 if second <= 60 else 2, 1.0)
    assert rate == pytest.approx(2)


def test_neither_loading_nor_an_earlier_run_count_as_speed(clock: list[float]) -> None:
    stream = io.StringIO()
    with Plain(stream) as teller:
        clock[0] += 60  # torch and the weights, then two blocks, the second of which is not written yet
        teller.step(replace(STEP, picture=412, new=12, seconds=0.5))
        for picture in (424, 436, 448, 460, 472, 480):
            clock[0] += 0.5
            teller.step(replace(STEP, picture=picture, new=12))
    first, *_, last = stream.getvalue().splitlines()
    assert "24.0 pictures/s | left 0:00:03" in first and "24.0 pictures/s | left 0:00:00" in last


def test_the_percentage_is_never_rounded_up(clock: list[float]) -> None:
    stream = io.StringIO()
    with JsonLines(stream) as teller:
        for picture in (99_999, 100_000):
            clock[0] += 10
            teller.step(replace(STEP, picture=picture, pictures=100_000))
    assert [json.loads(line)["percent"] for line in stream.getvalue().splitlines()] == [99.9, 100.0]


def test_json_lines_are_objects_with_these_keys(clock: list[float]) -> None:
    stream = io.StringIO()
    with pytest.raises(OutputError), JsonLines(stream) as teller:
        clock[0] += 10
        teller.step(STEP)
        raise OutputError("the disk\nis full")
    first, last = map(json.loads, stream.getvalue().splitlines())
    assert first == {"event": "progress", "percent": 42.5, "block": 17, "blocks": 40, "scene": 2, "scenes": 5,
                     "scene_id": "subway", "picture": 204, "pictures": 480, "memory_bytes": 1_234_567,
                     "pictures_per_second": 24.0, "seconds_left": 11.5}
    assert last == {"event": "failed", "message": "the disk\nis full"}


def test_no_time_is_left_to_tell_before_the_first_picture(clock: list[float]) -> None:
    none, plain, told = replace(STEP, block=1, picture=0, new=0), io.StringIO(), io.StringIO()
    with Plain(plain) as lines, JsonLines(told) as objects:
        for teller in (lines, objects):
            clock[0] += 10
            teller.step(none)
            clock[0] += 10
            teller.step(replace(STEP, picture=240, new=240))
    first, second = plain.getvalue().splitlines()
    assert "picture 0/480 | 0.0 pictures/s | memory 1.2 MB" in first and "| left 0:00:1" in second
    first, second = map(json.loads, told.getvalue().splitlines())
    assert first["seconds_left"] is None and second["seconds_left"] > 0


def test_whole_percents_are_what_the_plug_ins_of_deadline_match(clock: list[float]) -> None:
    stream = io.StringIO()
    with WholePercents(stream) as teller:
        for picture in (204, 479, 480):
            clock[0] += 10
            teller.step(replace(STEP, picture=picture))
    results = [re.search(r".*Progress: (\d+)%.*", line)[1] for line in stream.getvalue().splitlines()]
    assert results == ["42", "99", "100"]  # all is done when it says so
    assert " | block 17/40 | scene 2/5 subway | picture 480/480 | " in stream.getvalue()


def test_open_job_description_has_a_line_each(clock: list[float]) -> None:
    stream = io.StringIO()
    with pytest.raises(OutputError), OpenJobDescription(stream) as teller:
        clock[0] += 10
        teller.step(STEP)
        raise OutputError("the disk\nis full")
    assert stream.getvalue().splitlines() == [
        "openjd_progress: 42.5",
        "openjd_status: block 17/40 | scene 2/5 subway | picture 204/480 | "
        "24.0 pictures/s | left 0:00:12 | memory 1.2 MB",
        "openjd_fail: the disk is full",
    ]


def test_the_bar_shows_scene_block_speed_time_and_memory(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    for name, escape in (("NO_COLOR", False), ("FORCE_COLOR", True)):
        monkeypatch.delenv("NO_COLOR", raising=False)
        monkeypatch.delenv("FORCE_COLOR", raising=False)
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv(name, "1")
        monkeypatch.setenv("TTY_COMPATIBLE", "1")
        stream = io.StringIO()
        with Bar(stream) as bar:
            clock[0] += 10
            bar.step(replace(STEP, scene_id="[red]x"))
            bar._bar.refresh()
        shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
        for word in ("scene 2/5 [red]x", "42 %", "block 17/40", "24 pictures/s", "0:00:12 left", "memory 1.2 MB"):
            assert word in shown
        assert bool(re.search(r"\x1b\[[0-9;]*[39][0-7]m", stream.getvalue())) is escape


def test_styles(monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(progress.progress_of(Style.AUTO)) is Plain  # standard error is no terminal here
    assert type(progress.progress_of(Style.BAR, quiet=True)) is progress.Quiet
    assert type(progress.progress_of(Style.NONE)) is Progress
    assert progress.progress_of(Style.OPENJD)._stream is progress.sys.stdout
    assert progress.progress_of(Style.JSON)._stream is progress.sys.stderr
    assert type(progress.progress_of(Style.DEADLINE)) is WholePercents
