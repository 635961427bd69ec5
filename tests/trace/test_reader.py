"""What a reader makes of files that are whole, cut, foreign, newer or damaged."""

import copy
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echo_cli.cli.app import run
from echo_cli.errors import Exit, UsageError
from echo_cli.trace.reader import Trace, read_trace
from tests.trace.story import STORY, write_story


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write_story(tmp_path / "film.trace.json")


def refused(path: Path, words: str) -> UsageError:
    with pytest.raises(UsageError, match=words) as caught:
        read_trace(path)
    assert caught.value.exit_code is Exit.USAGE
    assert str(path) in caught.value.message and caught.value.hint
    return caught.value


def test_a_trace_cut_anywhere_is_read_to_its_last_whole_record_or_refused(whole: Path, tmp_path: Path) -> None:
    text = whole.read_bytes()
    header_ends = text.index(b"\n")
    lines = text.split(b"\n")
    cut = tmp_path / "cut.json"
    for length in range(1, len(text) - 1, 997):
        cut.write_bytes(text[:length])
        if length < header_ends:
            with pytest.raises(UsageError):
                read_trace(cut)
            continue
        trace = read_trace(cut)
        expected = sum(line.startswith(b'{"kind":"block"') for line in text[:length].split(b"\n")[:-1])
        last = text[:length].split(b"\n")[-1]
        assert len(trace) - expected in ((0, 1) if last.rstrip(b",") + b"," in lines else (0,))
        assert trace.totals is None and "did not finish" in trace.notice
        assert all(trace.block(index).block == index for index in range(len(trace)))


def test_only_the_totals_say_that_a_trace_is_whole(whole: Path) -> None:
    assert read_trace(whole).notice is None
    whole.write_bytes(whole.read_bytes().rstrip(b"\n"))
    assert read_trace(whole).notice is None
    whole.write_bytes(whole.read_bytes()[:-1])
    trace = read_trace(whole)
    assert trace.totals is None and len(trace) == 52


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda trace: pickle.loads(pickle.dumps(trace))])
def test_a_trace_can_be_copied_and_passed_between_processes(whole: Path, copied: Callable[[Trace], Trace]) -> None:
    trace = read_trace(whole).while_rendering()
    other = copied(trace)
    assert list(other.rows()) == list(trace.rows())
    assert (other.header, other.scenes, other.notice, other.growing) == (
        trace.header, trace.scenes, trace.notice, trace.growing)


@pytest.mark.parametrize("layout", [
    lambda trace: json.dumps(trace, indent=2),
    lambda trace: json.dumps(trace),
    lambda trace: json.dumps(trace, sort_keys=True, separators=(",", ":")),
    lambda trace: "\ufeff" + json.dumps(trace, separators=(",", ":")),
])
def test_a_trace_that_another_tool_laid_out_says_the_same(whole: Path, layout: Callable[[dict], str]) -> None:
    before = read_trace(whole)
    results = [before.block(index) for index in range(len(before))]
    text = layout(json.loads(whole.read_text("utf-8")))
    other = whole.with_name("other.json")
    other.write_text(text, "utf-8")
    after = read_trace(other)
    assert [after.block(index) for index in range(len(after))] == results
    assert (after.header, after.scenes, after.totals) == (before.header, before.scenes, before.totals)


def test_line_ends_of_another_system_are_no_damage(whole: Path) -> None:
    whole.write_bytes(whole.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read_trace(whole)) == 52


@pytest.mark.parametrize(("content", "words"), [
    (b"", "is empty"),
    (b"\x00\x00\x00\x20ftypisom\x00\x00", "is a binary file, not a trace"),
    (b"title: Rooftop\nscenes: []\n", "is not a trace"),
    (b'{"scenes": []}', "is JSON, but not a trace"),
    (b"[1, 2]", "is JSON, but not a trace"),
    (b'{"scenes": [', "neither a trace nor valid JSON"),
    (b"[" * 100_000, "neither a trace nor valid JSON"),
    (b'{"format":"echo-trace","version":1,"header":{"tool":"ec', "cut off before its first record"),
    (b'{"format":"echo-trace","version":2,"header":{},"records":[\n', "newer echo .trace version 2, this one reads 1"),
    (b'{\n  "format": "echo-trace",\n  "version": 9}', "newer echo"),
    (b'{"format":"echo-trace","version":0,"header":{},"records":[\n', "trace version 0"),
    (b'{"format": "echo-trace", "version": 1}', "calls itself a trace, but lacks"),
    (b'{"format":"echo-trace","version":1,"header":{},"records":[\n', ":1: this line is damaged"),
])
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "film.json"
    path.write_bytes(content)
    refused(path, words)


