"""What the writer promises: whole or `.partial`, the order of the run, and nothing lost to a kill."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from echo_cli.errors import Damaged, OutputError
from echo_cli.trace.reader import read_trace
from echo_cli.trace.records import BlockRecord, RecallFrameRecord, SceneRecord, Spread
from echo_cli.trace.writer import TraceWriter
from tests.trace.story import STORY, header, records, timeline, write_story

FILM = timeline()
RECORDS = list(records(FILM))
BLOCKS = [record for record in RECORDS if isinstance(record, BlockRecord)]


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    trace = read_trace(write_story(tmp_path / "film.trace.json"))
    assert trace.header == header(FILM)
    assert list(trace.scenes) == [record for record in RECORDS if isinstance(record, SceneRecord)]
    assert list(trace.recall_frames.values()) == [each for each in RECORDS if isinstance(each, RecallFrameRecord)]
    assert len(trace) == len(BLOCKS)
    for index, written in enumerate(BLOCKS):
        read = trace.block(index)
        assert replace(read, measured=None) == replace(written, measured=None)
        assert read.measured.times == pytest.approx(written.measured.times, rel=1e-5)
        assert [tuple(each) for each in read.measured.weights] == [
            pytest.approx(tuple(each), rel=1e-5) for each in written.measured.weights]


def test_totals_add_up(tmp_path: Path) -> None:
    scenes = (STORY[0], replace(STORY[2], seconds=2.25))  # its peak is not in its last block
    blocks = [record for record in records(timeline(scenes)) if isinstance(record, BlockRecord)]
    totals = read_trace(write_story(tmp_path / "film.trace.json", scenes)).totals
    assert (totals.blocks, totals.scenes, totals.pictures) == (15, 2, timeline(scenes).pictures)
    assert totals.peak_tokens == max(block.layout.tokens for block in blocks) > blocks[-1].layout.tokens
    assert totals.peak_bytes == max(sum(block.bytes.values()) for block in blocks) > sum(blocks[-1].bytes.values())
    assert totals.times.denoise == pytest.approx(sum(block.measured.times.denoise for block in blocks), rel=1e-5)


def test_a_block_waits_for_its_measures_and_holds_back_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "film.trace.json"
    growing = tmp_path / "film.trace.json.partial"
    first, second, third = BLOCKS[:3]
    with TraceWriter(path, header(FILM)) as writer:
        writer.block(replace(first, measured=None))
        writer.block(second)
        assert growing.read_text().count("\n") == 0
        with pytest.raises(ValueError, match="cannot end"):
            writer.finish(1.0)
        writer.measure(0, first.measured)
        assert [json.loads(line.strip(","))["block"] for line in growing.read_text().splitlines()[1:]] == [0, 1]
        with pytest.raises(ValueError, match="block 0 is not waiting"):
            writer.measure(0, first.measured)
        writer.block(replace(third, measured=None))
        writer.measure(2, third.measured)
        totals = writer.finish(1.0)
        writer.publish()
    assert totals.times.clean == pytest.approx(sum(block.measured.times.clean for block in BLOCKS[:3]))
    assert [read_trace(path).block(index).block for index in range(3)] == [0, 1, 2]
    assert not growing.exists()


def test_a_run_that_stops_leaves_what_it_knows_and_nothing_that_looks_finished(tmp_path: Path) -> None:
    path = tmp_path / "film.trace.json"
    with pytest.raises(RuntimeError), TraceWriter(path, header(FILM)) as writer:
        writer.block(BLOCKS[0])
        writer.block(replace(BLOCKS[1], measured=None))
        raise RuntimeError("the model fell over")
    assert not path.exists()
    trace = read_trace(tmp_path / "film.trace.json.partial")
    assert len(trace) == 2
    assert trace.block(1).measured is None
    assert trace.totals is None and "2 of 52 blocks" in trace.notice


def test_a_killed_process_leaves_every_complete_line(tmp_path: Path) -> None:
    path = tmp_path / "film.trace.json"
    program = ("import os, signal, sys; from pathlib import Path; from tests.trace.story import *\n"
               "writer = TraceWriter(Path(sys.argv[1]), header(timeline()))\n"
               "for record in records(timeline()):\n"
               "    if isinstance(record, SceneRecord): writer.scene(record)\n"
               "    if isinstance(record, BlockRecord): writer.block(record)\n"
               "    if getattr(record, 'block', 0) == 9: os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", program, str(path)], check=False,
                          env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(read_trace(tmp_path / "film.trace.json.partial")) == 10


def test_values_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "film.trace.json"
    measured = replace(BLOCKS[0].measured, weights=(Spread(math.nan, math.inf, 1.0),))
    with TraceWriter(path, header(FILM)) as writer:
        writer.block(replace(BLOCKS[0], measured=measured))
        writer.finish(1.0)
        writer.publish()
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert read_trace(path).block(0).measured.weights == (Spread(None, None, 1.0),)


def test_where_frames_lie_in_the_store_is_not_told(tmp_path: Path) -> None:
    layout = BLOCKS[0].layout
    placed = replace(
        layout, segments=tuple(replace(each, slots=(3, 4, 5), fades=(None,) * 3) for each in layout.segments)
    )
    with TraceWriter(tmp_path / "film.trace.json", header(FILM)) as writer:
        writer.block(replace(BLOCKS[0], layout=placed))
    assert read_trace(tmp_path / "film.trace.json.partial").block(0).layout == layout


def test_a_tensor_like_value_is_refused_by_name(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "film.trace.json", header(FILM)) as writer, pytest.raises(ValueError, match="object"):
        writer.block(replace(BLOCKS[0], calibration=object()))


def test_a_weight_for_each_segment_no_more_no_less(tmp_path: Path) -> None:
    measured = replace(BLOCKS[20].measured, weights=BLOCKS[20].measured.weights[1:])
    with TraceWriter(tmp_path / "film.trace.json", header(FILM)) as writer:
        writer.block(replace(BLOCKS[20], measured=None))
        with pytest.raises(ValueError, match="block 20 has 4 segments, but 3 weights"):
            writer.measure(20, measured)


def test_a_folder_that_is_gone_is_told_as_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="folder does not exist"):
        TraceWriter(tmp_path / "gone" / "film.trace.json", header(FILM))


def test_an_interrupted_trace_goes_on_where_it_was(tmp_path: Path) -> None:
    scenes = [record for record in RECORDS if isinstance(record, SceneRecord)]

    def add(writer: TraceWriter, start: int, stop: int) -> None:
        for block in BLOCKS[start:stop]:
            for scene in scenes:
                if scene.block == block.block:
                    writer.scene(scene)
            writer.block(block)

    with TraceWriter(tmp_path / "whole.trace.json", header(FILM)) as writer:
        add(writer, 0, len(BLOCKS))
        totals = writer.finish(9.0)
        writer.publish()
    path = tmp_path / "film.trace.json"
    with TraceWriter(path, header(FILM)) as writer:
        add(writer, 0, 20)
        written = writer.written()
        add(writer, 20, 25)  # made, but not noted: these lines go away
    with TraceWriter(path, header(FILM), written) as writer:
        add(writer, 20, 31)
        written = writer.written()
    with TraceWriter(path, header(FILM), written) as writer:
        add(writer, 31, len(BLOCKS))
        assert writer.finish(9.0) == totals
        writer.publish()
    assert path.read_bytes() == (tmp_path / "whole.trace.json").read_bytes()


def test_where_a_trace_stands_is_said_between_blocks_only(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "film.trace.json", header(FILM)) as writer:
        writer.block(replace(BLOCKS[0], measured=None))
        with pytest.raises(ValueError, match="unmeasured"):
            writer.written()


def test_another_trace_is_not_gone_on_with(tmp_path: Path) -> None:
    path, growing = tmp_path / "film.trace.json", tmp_path / "film.trace.json.partial"
    with TraceWriter(path, header(FILM)) as writer:
        writer.block(BLOCKS[0])
        written = writer.written()
    content = growing.read_bytes()
    for harmed in (content[:-1], b"", content[:50] + b"#" + content[51:]):
        growing.write_bytes(harmed)
        with pytest.raises(Damaged, match="is not what was written"):
            TraceWriter(path, header(FILM), written)
        assert growing.read_bytes() == harmed
    growing.unlink()
    with pytest.raises(Damaged, match="is gone"):
        TraceWriter(path, header(FILM), written)
