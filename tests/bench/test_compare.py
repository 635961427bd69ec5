"""Two results side by side: what changed is found, what did not is left out, and what cannot be compared is refused."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from echo_cli.bench.compare import compare, lines
from echo_cli.bench.results import Report, Row, csv_rows, filled, read, saved
from echo_cli.bench.statistics import Verdict
from echo_cli.cli.app import run
from echo_cli.errors import UsageError

SEEDS = range(12)


def memory(
    shift: float = 0.0,
    policies: tuple[str, ...] = ("window", "echo-forcing"),
    scenarios: tuple[str, ...] = ("cuts", "recall-1"),
    seed: int = 0,
) -> dict:
    """Stories that differ much, of which each is shifted a little in `recall`."""
    dice, stories = np.random.default_rng(seed), np.random.default_rng(9)
    hard = {(scenario, number): stories.normal(20, 5) for scenario in scenarios for number in SEEDS}
    rows = [
        Row(
            scenario,
            policy,
            number,
            {"recall": hard[scenario, number] + shift + dice.normal(0, 0.1), "memory": 12.0},
            {"left over": [(2.0, 1.0), (6.0, float(number))]},
        )
        for scenario in scenarios
        for policy in policies
        for number in SEEDS
    ]
    about = {
        "version": "1",
        "model": "tiny",
        "weights": f"w{shift}",
        "seeds": list(SEEDS),
        "lacking": {},
        "films": len(rows),
        "seconds": 1.0,
    }
    return Report(
        about,
        {name: {"words": name} for name in scenarios},
        {name: {"settings": {}} for name in policies},
        "echo-forcing",
        tuple(rows),
    ).as_dict()


def speed(block: float, spread: float = 1.0) -> dict:
    row = {
        "policy": "window",
        "block_ms": block,
        "spread_ms": spread,
        "processor_ms": block,
        "parts_ms": {"linear": block / 2},
        "stages_ms": {"denoise": block},
        "pictures_per_second": 1000 / block,
        "whole_pictures_per_second": None,
        "share_of_peak": 0.4,
        "bytes_last": 1_000_000,
    }
    film = {"policy": "window", "pictures": 100, "wall_s": block / 10, "first_picture_s": 0.5}
    return {
        "kind": "bench speed",
        "format": 1,
        "version": "1",
        "policies": [row],
        "films": [film],
        "decode_ms": 5.0,
        "encode_ms": 6.0,
        "peak_flops": 1e9,
    }


def verdict(result, policy: str, metric: str) -> Verdict | None:
    return next(change.verdict for change in result.changes if (change.policy, change.metric) == (policy, metric))


def test_a_small_change_is_seen_among_stories_that_differ_much():
    result = compare(memory(), memory(0.5, seed=1))
    change = next(change for change in result.changes if change.metric == "recall" and change.policy == "window")
    assert change.verdict is Verdict.BETTER and change.low < 0.5 < change.high and change.pairs == 12
    assert verdict(compare(memory(), memory(-0.5, seed=1)), "window", "recall") is Verdict.WORSE
    assert verdict(compare(memory(), memory(0.0, seed=1)), "window", "recall") is Verdict.SAME
    assert verdict(result, "window", "memory") is None  # a cost is shown but not judged
    assert result.facts == {"weights": ("w0.0", "w0.5")}


def test_only_what_both_have_is_compared():
    result = compare(memory(scenarios=("cuts", "recall-1")), memory(0.5, ("window",), ("recall-1", "chain"), 1))
    assert {change.policy for change in result.changes} == {"window"}
    assert set(result.left_out) == {
        "scenario cuts, only in the first",
        "scenario chain, only in the second",
        "policy echo-forcing, only in the first",
    }
    with pytest.raises(UsageError, match="no film in common"):
        compare(memory(scenarios=("cuts",)), memory(scenarios=("chain",)))


def test_a_block_is_quicker_only_where_quartiles_do_not_touch():
    assert verdict(compare(speed(100), speed(90)), "window", "block_ms") is Verdict.BETTER
    assert verdict(compare(speed(100), speed(110)), "window", "block_ms") is Verdict.WORSE
    assert verdict(compare(speed(100, 6), speed(110, 6)), "window", "block_ms") is Verdict.SAME
    table = "\n".join(lines(compare(speed(100), speed(90))))
    assert "-10.0%" in table and "better" in table and "pictures_a_second" in table


def test_a_report_comes_back_from_its_json_with_the_same_figures():
    saved_run = memory(0.3)
    again = saved(json.loads(json.dumps(saved_run)))
    assert again.as_dict()["summary"] == saved_run["summary"]
    assert again.curve("cuts", "window", "left over") == [(2.0, 1.0), (6.0, 5.5)]
    assert len(list(csv_rows(again))) == len(saved_run["summary"])


def test_a_film_that_nobody_made_twice_counts_for_both():
    rows = filled([Row("long", "sink", seed, {"drift": seed}, {}) for seed in (1, 2)], {("long", "none"): "sink"})
    assert [(row.policy, row.seed, row.same_as) for row in rows] == [
        ("sink", 1, None),
        ("sink", 2, None),
        ("none", 1, "sink"),
        ("none", 2, "sink"),
    ]


def test_the_command_reads_what_the_benches_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, saved_run in zip(paths, (memory(), memory(0.5, seed=1)), strict=True):
        path.write_text(json.dumps(saved_run))
    assert run(["bench", "compare", *map(str, paths)]) == 0
    out = capsys.readouterr().out
    assert "recall" in out and "better" in out
    assert run(["bench", "compare", *map(str, paths), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["of"] == "bench memory"


def test_what_cannot_be_compared_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    good, newer = written("memory.json", json.dumps(memory())), copy.deepcopy(memory()) | {"format": 99}
    for bad, said in (
        (written("speed.json", json.dumps(speed(1))), "one is 'bench memory', the other 'bench speed'"),
        (tmp_path / "no.json", "no such file"),
        (written("half.json", '{"kind": '), "not valid JSON at line 1"),
        (written("list.json", "[]"), "not the result of a bench"),
        (written("newer.json", json.dumps(newer)), "newer version"),
        (written("other.json", '{"kind": "x"}'), "cannot be compared"),
        (written("hollow.json", '{"kind": "bench memory"}'), "is incomplete"),
    ):
        with pytest.raises(UsageError, match=said):
            compare(read(good), read(bad))
    assert run(["bench", "compare", str(good), str(bad)]) == 2
    err = capsys.readouterr().err
    assert "is incomplete" in err and "hint:" in err and "Traceback" not in err
