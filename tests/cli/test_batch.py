"""The real command over many storyboards: what is made, skipped, failed and left, in shares and again, with its exit
code."""

import io
import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest

from echo_cli.cli.app import run
from echo_cli.models import loaders
from echo_cli.models.registry import MODELS
from echo_cli.render import prepare, session
from echo_cli.render.lock import OneWriter
from tests.render import stage

ROOT = Path(__file__).parents[2]
BRIEF = "seed: {seed}\nscenes: [{{id: a, prompt: a red ball, duration: 0.5s}}]\n"
LONG = "scenes: [{id: a, prompt: a red ball, duration: 10m}]\n"
HOW = ("--scale", "1", "--preset", "ultrafast")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, and the small model under the name `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    folder = tmp_path / "here"
    (folder / "night").mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def write(*names: str, text: str = BRIEF) -> None:
    for number, name in enumerate(names):
        Path("night", name).write_text(text.format(seed=number) if "{seed}" in text else text)


def batch(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict], str]:
    """The exit code, the lines of JSON, and what was said."""
    capsys.readouterr()
    code = run(["batch", *arguments, "--json", *HOW])
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


def by_status(lines: list[dict]) -> dict[str, list[str]]:
    results: dict[str, list[str]] = {}
    for line in lines:
        results.setdefault(line["status"], []).append(Path(line["storyboard"]).name)
    return results


def hashes(folder: str) -> dict[str, str]:
    return {path.name: json.loads(path.read_text())["outputs"]["film"]["sha256"]
            for path in Path(folder).rglob("*.manifest.json")}


def test_a_film_that_was_removed_is_rendered_with_another_seed(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml")
    assert batch("night", capsys=capsys)[0] == 0
    Path("a.mp4").unlink()
    code, lines, _ = batch("night", "--seed", "2", capsys=capsys)
    assert code == 0 and by_status(lines) == {"made": ["a.yaml"]}


def test_one_bad_storyboard_does_not_stop_the_rest_and_what_is_done_is_skipped(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("a.yaml", "b.yaml", "c.yml")
    write("bad.yaml", text="scenes: [{id: a, prompt: a red ball}]")
    code, lines, err = batch("night", "missing.yaml", "--out-dir", "films", capsys=capsys)
    assert code == 2
    assert by_status(lines) == {"failed": ["missing.yaml", "bad.yaml"], "made": ["a.yaml", "b.yaml", "c.yml"]}
    assert [line["job"] for line in lines] == [1, 4, 2, 3, 5] and {line["jobs"] for line in lines} == {5}
    assert lines[1]["exit_code"] == 2 and "how long does it last" in lines[1]["message"] and "Traceback" not in err
    assert lines[2]["film"] == "films/a.mp4" and lines[2]["pictures"] == 8
    assert lines[2]["sha256"] == hashes("films")["a.manifest.json"]
    assert "5 storyboards: 2 failed, 3 made" in err and "exit code 2: missing.yaml, night/bad.yaml" in err
    assert re.search(r"^Progress: 100\.0% \| film 5/5 c\.yml \| block 1/1 \| ", err, re.M)

    Path("night/bad.yaml").unlink()
    before = {path: path.stat().st_mtime_ns for path in Path("films").iterdir()}
    Path("films/b.trace.json").unlink()  # a film that is no longer whole
    code, lines, err = batch("night", "--out-dir", "films", capsys=capsys)
    assert code == 0 and by_status(lines) == {"skipped": ["a.yaml", "c.yml"], "made": ["b.yaml"]}
    assert all(path.stat().st_mtime_ns == then for path, then in before.items() if path.name[0] in "ac")


@pytest.mark.parametrize("broken", ["read_storyboard", "Prepared.job"])
@pytest.mark.parametrize("name", ["{stem}", "{stem}-{seed}"])
def test_a_fault_of_ours_in_reading_one_storyboard_does_not_stop_the_rest(
        broken: str, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.yaml", "b.yaml", "c.yaml")
    whole = attrgetter(broken)(prepare)

    def faulty(asked: Any, *more: Any) -> Any:
        if "b.yaml" in repr(asked):
            raise ValueError("unexpected")
        return whole(asked, *more)

    monkeypatch.setattr(f"echo_cli.render.prepare.{broken}", faulty)
    for more in (("--plan",), ()):
        code, lines, err = batch("night", "--name", name, *more, capsys=capsys)
        assert code == 1 and "This is an internal error" in err and "Traceback" not in err
        assert "[2/3] night/b.yaml: failed, exit code 1\nnight/b.yaml: ValueError: unexpected\n" in err
        assert [Path(line["storyboard"]).name for line in lines if line.get("status") != "failed"] == (
            ["a.yaml", "c.yaml"])


def test_a_film_of_another_process_is_put_off_to_the_end(
        place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write("a.yaml", "b.yaml", "c.yaml")
    other = OneWriter(place / "a.lock", place / "a.mp4")
    other.__enter__()
    code, lines, err = batch("night", capsys=capsys)
    assert code == 75 and [(Path(line["storyboard"]).name, line["status"]) for line in lines] == [
        ("b.yaml", "made"), ("c.yaml", "made"), ("a.yaml", "held")]
    assert "night/a.yaml: a.mp4 is being rendered by process" in err and "back to this one at the end" in err

    Path("b.manifest.json").unlink()
    monkeypatch.setattr(session, "wait", lambda seconds, interruption: other.__exit__())  # it ends while we wait
    code, lines, err = batch("night", "--wait", "60", "--force", capsys=capsys)
    assert code == 0 and [Path(line["storyboard"]).name for line in lines if line["status"] == "made"] == [
        "b.yaml", "c.yaml", "a.yaml"]


def test_without_json_standard_output_has_the_films(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", "b.yaml")
    assert run(["batch", "night/a.yaml", *HOW]) == 0
    assert capsys.readouterr().out == "a.mp4\n"
    assert run(["batch", "night", *HOW]) == 0
    assert capsys.readouterr().out == "a.mp4\nb.mp4\n"


def test_quiet_prints_nothing_but_what_json_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml")
    assert run(["batch", "night", *HOW, "--quiet"]) == 0
    assert run(["batch", "night", *HOW, "--quiet"]) == 0  # skipped
    assert capsys.readouterr() == ("", "")
    assert run(["batch", "night", *HOW, "-q", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["status"] == "skipped" and err == ""
    assert run(["batch", "night", "--plan", "-q"]) == 2
    assert capsys.readouterr().out == ""
    assert run(["batch", "night", "--seed", "3", "--plan", "-q", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["command"][:2] == ["echo-cli", "generate"]


def test_progress_json_leaves_nothing_but_objects_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml")
    write("bad.yaml", text="scenes: []\n")
    for more, least in (((), {"progress", "warning"}), (("--quiet",), {"warning"})):
        code, _, err = batch("night", "--progress", "json", "--force", *more, capsys=capsys)
        events = [json.loads(line) for line in err.splitlines()]
        assert code == 2 and least <= {event["event"] for event in events}
        assert any("bad.yaml: failed, exit code 2" in event.get("message", "") for event in events)


def test_a_batch_that_cannot_begin_says_so_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines, _ = batch("absent", capsys=capsys)
    assert code == 2 and [line["status"] for line in lines] == ["failed"]


def test_names_say_what_they_are_made_of_and_may_not_meet(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", "b.yaml")
    Path("day").mkdir()
    Path("day/a.yaml").write_text(BRIEF.format(seed=9))
    code, lines, err = batch("day", "night", capsys=capsys)
    assert code == 2 and "day/a.yaml and night/a.yaml would both become a.mp4" in err
    assert [(line["status"], line["exit_code"]) for line in lines] == [("failed", 2)]
    assert not list(Path().glob("*.mp4"))
    code, lines, _ = batch("day", "night", "--name", "{folder}/{stem}-{seed:03}", "--out-dir", "o", capsys=capsys)
    assert code == 0 and [line["film"] for line in lines] == [
        "o/day/a-009.mp4",
        "o/night/a-000.mp4",
        "o/night/b-001.mp4",
    ]
    code, lines, _ = batch("night", "--name", "{stem}-{seed}", "--seed", "7", "--out-dir", "o", capsys=capsys)
    assert [line["film"] for line in lines] == ["o/a-7.mp4", "o/b-7.mp4"]
    # a collision is seen in every share, also in those that would not make both
    code, _, err = batch("day", "night", "--shard", "3/3", capsys=capsys)
    assert code == 2 and "would both become" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no storyboard to render"),
        (["*.yaml"], 2, "no storyboard matches"),
        (["night", "--shard", "0/3"], 2, "numbered from 1 to 3"),
        (["night", "--shard", "auto"], 2, "no scheduler says"),
        (["night", "--name", "{sted}"], 2, "did you mean 'stem'"),
        (["night", "--address", "x:1"], 2, "--address is for --engine ray"),
        (["night", "--actors", "2"], 2, "--actors is for --engine ray"),
        (["night", "--progress", "openjd"], 2, "both write to standard output"),
        (["night", "--retries", "-1"], 2, "--retries"),
        (["night", "--memory", "echo-forcin"], 2, "echo-forcing"),
        (["night", "--model", "tinny"], 2, "did you mean 'tiny'"),
        (["night", "--engine", "slurm"], 2, "slurm"),
        (["night", "--size", "big"], 2, "WIDTHxHEIGHT"),
        (["night", "--dtype", "float8", "--plan"], 2, "no dtype is called 'float8'"),
        (["night", "--device", "abacus", "--plan"], 2, "no device is called 'abacus'"),
        (["night", "--engine", "ray", "--dtype", "float8"], 2, "no dtype is called 'float8'"),
    ],
)
def test_what_the_whole_batch_has_wrong_is_told_before_anything(arguments: list[str], code: int, said: str,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml")
    result, lines, err = batch(*arguments, capsys=capsys)
    assert result == code and said in err and "hint:" in err and set(os.listdir()) == {"night"}
    assert [(line["status"], line["exit_code"]) for line in lines] == [("failed", code)]


def test_each_failure_has_its_code_and_one_speaks_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", "b.yaml", "c.yaml")
    write("d.yaml", text="nonsense")
    Path("b.mp4").write_text("mine")
    Path("c.mp4").mkdir()
    code, lines, err = batch("night", "--retries", "2", capsys=capsys)
    assert code == 5 and {Path(line["storyboard"]).stem: line["exit_code"] for line in lines} == {
        "d": 2,
        "a": 0,
        "b": 5,
        "c": 0,
    }
    assert Path("b.mp4").read_text() == "mine" and Path("c.mp4/c.mp4").exists()
    assert "exit code 5: night/b.yaml\nexit code 2: night/d.yaml" in err
    code, lines, _ = batch("night/a.yaml", "--out-dir", "b.mp4", capsys=capsys)
    assert code == 5 and lines[0]["hint"] == "Choose another name with --out-dir."

    code, lines, _ = batch("night", "--fail-fast", "--out-dir", "new", capsys=capsys)
    assert code == 2 and by_status(lines) == {"failed": ["d.yaml"], "left": ["a.yaml", "b.yaml", "c.yaml"]}
    assert not Path("new").exists()
    code, lines, _ = batch("night/[a-c].yaml", "--device", "cuda:99", "--out-dir", "new", capsys=capsys)
    assert code == 3 and by_status(lines) == {"failed": ["a.yaml", "b.yaml", "c.yaml"]}


def test_progress_for_a_farm_is_the_batchs(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", "b.yaml")
    write("c.yaml", text="nonsense")
    assert run(["batch", "night", "--progress", "openjd", *HOW]) == 2
    out = capsys.readouterr().out
    assert (
        "openjd_progress: 50.0\nopenjd_status: film 1/3 a.yaml | block 1/1" in out and "openjd_progress: 100.0\n" in out
    )
    assert out.endswith("openjd_fail: 3 storyboards: 1 failed, 2 made\n")


def test_a_log_has_the_head_and_what_became_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml")
    write("c.yaml", text="nonsense")
    batch("night", "--log-file", "logs/night.log", capsys=capsys)
    log = Path("logs/night.log").read_text()
    assert "machine: " in log and "storyboards: 2" in log and "a.mp4, 8 pictures" in log
    assert "night/c.yaml: failed, exit code 2" in log


def test_a_plan_is_commands_that_make_the_same_films(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", "it's.yaml", "two\nlines.yaml", "-n.yaml")
    write("bad.yaml", text="nonsense")
    run(["batch", "night/a.yaml", "--out-dir", "films", *HOW])
    capsys.readouterr()
    assert run(["batch", "night", "--out-dir", "films", "--plan", "--seed", "3", *HOW]) == 2
    out, err = capsys.readouterr()
    # another seed: a.yaml is not done
    assert len(out.splitlines()) == 4 and "night/bad.yaml: failed, exit code 2" in err
    assert run(["batch", "night", "--out-dir", "films", "--plan", *HOW]) == 2
    plan = capsys.readouterr().out
    assert len(plan.splitlines()) == 3 and "a.yaml" not in plan
    assert all(line.startswith("echo-cli generate ") for line in plan.splitlines())

    odd, = (line for line in plan.splitlines() if "printf" in line)
    tool = f"{shlex.quote(sys.executable)} -m tests.render.stage"
    subprocess.run(["sh", "-c", odd.replace("echo-cli", tool, 1)], cwd="/", env={**os.environ, "PYTHONPATH": str(ROOT)},
                   capture_output=True, check=True)
    for line in plan.splitlines():
        if line != odd:
            assert run(shlex.split(line)[1:]) == 0
    _code, lines, _ = batch("night", "--out-dir", "films", capsys=capsys)
    assert by_status(lines) == {
        "failed": ["bad.yaml"],
        "skipped": ["-n.yaml", "a.yaml", "it's.yaml", "two\nlines.yaml"],
    }


def test_fast_reaches_every_film_its_manifest_a_plan_and_the_actors(capsys: pytest.CaptureFixture[str],
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    from echo_cli.render.batch import ray_engine

    runs = []
    family = loaders.FAMILIES["random"]
    load = family.load
    monkeypatch.setattr(family, "load", lambda model, runtime, running:
                        runs.append(running) or load(model, runtime, running))
    monkeypatch.setattr(family, "refusal", lambda model, running: None)  # a model that has it
    monkeypatch.setattr(
        ray_engine, "make_films", lambda films, *_: runs.extend(film.job.running for film in films) or ()
    )
    write("a.yaml")
    assert run(["batch", "night", "--out-dir", "films", "--fast", "--plan", *HOW]) == 0
    assert "--fast" in shlex.split(capsys.readouterr().out)
    assert run(["batch", "night", "--out-dir", "ray", "--fast", "--engine", "ray", *HOW]) == 0
    code, lines, _ = batch("night", "--out-dir", "films", "--fast", capsys=capsys)
    assert (code, by_status(lines)) == (0, {"made": ["a.yaml"]})
    assert [running.fast for running in runs] == [True, True]
    assert json.loads(Path("films/a.manifest.json").read_text())["identity"]["settings"]["fast"] is True
    code, lines, _ = batch("night", "--out-dir", "films", capsys=capsys)  # without it, it is another film
    assert (code, by_status(lines)) == (5, {"failed": ["a.yaml"]}) and "fast was True" in lines[0]["message"]


def test_a_plan_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", "b.yaml", "c.yaml")
    code, lines, _ = batch("night", "--plan", "--shard", "2/2", capsys=capsys)
    assert code == 0 and [line["job"] for line in lines] == [1]
    assert lines[0]["command"][:3] == ["echo-cli", "generate", os.path.abspath("night/b.yaml")]


def test_a_plan_tries_what_a_run_tries(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml")
    assert run(["batch", "night", "--plan", "--preset", "quick"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "--preset quick: not one of libx264's" in err
    for arguments, code, said in ((["--device", "cuda:7"], 3, "device 'cuda:7' is not here"),
                                  (["--out-dir", "night/a.yaml"], 5, "a part of its path is a file")):
        assert run(["batch", "night", "--plan", "--here", *arguments]) == code
        out, err = capsys.readouterr()
        assert out == "" and said in " ".join(err.split())
        assert run(["batch", "night", "--plan", *arguments]) == 0
        out, err = capsys.readouterr()
        assert out.startswith("echo-cli generate") and said in " ".join(err.split())
        assert run(["batch", "night", "--plan", "--elsewhere", *arguments]) == 0
        assert said not in " ".join(capsys.readouterr().err.split())


def test_what_will_disappoint_is_said_once_for_each_film(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", text="scenes: [{id: a, prompt: a red ball, duration: 0.5s},"
                         " {id: b, transition: 'recall:a', prompt: a ball, duration: 0.5s}]")
    write("b.yaml")
    said = "memory policy 'window' keeps no scenes, so nothing is recalled in 'b'"
    for more in ((), ("--plan", "--force")):
        code, lines, err = batch("night", "--memory", "window", *more, capsys=capsys)
        rows = {Path(line["storyboard"]).name: line for line in lines}
        assert code == 0 and err.count(said) == 1 and "warning: night/a.yaml: " in err
        assert [warning.startswith(said) for warning in rows["a.yaml"]["warnings"]] == [True]
        assert "warnings" not in rows["b.yaml"]


def in_shards(count: int, storyboards: int, capsys: pytest.CaptureFixture[str]) -> list[float]:
    """Sequential films and those of shares in any order are the same, and a second time nothing is made; how long that
    took."""
    write(*(f"{number}.yaml" for number in range(storyboards)))
    batch("night", "--out-dir", "alone", capsys=capsys)
    spent, shares = [], [f"{number}/{count}" for number in range(1, count + 1)]
    for wanted in ("made", "skipped"):
        random.Random(wanted).shuffle(shares)
        seen: list[str] = []
        for share in shares:
            began = time.monotonic()
            code, lines, _ = batch("night", "--out-dir", "shared", "--shard", share, capsys=capsys)
            spent.append(time.monotonic() - began)
            assert code == 0 and set(by_status(lines)) == {wanted}
            seen += [line["storyboard"] for line in lines]
        assert len(seen) == len(set(seen)) == storyboards
    assert hashes("alone") == hashes("shared") and len(hashes("alone")) == storyboards
    return spent[count:]


def test_shares_make_the_same_films_and_then_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    in_shards(5, 20, capsys)
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_INDEX", "6")
    monkeypatch.setenv("AWS_BATCH_JOB_ARRAY_SIZE", "7")
    code, lines, err = batch("night", "--out-dir", "shared", "--shard", "auto", capsys=capsys)
    assert code == 0 and len(lines) == 2 and {line["status"] for line in lines} == {"skipped"}
    code, lines, err = batch("night", "--out-dir", "shared", "--shard", "21/21", capsys=capsys)
    assert (code, lines) == (0, []) and "none in this share" in err


@pytest.mark.slow
def test_two_hundred_in_five_shares_twice(capsys: pytest.CaptureFixture[str]) -> None:
    again = in_shards(5, 200, capsys)
    with capsys.disabled():
        print(
            f"\n200 storyboards in 5 shares, all done already: {sum(again):.1f} s together, "
            f"{max(again):.1f} s the longest"
        )


def test_what_is_done_needs_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    write("a.yaml", "b.yaml")
    batch("night", capsys=capsys)
    program = (
        f"import sys; from echo_cli.models.registry import MODELS; MODELS.own['tiny'] = MODELS['{stage.SPEC.name}']; "
        f"from echo_cli.cli.app import run; code = run(['batch', 'night', '--json', *{HOW!r}]); "
        "sys.exit(code or 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["skipped"] * 2


def test_a_signal_ends_the_film_at_a_block_leaves_the_rest_and_the_next_run_goes_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("a.yaml", "c.yaml")
    write("b.yaml", text=LONG.replace("10m", "60s"))

    def stop() -> None:
        while (
            not Path("b.trace.json.partial").exists()
            or Path("b.trace.json.partial").read_text().count('"kind":"block"') < 3
        ):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    code, lines, err = batch("night", capsys=capsys)
    assert code == 75 and by_status(lines) == {"made": ["a.yaml"], "interrupted": ["b.yaml"], "left": ["c.yaml"]}
    assert lines[1]["exit_code"] == 75 and lines[2]["exit_code"] is None and "the same command again" in err
    code, lines, _ = batch("night", capsys=capsys)
    assert (
        code == 0
        and by_status(lines) == {"skipped": ["a.yaml"], "made": ["b.yaml", "c.yaml"]}
        and lines[1]["sittings"] == 2
    )
    resumed = hashes(".")["b.manifest.json"]
    batch("night/b.yaml", "--out-dir", "whole", capsys=capsys)
    assert hashes("whole") == {"b.manifest.json": resumed}


def test_the_list_may_come_from_another_program(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.yaml", "two\nlines.yaml")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"night/a.yaml\0night/two\nlines.yaml\0")))
    code, lines, _ = batch("-", capsys=capsys)
    assert code == 0 and [line["film"] for line in lines] == ["a.mp4", "two\nlines.mp4"]


def test_defaults_of_the_farm_and_the_project_are_in_the_films_and_in_planned_commands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write("a.yaml", "b.yaml", text="scenes: [{id: a, prompt: a red ball, duration: 0.5s}]\n")
    write("c.yaml", text="memory: sink\nseed: 7\nscenes: [{id: a, prompt: a red ball, duration: 0.5s}]\n")
    Path("echo.toml").write_text('memory = "window"\nretries = 1\nout_dir = "films"\n')
    monkeypatch.setenv("ECHO_SEED", "3")
    code, lines, _ = batch("night", "--plan", capsys=capsys)
    words = [" ".join(line["command"]) for line in lines]
    assert code == 0 and all("--seed 3 --memory window" in line for line in words[:2]) and "--memory" not in words[2]
    assert batch("night", capsys=capsys)[0] == 0
    assert sorted(path.name for path in Path("films").glob("*.mp4")) == ["a.mp4", "b.mp4", "c.mp4"]
    assert json.loads(Path("films/b.manifest.json").read_text())["identity"]["seed"] == 3
    assert json.loads(Path("films/c.manifest.json").read_text())["identity"]["seed"] == 7
