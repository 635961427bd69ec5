"""`train` as it is typed: what it refuses, and a whole miniature run that is stopped and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAIN = (sys.executable, "-c", "from echo_cli.cli.app import main; main()", "train")


def typed(*arguments: str, cwd=None) -> subprocess.CompletedProcess:
    return subprocess.run([*TRAIN, *arguments], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize(("arguments", "said"), [
    (("--preset", "huge"), "no preset is called 'huge'"),
    (("--minutes", "55"), "not a stage and its minutes"),
    (("--minutes", "teacher=soon"), "not a stage and its minutes"),
    (("--minutes", "nap=5"), "not a stage and its minutes"),
    (("--minutes", "teacher=-1"), "not a stage and its minutes"),
    (("--stage", "teacher"), "there is no codec yet"),
    (("--stage", "distill"), "polish.pt: there is no trained transformer yet"),
    (("--stage", "polish"), "teacher.pt: there is no trained transformer yet"),
    (("--device", "abacus"), "no device is called 'abacus'"),
    (("--memory", "window"), "'window' has nothing to learn"),
])
def test_what_cannot_be_is_told(tmp_path, arguments, said):
    done = typed(*arguments, "--out", str(tmp_path / "run"))
    assert done.returncode == 2 and said in done.stderr and "hint:" in done.stderr
    assert not done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [("train", "--device", "cpu"), ("train", "--report", "--device", "cpu"),
                                     ("bench", "soak", "--device", "cpu")])
def test_a_file_where_the_folder_should_be_is_told(tmp_path, command):
    (tmp_path / "run").write_text("mine")
    done = subprocess.run(
        [*TRAIN[:-1], *command, "--out", str(tmp_path / "run" / "of")], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (5, "") and "a part of its path is a file" in done.stderr
    assert os.listdir(tmp_path) == ["run"] and "hint:" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("--preset", "cpu"), ("--stage", "codec")])
def test_without_a_folder_it_says_what_it_would_do_and_does_nothing(tmp_path, arguments):
    done = typed(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "") and "Nothing was done" in done.stderr and "--out" in done.stderr
    assert "3 hours" in done.stderr and os.listdir(tmp_path) == []


@pytest.mark.parametrize(("command", "name"), [
    (("train",), "thesis.tex"), (("train",), "weights/model.json"), (("train", "--report"), "codec.safetensors"),
    (("bench", "soak"), "thesis.tex"), (("bench", "soak"), "scene-0001.png"),
])
def test_a_folder_that_holds_something_else_is_refused(tmp_path, command, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    done = subprocess.run([*TRAIN[:-1], *command, "--device", "cpu", "--out", "."], capture_output=True, text=True,
                          cwd=tmp_path)
    assert (done.returncode, done.stdout) == (5, "") and Path(name).name in done.stderr
    assert "hint: Name another folder, or an empty one." in done.stderr
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [name]


def test_faults_of_a_model_that_is_not_here_are_not_tried():
    done = subprocess.run(
        [*TRAIN[:-1], "bench", "faults", "--model", "tinny"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "") and "no model is called 'tinny'" in done.stderr
    assert "1 of" not in done.stderr


@pytest.mark.slow
def test_a_miniature_run_that_is_stopped_goes_on_to_the_end(tmp_path):
    run = tmp_path / "run"
    first = subprocess.Popen([*TRAIN, "--preset", "mini", "--out", str(run)], stderr=subprocess.PIPE, text=True)
    while not (run / "codec.csv").exists():
        time.sleep(0.1)
        assert first.poll() is None
    os.kill(first.pid, signal.SIGTERM)
    told = first.communicate()[1]
    assert first.returncode == 75 and "Run the same command again" in told
    second = typed("--preset", "mini", "--out", str(run))
    assert second.returncode == 0 and second.stdout.strip() == str(run / "weights")
    assert {"codec.csv", "teacher.csv", "distill.csv", "polish.csv", "codec.png", "teacher.png", "polish.png",
            "distill.png"} <= {path.name for path in run.iterdir()}
    assert {path.name for path in (run / "weights").iterdir()} == {
        "codec.safetensors", "transformer.safetensors", "words.safetensors", "queries.safetensors", "index.json"}


@pytest.mark.slow
def test_queries_are_trained_for_the_packaged_weights_in_a_folder_of_their_own(tmp_path):
    run = tmp_path / "run"
    done = typed("--memory", "echo-infinity", "--preset", "mini", "--out", str(run))
    assert done.returncode == 0 and done.stdout.strip() == str(run / "weights") and "memory: done" in done.stderr
    told = json.loads((run / "weights" / "index.json").read_text())
    assert set(told["sha256"]) == {"transformer", "words", "codec", "queries"} and told["memory"]["steps"] == 2
    assert (run / "weights" / "queries.safetensors").stat().st_size < 2_000_000
