"""The bench of a card says what it measured, and a part that fails takes nothing else along."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from echo_cli.bench import card
from echo_cli.cli import app
from echo_cli.runtime import Runtime
from echo_cli.spec import TINY

CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders, and what fails: the rest takes a minute on a CPU."""
    def fails(bench: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(card._Bench, "parts", lambda bench: {"kernels": lambda: fails(bench),
                                                             "decoders": bench.decoders})


def test_a_part_that_fails_is_named_and_the_next_one_is_measured() -> None:
    report = card.measure(CPU, card.Plan(("window",), 2, 1.0)).as_dict()
    assert report["failed"] == {"kernels": "RuntimeError: no such kernel"}
    assert report["parts"]["decoders"]["full"]["block_ms"] > 0
    lines = card.table(report)
    assert any("decoders" in line for line in lines) and lines[-1] == "\nfailed: kernels: RuntimeError: no such kernel"


def test_no_part_is_begun_after_the_limit() -> None:
    report = card.measure(CPU, card.Plan(("window",), 2, 1.0, limit_s=-1.0))
    assert not report.parts and set(report.failed.values()) == {"not started: out of time"}


def test_the_command_writes_what_it_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report_file = tmp_path / "card.json"
    assert app.run(["bench", "card", "--device", "cpu", "--policy", "window", "-o", str(report_file), "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed["kind"] == "bench card" and json.loads(report_file.read_text()) == printed


def test_a_memory_that_is_not_there_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["bench", "card", "--device", "cpu", "--policy", "windov"]) == 2
    assert "windov" in capfd.readouterr().err


@torch.inference_mode()
def test_a_small_model_is_compared_with_the_cpu() -> None:
    bench = card._Bench(CPU, card.Plan(("window",), 2, 1.0), card.SMALL, card._transformer(card.SMALL, CPU))
    report = bench.right()
    assert report["all_near"] and report["distance_from_cpu"] == {"window": 0.0}


def test_shares_are_printed_as_such() -> None:
    report = {"device": "a card", "spec": "tiny", "dtype": "float32", "attention": "torch", "torch": "", "version": "",
              "parts": {"fast": {"moved, linear": [0.0, 0.0321]}}, "seconds": {"fast": 1.0}, "failed": {}}
    assert card.table(report)[-1].split() == ["moved,", "linear", "0.00%", "3.21%"]


@pytest.mark.slow
def test_a_stopped_film_makes_pictures_again_in_a_new_process() -> None:
    bench = card._Bench(CPU, card.Plan(("window",), 2, 1.0), replace(TINY, depth=2),
                        card._transformer(replace(TINY, depth=2), CPU))
    with torch.inference_mode():
        times = bench.resume()["until the next picture"]
    assert 0 < times["of them loading"] < times["seconds"]