def test_a_missing_file_points_to_what_a_stopped_run_left(tmp_path: Path) -> None:
    refused(tmp_path / "nothing.trace.json", "does not exist")
    write_story(tmp_path / "film.trace.json", blocks=5)
    assert "film.trace.json.partial" in refused(tmp_path / "film.trace.json", "its run did not finish").hint
    refused(tmp_path, "is a folder")


def test_the_film_instead_of_its_trace_is_a_likely_slip(whole: Path) -> None:
    film = whole.with_name("film.mp4")
    film.write_bytes(b"\0\0\0\x20ftypisom")
    assert str(whole) in refused(film, "binary").hint


def test_damage_in_the_middle_is_told_with_its_line(whole: Path) -> None:
    lines = whole.read_bytes().split(b"\n")
    whole.write_bytes(b"\n".join([*lines[:7], b"\0\0\0\0", *lines[8:]]))
    refused(whole, ":8: this line is damaged")
    whole.write_bytes(b"\n".join([*lines[:7], lines[7][:40], *lines[8:]]))
    trace = read_trace(whole)
    with pytest.raises(UsageError, match=":8: this line is damaged"):
        list(trace.rows())
    whole.write_bytes(b"\n".join([*lines[:7], b'{"kind":"block","block":5}', *lines[8:]]))
    with pytest.raises(UsageError, match=":8: this line is damaged"):
        read_trace(whole).block(5)


def spoiled(whole: Path, pattern: str, number: int) -> Path:
    text, count = re.subn(pattern, rf"\g<1>{number}", whole.read_text("utf-8"), count=1)
    assert count == 1
    whole.write_text(text, "utf-8")
    return whole


def test_a_seed_may_be_as_large_as_a_storyboards_and_no_other_number(whole: Path) -> None:
    seed = r'("seed":)\d+'
    for right in (2**53 + 1, 2**63 - 1):
        assert read_trace(spoiled(whole, seed, right)).header.seed == right
    for wrong in (2**63, -1):
        refused(spoiled(whole, seed, wrong), ":1: this line is damaged")
    spoiled(whole, r'("seed":)-?\d+', 0)
    refused(spoiled(whole, r'("pictures":)\d+', 2**53 + 1), ":1: this line is damaged")


def test_what_a_later_minor_version_adds_is_passed_over(whole: Path) -> None:
    lines = whole.read_text("utf-8").split("\n")
    lines[1] = lines[1].replace('{"kind":"scene",', '{"kind":"scene","mood":"blue",')
    lines.insert(2, '{"kind":"weather","rain":true},')
    whole.write_text("\n".join(lines), "utf-8")
    trace = read_trace(whole)
    assert len(trace) == 52 and len(trace.scenes) == 4


def test_a_trace_that_lacks_the_record_of_a_scene_is_shown(whole: Path, tmp_path: Path) -> None:
    whole.write_text(whole.read_text("utf-8").replace('{"kind":"scene"', '{"kind":"weather"', 1), "utf-8")
    for question in ([], ["--html", str(tmp_path / "report.html")]):
        assert run(["inspect-cache", str(whole), *question]) == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(b'0123456789"{}[],:-.nt\x00\xff')), min_size=1,
                        max_size=4))
def test_a_trace_with_wrong_bytes_is_shown_or_refused_but_never_a_fault(tmp_path: Path,
                                                                        changes: list[tuple[int, int]]) -> None:
    path, whole = tmp_path / "film.trace.json", tmp_path / "whole.trace.json"
    spoilt = bytearray((whole if whole.exists() else write_story(whole, STORY[:2])).read_bytes())
    for place, byte in changes:
        spoilt[place % len(spoilt)] = byte
    path.write_bytes(spoilt)
    for question in ([], ["--csv"], ["--block", "3"], ["--html", str(tmp_path / "report.html")]):
        assert run(["inspect-cache", str(path), *question]) in (Exit.DONE, Exit.USAGE)
