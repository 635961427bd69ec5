"""A bench that takes films from earlier results finds what one finds that renders all of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echo_cli.bench.contestants import contestant
from echo_cli.bench.order import Order
from echo_cli.bench.reuse import earlier, reused
from echo_cli.bench.scenarios import SCENARIOS, with_length
from echo_cli.cli.app import run
from echo_cli.models.registry import MODELS
from tests.render import stage

STORIES = ("--scenario", "cuts", "--scenario", "mixed", "--scenario", "long", "--long", "6")
POLICIES = ("--policy", "none", "--policy", "sink", "--policy", "+suppress", "--policy", "never-left",
            "--against", "echo-forcing")
RUN = ("--seeds", "2", "--jobs", "1", "--out")
COSTS = ("memory", "block")


@pytest.fixture(autouse=True, scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, and the small model under the name `tiny`; `whole.json` is a table that was rendered in one go."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(MODELS.own, "tiny", stage.ROW)
        patch.chdir(folder := tmp_path_factory.mktemp("bench"))
        bench(*STORIES, *POLICIES, *RUN, "whole")
        yield folder


def bench(*arguments: str, code: int = 0) -> None:
    assert run(["bench", "memory", *arguments]) == code


def result(name: str) -> dict[str, Any]:
    return json.loads(Path(f"{name}.json").read_text())


def figures(name: str) -> dict[str, Any]:
    """All that a result says, except what it cost."""
    found = result(name)
    for row in found["rows"]:
        for cost in COSTS:
            row["figures"].pop(cost, None)
    return found | {"about": None, "summary": [each for each in found["summary"] if each["metric"] not in COSTS]}


def films(name: str) -> tuple[int, list[int]]:
    """How many were rendered, and how many came from each file."""
    about = result(name)["about"]
    return about["films"], [each["films"] for each in about["reused"]]


def edited(name: str, **changes: Any) -> str:
    """The whole table with other facts."""
    found = result("whole")
    Path(f"{name}.json").write_text(json.dumps(found | {"about": found["about"] | changes}))
    return f"{name}.json"


def test_a_table_is_put_together_from_two_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    found = result("whole")
    for name, scenario, policies in (("one", "cuts", list(found["policies"])),
                                     ("two", "mixed", ["sink", "echo-forcing"])):
        rows = [row for row in found["rows"] if row["scenario"] == scenario and row["policy"] in policies]
        there = {"rows": rows, "scenarios": {scenario: found["scenarios"][scenario]},
                 "policies": {each: found["policies"][each] for each in policies}}
        Path(f"{name}.json").write_text(json.dumps(found | there))
    bench(*STORIES, *POLICIES, "--reuse", "one.json", "--reuse", "two.json", *RUN, "all")
    assert figures("all") == figures("whole")
    assert films("whole") == (22, []) and films("all") == (10, [8, 4])
    head = capsys.readouterr().out.splitlines()[:3]
    assert "10 films in" in head[0] and head[1].startswith("8 films reused from one.json (")
    assert "4 films reused from two.json (" in Path("all.html").read_text()


def test_nothing_is_rendered_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echo_cli.bench.memory.load_backend", None)  # not even a model is loaded
    bench(*STORIES, *POLICIES, "--reuse", "whole.json", *RUN, "again")
    assert figures("again") == figures("whole") and films("again") == (0, [22])
    assert result("again")["about"]["reused"][0]["file"] == "whole.json"


def test_more_seeds_go_on_with_their_own_file() -> None:
    story = ("--scenario", "cuts", "--policy", "sink", "--against", "sink", "--together", "1")  # alone, to the last bit
    bench(*story, "--seeds", "1", "--jobs", "1", "--out", "own")
    bench(*story, "--reuse", "own.json", *RUN, "own")
    bench(*story, *RUN, "other")
    assert films("own") == (1, [1]) and films("other") == (2, [])
    assert figures("own") == figures("other")


def test_a_bench_that_was_stopped_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    story = ("--scenario", "cuts", "--scenario", "long", "--long", "6", "--policy", "sink", "--against", "sink")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("echo_cli.bench.memory._progress", stop)  # after the first piece
        bench(*story, *RUN, "stopped", code=75)
    assert "Add --reuse stopped.json" in capsys.readouterr().err and films("stopped") == (2, [])
    bench(*story, "--reuse", "stopped.json", *RUN, "stopped")
    bench(*story, "--reuse", "whole.json", *RUN, "rest")
    assert films("stopped") == (2, [2]) and figures("stopped") == figures("rest")


def taken(path: str, *again: str, blocks: int = 8, seeds: tuple[int, ...] = (0, 1)) -> int:
    """How many of the table's films are reused from a file."""
    order = Order("tiny", (SCENARIOS["cuts"], SCENARIOS["mixed"], with_length(SCENARIOS["long"], blocks)),
                  tuple(map(contestant, ("none", "sink", "+suppress", "never-left", "echo-forcing"))), seeds)
    return len(reused([earlier(Path(path))], again, order.films(stage.SPEC), order.scenarios_in_words(),
                      order.policies_in_words()).rows)


