"""What a trace costs is measured on films that have one and on films that have none."""

import json

import pytest

from echo_cli.cli.app import run

ARGUMENTS = ["bench", "tracing", "--model", "random-small", "--seconds", "1", "--pairs", "1"]


def test_films_with_and_without_a_trace_are_rendered(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*ARGUMENTS, "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)
    assert [len(cost[name]) for name in ("traced_s", "untraced_s")] == [1, 1]
    assert cost["median_ratio"] == pytest.approx(cost["traced_s"][0] / cost["untraced_s"][0])
    assert all(seconds > 0 for name in ("traced_s", "untraced_s") for seconds in cost[name])
    assert run(ARGUMENTS) == 0
    assert capsys.readouterr().out.endswith(" over 1 pair of 1 s of film\n")
