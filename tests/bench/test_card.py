"""The bench of a card says what it measured, and a part that fails takes nothing else along."""

import json
import multiprocessing
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from echo_cli.bench import card, filling, stages
from echo_cli.cli import app
from echo_cli.errors import Interrupted
from echo_cli.models.backend import Backend
from echo_cli.models.fp8 import EightBitLinear
from echo_cli.models.running import Pictures
from echo_cli.models.transformer import Transformer
from echo_cli.runtime import Runtime
from echo_cli.spec import TINY, WAN_1_3B

CPU = Runtime(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders, and what fails: the rest takes a minute on a CPU."""
    def fails(rows: card.Rows) -> None:
        raise RuntimeError("no such kernel")

    def begins(rows: card.Rows) -> None:
        rows["the first film"] = {"wall_s": 1.0}
        raise RuntimeError("no such encoder")

    monkeypatch.setattr(card._Bench, "parts",
                        lambda bench: {"kernels": fails, "film": begins, "decoders": bench.decoders})


def test_a_part_that_fails_is_named_and_the_next_one_is_measured() -> None:
    report = card.measure(CPU, card.Plan(("window",), 2, 1.0)).as_dict()
    assert report["failed"] == {"kernels": "RuntimeError: no such kernel", "film": "RuntimeError: no such encoder"}
    assert report["parts"].keys() == {"film", "decoders"} and report["parts"]["decoders"]["full"]["block_ms"] > 0
    assert report["parts"]["film"] == {"the first film": {"wall_s": 1.0}}, "what it measured before is kept"
    lines = card.table(report)
    assert any("decoders" in line for line in lines)
    assert lines[-2:] == [f"\nfailed: {part}: RuntimeError: no such {what}"
                          for part, what in (("kernels", "kernel"), ("film", "encoder"))]


def test_no_part_is_begun_after_the_limit() -> None:
    report = card.measure(CPU, card.Plan(("window",), 2, 1.0, limit_s=-1.0))
    assert not report.parts and set(report.failed.values()) == {"not started: out of time"}


def test_the_command_writes_what_it_prints(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    report_file = tmp_path / "card.json"
    assert app.run(["bench", "card", "--device", "cpu", "--policy", "window", "-o", str(report_file), "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    assert printed["kind"] == "bench card" and json.loads(report_file.read_text()) == printed


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("stopped by SIGTERM")], ids=["at once", "noted"])
def test_a_run_that_is_stopped_leaves_what_it_measured(stop: BaseException, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    def whole(rows: card.Rows) -> None:
        rows["block"] = {"block_ms": 1.0}

    def stopped(rows: card.Rows) -> None:
        rows["the first film"] = {"wall_s": 1.0}
        raise stop

    monkeypatch.setattr(card._Bench, "parts", lambda bench: {"policies": whole, "film": stopped, "kernels": whole})
    report_file = tmp_path / "card.json"
    assert app.run(["bench", "card", "--device", "cpu", "--policy", "window", "-o", str(report_file)]) != 0
    report = json.loads(report_file.read_text())
    assert report["parts"] == {"policies": {"block": {"block_ms": 1.0}}, "film": {"the first film": {"wall_s": 1.0}}}
    assert report["failed"].keys() == {"film"}


def test_a_part_that_is_killed_leaves_the_earlier_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report_file, seen = tmp_path / "card.json", list[set[str]]()
    monkeypatch.setattr(card._Bench, "parts", lambda bench: {
        name: lambda rows: seen.append(set(json.loads(report_file.read_text())["parts"]) if seen else set())
        for name in ("right", "film", "policies")})
    assert app.run(["bench", "card", "--device", "cpu", "--policy", "window", "-o", str(report_file)]) == 0
    assert seen == [set(), {"right"}, {"right", "film"}], "what the file holds when a part begins"


def test_a_new_process_that_never_answers_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "CHILD_S", 0.5)
    began, before = time.monotonic(), multiprocessing.active_children()
    with pytest.raises(RuntimeError, match="not done within 0.5 seconds"):
        card._in_new_process(time.sleep, 600)
    assert time.monotonic() - began < 60 and multiprocessing.active_children() == before


def test_a_memory_that_is_not_there_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["bench", "card", "--device", "cpu", "--policy", "windov"]) == 2
    assert "windov" in capfd.readouterr().err


@torch.inference_mode()
def test_a_small_model_is_compared_with_the_cpu() -> None:
    bench = card._Bench(CPU, card.Plan(("window",), 2, 1.0), card.SMALL, card._transformer(card.SMALL, CPU))
    report: card.Rows = {}
    bench.right(report)
    assert report["all_near"] and report["distance_from_cpu"] == {"window": 0.0}


@torch.inference_mode()
def test_the_film_in_eight_bits_is_what_fast_renders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights have no layer whose attention was measured to be near enough, so only linear layers are."""
    spec, filmed, rows = replace(TINY, depth=2), list[Transformer](), card.Rows()
    bench = card._Bench(CPU, card.Plan(("window",), 2, 1.0), spec, card._transformer(spec, CPU))

    def film(backend: Backend, policy: str, runtime: Runtime, seconds: float) -> stages.WholeFilm:
        filmed.append(backend.transformer)
        return stages.WholeFilm(policy, seconds, 16, 1.0, 1.0, 1.0, 1.0)

    monkeypatch.setattr(stages, "whole_film", film)
    monkeypatch.setattr(card._Bench, "_blocks", lambda *given: {"block_ms": 1.0})
    bench.fast(rows)
    assert [(made.eight, type(made.layers[0].ffn[0])) for made in filmed] == [(None, EightBitLinear)]
    assert list(rows) == [
        "attention in eight bits",
        "window, linear layers, as --fast", "echo-forcing, linear layers, as --fast", "moved, linear layers, as --fast",
        "full decoder, linear layers, as --fast", "window, attention of all layers", "moved, attention of all layers",
        *(f"{what}, linear, attention of all layers" for what in ("window", "echo-forcing", "moved"))]
    assert list(bench.quick) == ["linear layers, as --fast", "linear, attention of all layers"]
    assert bench.quick["linear layers, as --fast"] is filmed[0]


def test_decoders_have_the_names_of_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for made in ("random_codec", "random_fast_decoder"):
        monkeypatch.setattr(stages, made, lambda spec, runtime, made=made: made)
    assert list(stages.decoders(WAN_1_3B, CPU)) == [("full", "random_codec"), ("fast", "random_fast_decoder")]
    assert {"full", "fast"} < set(Pictures)


@torch.inference_mode()
def test_a_memory_is_compared_with_the_window_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that gets slower from block to block slows both."""
    made: list[float] = []

    class Slower:
        def __init__(self, device: torch.device) -> None:
            pair, which = divmod(len(made), 2)
            self.ms = (100.0 + 50 * pair) * (1.1 if which else 1.0)
            made.append(self.ms)

        def __call__(self, part: str) -> nullcontext[None]:
            return nullcontext()

        def read(self) -> dict[str, float]:
            return {"block": self.ms}

    monkeypatch.setattr(filling, "Stopwatch", Slower)
    transformer = card._transformer(card.SMALL, CPU)
    grid = card.SMALL.grid()
    share = filling.over_window(filling.Filling(transformer, grid), "echo-forcing", grid, 3)
    assert share == pytest.approx(0.1) and len(made) == 8


def test_shares_are_printed_as_such() -> None:
    report = {"device": "a card", "spec": "tiny", "dtype": "float32", "attention": "torch", "torch": "", "version": "",
              "parts": {"fast": {"moved, linear": [0.0, 0.0321]}}, "seconds": {"fast": 1.0}, "failed": {}}
    assert card.table(report)[-1].split() == ["moved,", "linear", "0.00%", "3.21%"]


@pytest.mark.slow
def test_a_stopped_film_makes_pictures_again_in_a_new_process() -> None:
    bench = card._Bench(CPU, card.Plan(("window",), 2, 1.0), replace(TINY, depth=2),
                        card._transformer(replace(TINY, depth=2), CPU))
    rows: card.Rows = {}
    with torch.inference_mode():
        bench.resume(rows)
    times = rows["until the next picture"]
    assert 0 < times["of them loading"] < times["seconds"]
