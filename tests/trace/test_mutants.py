"""Traces with one thing wrong in them: whatever is asked of one, the answer is given or the trace is refused."""

import copy
import io
import json
import os
import random
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from echo_cli.cli.app import run
from echo_cli.storyboard.nouns import Kind, Scene
from tests.trace.story import write_story

SCENES = (Scene("roof", "A red ball on a roof", 6.0), Scene("edge", "The ball stops", 0.75, Kind.SMOOTH),
          Scene("back", "The ball bounces", 1.5, Kind.RECALL, "roof"))
QUESTIONS = ((), ("--json",), ("--csv",), ("--html", "page.html"), ("--scene", "back"), ("--scene", "3", "--json"),
             ("--block", "7"), ("--block", "9", "--json"), ("--at", "5s", "--layer", "1"), ("--diff", "whole.json"))
VALUES = (None, True, -1, 0, 10**12, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x", "\ud800", "hard cut", [],
          {}, [None], [[1]], [1, 2, 3], {"x": 1})
GONE = object()  # in place of a value: the part is missing
MUTANTS = 2400


def places(row: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every part of a row."""
    for key, part in row.items() if isinstance(row, dict) else enumerate(row) if isinstance(row, list) else ():
        yield (*path, key)
        yield from places(part, (*path, key))


def with_one_thing_wrong(whole: dict, path: tuple, value: object) -> dict:
    mutant = copy.deepcopy(whole)
    part = mutant
    for key in path[:-1]:
        part = part[key]
    if value is GONE:
        del part[path[-1]]
    else:
        part[path[-1]] = value
    return mutant


def as_lines(trace: dict) -> str:
    """As a run writes it: a record a line."""
    records = ",\n".join(json.dumps(record, separators=(",", ":")) for record in trace["records"])
    header = json.dumps({key: trace[key] for key in trace if key not in ("records", "totals")}, separators=(",", ":"))
    totals = "],\"totals\":" + json.dumps(trace["totals"], separators=(",", ":")) + "}" if "totals" in trace else ""
    return f'{header[:-1]},"records":[\n{records}\n{totals}\n'


def asked(*arguments: str) -> tuple[int, str]:
    """The exit code of `inspect-cache`, and what it said on standard error."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(["inspect-cache", *arguments])
    if code == 0 and "--json" in arguments:
        json.loads(out.getvalue(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    return code, err.getvalue()


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    trace = json.loads(write_story(tmp_path / "whole.json", SCENES).read_text())
    blocks = [record for record in trace["records"] if record["kind"] == "block"]
    blocks[5]["measured"]["queries"] = [{"left": [[0, 0.4], [None, 0.2]], "gate": 0.5}, {"left": [], "gate": None}]
    blocks[5]["layout"]["segments"][0]["role"] = "query"
    assert asked("whole.json") == (0, "")
    return trace


@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.slow) for part in range(1, 4))])
def test_a_trace_with_one_thing_wrong_is_read_or_refused(whole: dict, tmp_path: Path, part: int) -> None:
    dice, every = random.Random(part), list(places(whole))
    for number in range(MUTANTS // 4):
        path, value = dice.choice(every), dice.choice((*VALUES, GONE))
        mutant = with_one_thing_wrong(whole, path, value)
        (tmp_path / "mutant.json").write_text(as_lines(mutant) if len(path) > 1 and number % 4 else json.dumps(mutant))
        question = QUESTIONS[number % len(QUESTIONS)]
        code, said = asked("mutant.json", *question)
        assert code in (0, 2), f"{path} = {value!r}, {question}: {said}"


@pytest.mark.parametrize(("wrong", "words"), [
    (lambda text: text.replace('"position":0', '"position":NaN', 1), "is damaged"),
    (lambda text: text.replace('"tokens":24', '"tokens":1' + "0" * 5000, 1), "is damaged"),
    (lambda text: text.replace('"layout":{', '"layout":' + "[" * 50_000, 1), "is damaged"),
    (lambda text: "[" * 50_000, "neither a trace nor valid JSON"),
    (lambda text: text.replace('"title":"', '"title":"\\ud800', 1), ":1: this line is damaged"),
], ids=["not a number", "thousands of digits", "deep in a line", "deep", "half a character"])
def test_what_json_cannot_hold_is_named(whole: dict, tmp_path: Path, wrong: Any, words: str) -> None:
    text = (tmp_path / "whole.json").read_text()
    assert wrong(text) != text
    (tmp_path / "mutant.json").write_text(wrong(text))
    code, said = asked("mutant.json", "--csv")
    assert code == 2 and words in said and "hint:" in said


def test_a_pipe_is_not_waited_for(whole: dict, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.trace.json")
    for path in ("pipe.trace.json", "/dev/zero"):
        code, said = asked(path)
        assert code == 2 and "a pipe or a device, not a file" in said