@pytest.mark.parametrize(("memory", "rendered"), [
    ("sink", 6),  # in every scenario
    ("echo-forcing", 10),  # and its settings
    ("echo", 2),  # of which never-left are films
    ("none", 18),  # all but those of one scene are compared with it
])
def test_films_of_a_memory_that_changed_are_not_reused(memory: str, rendered: int) -> None:
    assert taken("whole.json") == 22 and taken("whole.json", memory) == 22 - rendered


def test_a_memory_is_rendered_again() -> None:
    story = ("--scenario", "long", "--long", "6", "--policy", "none", "--policy", "sink", "--against", "echo-forcing")
    bench(*story, "--reuse", "whole.json", "--again", "sink", *RUN, "changed")
    bench(*story, "--reuse", "whole.json", *RUN, "kept")
    assert films("changed") == (2, [2]) and films("kept") == (0, [4]) and figures("changed") == figures("kept")


def test_a_film_that_was_the_same_as_another_is_reused_without_it() -> None:
    bench("--scenario", "long", "--long", "6", "--policy", "none", "--against", "+suppress", "--reuse", "whole.json",
          *RUN, "same")
    assert films("same") == (0, [4]) and not any(row["same_as"] for row in result("same")["rows"])


def test_what_is_not_the_same_is_not_reused() -> None:
    found = result("whole")
    found["scenarios"]["cuts"]["prompts"]["1"][0] += " again"  # 4 films
    found["scenarios"]["mixed"]["words"] = "another story"  # 10
    found["policies"]["sink"]["settings"] = {"sink": 1}  # two more of the long scene, and one of the cuts
    Path("odd.json").write_text(json.dumps(found))
    assert taken("odd.json") == 22 - 4 - 10 - 3
    found = result("whole")
    found["policies"]["sink"]["in_full"]["anchor_frames"] = 1  # another default
    Path("before.json").write_text(json.dumps(found))
    assert taken("before.json") == 22 - 6
    assert taken("whole.json", blocks=9) == 22 - 4
    assert taken("whole.json", seeds=(1, 2)) == 11


@pytest.mark.parametrize(("changes", "said"), [
    ({"weights": "f" * 64}, "the films of other weights: ffffffffffff"),
    ({"eye": "e" * 64}, "films that another eye judged: eeeeeeeeeeee"),
    ({"fast": "linear"}, "films of another --fast: linear; this run has none"),
    ({"device": "a card, bfloat16"}, "films in bfloat16, and this run renders in float32"),
])
def test_a_result_of_another_model_is_refused(changes: dict[str, str], said: str,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    name = edited("else", **changes)
    bench(*STORIES, *POLICIES, "--reuse", name, *RUN, "refused", code=2)
    assert f"else.json has {said}" in capsys.readouterr().err and not Path("refused.json").exists()


@pytest.mark.parametrize(("arguments", "said"), [
    (["--again", "sink"], "there is nothing to reuse"),
    (["--reuse", "whole.json", "--again", "sinc"], "did you mean 'sink'"),
    (["--reuse", "none.json"], "no such file"),
    (["--reuse", "speed.json"], "is a result of `bench speed`"),
    (["--reuse", "short.json"], "short.json is incomplete"),
    (["--reuse", "bare.json"], "bare.json is incomplete"),
])
def test_bad_input(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("speed.json").write_text('{"kind": "bench speed"}')
    Path("short.json").write_text('{"kind": "bench memory", "rows": [{}]}')
    found = result("whole")
    Path("bare.json").write_text(json.dumps(found | {"scenarios": {}}))
    bench("--scenario", "cuts", *POLICIES, *arguments, code=2)
    assert said in capsys.readouterr().err
