"""`train` as it is typed: what it refuses, and a whole miniature run that is stopped and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from echo_cli.cli import app
from echo_cli.models.tiny import parts

TRAIN = (sys.executable, "-c", "from echo_cli.cli.app import main; main()", "train")


class Done(NamedTuple):
    code: int
    out: str
    err: str


Typed = Callable[..., Done]


@pytest.fixture
def typed(capfd: pytest.CaptureFixture[str]) -> Typed:
    """A command line in this process."""
    return lambda *words: Done(app.run([*words]), *capfd.readouterr())


def start(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TRAIN, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize(("arguments", "said"), [
    (("--preset", "huge"), "no preset is called 'huge'"),
    (("--minutes", "55"), "not a stage and its minutes"),
    (("--minutes", "teacher=soon"), "not a stage and its minutes"),
    (("--minutes", "nap=5"), "not a stage and its minutes"),
    (("--minutes", "teacher=-1"), "not a stage and its minutes"),
    (("--stage", "teacher"), "there is no codec yet"),
    (("--stage", "distill"), "polish.pt: there is no trained transformer yet"),
    (("--stage", "steady"), "distill.pt: there is no distilled transformer yet"),
    (("--stage", "polish"), "teacher.pt: there is no trained transformer yet"),
    (("--device", "abacus"), "no device is called 'abacus'"),
    (("--memory", "window"), "'window' has nothing to learn"),
    (("--from", "nowhere"), "nowhere: there are no weights of tiny in this folder"),
])
def test_an_impossible_run_is_refused(typed: Typed, tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    done = typed("train", *arguments, "--out", str(tmp_path / "run"))
    assert done.code == 2 and said in done.err and "hint:" in done.err
    assert not done.out and "Traceback" not in done.err


@pytest.mark.parametrize("command", [("train", "--device", "cpu"), ("train", "--report", "--device", "cpu"),
                                     ("bench", "soak", "--device", "cpu")])
def test_a_file_in_place_of_the_folder_is_refused(typed: Typed, tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "run").write_text("mine")
    done = typed(*command, "--out", str(tmp_path / "run" / "of"))
    assert (done.code, done.out) == (5, "") and "a part of its path is a file" in done.err
    assert os.listdir(tmp_path) == ["run"] and "hint:" in done.err


@pytest.mark.parametrize(("arguments", "said"), [
    ((), "a stage at a time: codec, pool, teacher, polish, distill, steady, decoder, motion, memory, eye"),
    (("--preset", "cpu"), "3 hours on one core"), (("--preset", "mini"), "about a minute"),
    (("--preset", "gpu"), "several times the work"), (("--stage", "codec"), "a stage at a time: codec\n"),
    (("--preset", "huge"), "no preset is called 'huge'"), (("--minutes", "nap=5"), "not a stage and its minutes"),
    (("--memory", "window"), "'window' has nothing to learn"), (("--from", "nowhere"), "there are no weights of tiny"),
])
def test_without_a_folder_it_says_what_it_would_do_and_is_no_success(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = typed("train", *arguments)
    assert (done.code, done.out) == (2, "") and said in done.err and "hint:" in done.err
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("command", "name"), [
    (("train",), "thesis.tex"), (("train",), "weights/model.json"), (("train", "--report"), "codec.safetensors"),
    (("bench", "soak"), "thesis.tex"), (("bench", "soak"), "scene-0001.png"),
])
def test_a_folder_that_holds_something_else_is_refused(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    done = typed(*command, "--device", "cpu", "--out", ".")
    assert (done.code, done.out) == (5, "") and Path(name).name in done.err
    assert "hint: Name another folder, or an empty one." in done.err
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()] == [name]


def test_faults_of_a_model_that_is_not_here_are_not_tried(typed: Typed) -> None:
    done = typed("bench", "faults", "--model", "tinny")
    assert (done.code, done.out) == (2, "") and "no model is called 'tinny'" in done.err
    assert "1 of" not in done.err


@pytest.mark.slow
def test_a_miniature_run_that_is_stopped_resumes_to_the_end(tmp_path):
    run = tmp_path / "run"
    first = subprocess.Popen([*TRAIN, "--preset", "mini", "--out", str(run)], stderr=subprocess.PIPE, text=True)
    while not (run / "codec.csv").exists():
        time.sleep(0.1)
        assert first.poll() is None
    os.kill(first.pid, signal.SIGTERM)
    said = first.communicate()[1]
    assert first.returncode == 75 and "Run the same command again" in said
    second = start("--preset", "mini", "--out", str(run))
    assert second.returncode == 0 and second.stdout.strip() == str(run / "weights")
    assert {"codec.csv", "teacher.csv", "distill.csv", "polish.csv", "codec.png", "teacher.png", "polish.png",
            "distill.png"} <= {path.name for path in run.iterdir()}
    assert {path.name for path in (run / "weights").iterdir()} == {
        "codec.safetensors", "transformer.safetensors", "words.safetensors", "queries.safetensors", "index.json"}


@pytest.mark.slow
def test_a_run_may_start_from_the_packaged_weights(tmp_path):
    run, packaged = tmp_path / "run", Path(parts.__file__).parent / "weights"
    done = start("--from", "tiny", "--seed", "2", "--preset", "mini", "--out", str(run))
    assert done.returncode == 0 and "decoder: done" in done.stderr
    assert not (run / "codec.csv").exists() and not (run / "teacher.csv").exists()
    index = json.loads((run / "weights" / "index.json").read_text())
    assert index["trained"]["started from"] == json.loads((packaged / "index.json").read_text())["sha256"]
    assert set(index["trained"]["ran"]) == {"polish", "distill", "steady", "decoder", "motion"}
    assert index["trained"]["seed"] == 2
    before, after = (load_file(folder / "codec.safetensors") for folder in (packaged, run / "weights"))
    assert {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])} == {"decoder"}


@pytest.mark.slow
def test_the_decoder_of_the_packaged_weights_is_trained_further_and_nothing_else(tmp_path):
    packaged, made = Path(parts.__file__).parent / "weights", tmp_path / "moved" / "weights"
    done = start("--from", "tiny", "--stage", "motion", "--preset", "mini", "--out", str(made.parent))
    assert done.returncode == 0 and "motion: done" in done.stderr
    same = {part: parts.part_path(made, part).read_bytes() == parts.part_path(packaged, part).read_bytes()
            for part in (*parts.PARTS, *parts.EXTRAS)}
    assert same == {"transformer": True, "words": True, "codec": False, "queries": True}
    parts.check(made)  # its sums are those of its parts
    assert "measured" in parts.index(packaged) and "measured" not in parts.index(made)
    before, after = (load_file(folder / "codec.safetensors") for folder in (packaged, made))
    assert {name.split(".")[0] for name, value in before.items() if not torch.equal(value, after[name])} == {"decoder"}


@pytest.mark.slow
def test_queries_are_trained_for_the_packaged_weights_in_a_folder_of_their_own(tmp_path):
    run = tmp_path / "run"
    done = start("--memory", "echo-infinity", "--preset", "mini", "--out", str(run))
    assert done.returncode == 0 and done.stdout.strip() == str(run / "weights") and "memory: done" in done.stderr
    index = json.loads((run / "weights" / "index.json").read_text())
    assert set(index["sha256"]) == {"transformer", "words", "codec", "queries"} and index["memory"]["steps"] == 2
    assert (run / "weights" / "queries.safetensors").stat().st_size < 2_000_000
