"""The real command with a small model: what it writes, and that a film does not change with who is filmed beside it."""

import csv
import json
import pickle
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from echo_cli.bench import memory
from echo_cli.bench.contestants import CONTESTANTS
from echo_cli.bench.filming import EachItsOwn, takes
from echo_cli.bench.order import Order
from echo_cli.bench.scenarios import SCENARIOS, story, timeline_for
from echo_cli.bench.statistics import least_pairs
from echo_cli.cli.app import run as command
from echo_cli.cli.bench.memory import STORIES
from echo_cli.memory.table import read_settings
from echo_cli.models.registry import MODELS
from echo_cli.models.running import FastPart
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.spec import TINY
from echo_cli.world.draw import reduced
from tests.render import stage

SCRIPT = Path(sysconfig.get_path("scripts")) / "echo-cli"
RUN = (
    "--scenario",
    "cuts",
    "--scenario",
    "long",
    "--long",
    "7",
    "--policy",
    "none",
    "--policy",
    "sink",
    "--policy",
    "+suppress",
    "--against",
    "echo-forcing",
    "--seeds",
    "2",
    "--jobs",
    "1",
)


def bench(*arguments: str) -> tuple[str, str]:
    """What the command prints with the small model."""
    with (pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out,
          redirect_stderr(StringIO()) as err):
        patch.setitem(MODELS.own, "tiny", stage.ROW)
        assert command(["bench", "memory", *arguments]) == 0, err.getvalue()
    return out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    folder = tmp_path_factory.mktemp("bench")
    return *bench(*RUN, "--out", str(folder / "found")), folder


def test_the_table_names_everybody_and_says_how_sure_it_is(run):
    out, err, _ = run
    lines = out.splitlines()
    for policy in ("none", "sink", "echo-forcing", "+suppress"):
        assert any(line.startswith(policy) and "±" in line for line in lines)
    assert "Too few seeds to call anything different" in out
    assert "Traceback" not in err and "100%" in err


def test_the_json_has_every_film_and_what_follows(run):
    *_, folder = run
    report = json.loads((folder / "found.json").read_text())
    assert report["kind"] == "bench memory" and report["about"]["seeds"] == [0, 1]
    films = {(row["scenario"], row["policy"], row["seed"]) for row in report["rows"]}
    assert films == {(scenario, policy, seed) for scenario in ("cuts", "long") for seed in (0, 1)
                     for policy in ("none", "sink", "echo-forcing", "+suppress")}
    same = {(row["scenario"], row["policy"]): row["same_as"] for row in report["rows"] if row["same_as"]}
    assert same == {("long", "none"): "sink", ("long", "+suppress"): "echo-forcing"}
    assert report["about"]["films"] == 12
    cell = next(
        cell
        for cell in report["summary"]
        if (cell["scenario"], cell["policy"], cell["metric"]) == ("cuts", "sink", "left over")
    )
    values = [
        row["figures"]["left over"] for row in report["rows"] if (row["scenario"], row["policy"]) == ("cuts", "sink")
    ]
    assert cell["mean"] == pytest.approx(sum(values) / 2) and cell["low"] <= cell["mean"] <= cell["high"]
    assert "pictures until" in report["metrics"]["response"]["words"]


def test_the_csv_has_a_line_a_figure(run):
    *_, folder = run
    report = json.loads((folder / "found.json").read_text())
    lines = list(csv.DictReader(StringIO((folder / "found.csv").read_text())))
    assert len(lines) == len(report["summary"]) and {line["policy"] for line in lines} == {
        "none",
        "sink",
        "echo-forcing",
        "+suppress",
    }
    assert all(float(line["low"]) <= float(line["mean"]) <= float(line["high"]) for line in lines)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        assert tag not in ("script", "link", "iframe") and not any(name.startswith("on") for name in values)
        assert not str(values.get("src", "data:")).startswith("http")
        if tag == "img":
            self.images.append(str(values["src"]))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_in_itself_and_shows_the_films(run):
    *_, folder = run
    text = (folder / "found.html").read_text()
    page = Page()
    page.feed(text)
    assert (
        not page.open
        and len(page.images) == 8
        and all(each.startswith("data:image/jpeg;base64,") for each in page.images)
    )
    assert text.count('class="line ') == 4 * 1 + 4 * 4  # left over; drift and its three parts
    assert "url(" not in text and "@import" not in text
    for sentence in ("Too few seeds", "three places, a hard cut between them"):
        assert sentence in text


def test_a_film_is_what_generate_makes_whoever_is_filmed_beside_it():
    backend, scenario, seeds = stage.backend(), SCENARIOS["to-and-fro"], (3, 4, 5)
    stories = {seed: story(scenario, seed) for seed in seeds}
    together = takes(backend, scenario, CONTESTANTS["echo-forcing"], stories, {0, 18})
    alone = takes(backend, scenario, CONTESTANTS["echo-forcing"], {4: stories[4]}, {0, 18})
    assert set(together) == set(seeds)
    timeline = timeline_for(scenario, stories[4], backend.spec)
    policy = plan_policy("echo-forcing", read_settings("echo-forcing"), backend, timeline)
    latents = torch.cat([block.latents for block in film(backend, timeline, policy, 4)], 1)
    whole = reduced(backend.codec.decode(latents, None)[0], backend.spec.detail)
    for made in (together[4], alone[4]):
        assert (made.of([0]) - whole[0, :9]).abs().max() < 0.01
        assert (made.of([18]) - whole[0, -12:]).abs().max() < 0.01
    assert (together[3].of([18]) - together[4].of([18])).abs().max() > 0.05
    assert together[4].bytes == pytest.approx(alone[4].bytes, rel=0.1)


def test_what_is_ordered_reaches_other_processes():
    order = Order("tiny", tuple(SCENARIOS.values()), tuple(CONTESTANTS.values()), tuple(range(5)), jobs=2)
    assert pickle.loads(pickle.dumps(order)) == order
    pieces = order.pieces(order.films(TINY))
    assert [piece.blocks for piece in pieces] == sorted((piece.blocks for piece in pieces), reverse=True)
    assert sorted(seed for piece in pieces if piece.scenario.name == "cuts" for seed in piece.seeds) == list(range(5))


@pytest.mark.slow
def test_as_many_processes_as_one_likes_find_the_same():
    left_over = []
    for jobs in ("1", "2"):
        done = subprocess.run(
            [
                SCRIPT,
                "bench",
                "memory",
                "--scenario",
                "cuts",
                "--policy",
                "none",
                "--against",
                "sink",
                "--seeds",
                "2",
                "--jobs",
                jobs,
                "--json",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        left_over.append(
            {(row["policy"], row["seed"]): row["figures"]["left over"] for row in json.loads(done.stdout)["rows"]}
        )
    assert left_over[0] == pytest.approx(left_over[1], abs=0.05)


def test_a_part_of_fast_changes_films_and_is_named() -> None:
    how = ("--scenario", "cuts", "--policy", "echo", "--seeds", "1", "--jobs", "1", "--json")
    exact, near = (json.loads(bench(*how, *fast)[0]) for fast in ((), ("--fast", "attention")))
    assert "fast" not in exact["about"] and near["about"]["fast"] == "attention"
    figures, others = (report["rows"][0]["figures"] for report in (exact, near))
    assert figures.keys() == others.keys() and figures != others


def test_a_part_of_fast_is_chosen_before_passes_are_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU a fused pass joins layers as they are, and attention has a kernel."""
    steps: list[tuple[Any, ...]] = []
    loaded = SimpleNamespace(transformer="transformer")
    monkeypatch.setattr(memory, "load_backend", lambda *given: steps.append(("load", given[2].compiled)) or loaded)
    monkeypatch.setattr(memory, "eight_bit_attention", lambda *_: ("kernel", ""))
    monkeypatch.setattr(memory, "use_part", lambda *given: steps.append(("part", *given[1:])))
    monkeypatch.setattr(memory, "quicken", lambda *given: steps.append(("fuse", *given)))
    runtime, order = Runtime(torch.device("cuda"), torch.bfloat16), Order("tiny", (), (), (0,), fast=FastPart.LINEAR)
    assert memory._loaded(order, runtime) is loaded
    assert steps == [("load", False), ("part", FastPart.LINEAR, runtime.device, "kernel"), ("fuse", "transformer")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_stopped_shows_the_films_that_were_rendered(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.render.stage", "bench", "memory", "--scenario", "cuts", "--scenario", "chain",
         "--scenario", "recall-1", "--policy", "window", "--policy", "sink", "--against", "sink", "--seeds", "3",
         "--together", "1", "--jobs", "1", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )
    assert process.stderr and process.stdout
    while "%" not in (line := process.stderr.readline()):
        assert line, process.wait()
    process.send_signal(number)
    out, err = process.communicate()
    report = json.loads(out)
    assert process.returncode == 75 and "stopped before all films" in err and "Traceback" not in err
    assert 0 < len(report["rows"]) < 18 and len(report["scenarios"]) < 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_arrives_in_a_finaliser_stops_the_bench_too(
        number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    def rendered(*_: object) -> Iterator[int]:
        yield 1
        with suppress(KeyboardInterrupt):  # as Python does with whatever a finaliser raises
            signal.raise_signal(number)
        yield from (2, 3, 4)

    monkeypatch.setattr(memory, "_run", rendered)
    monkeypatch.setattr(memory, "_progress", lambda *_: "")
    order = Order("tiny", (), (), ())
    assert memory._collect(order, [1, 2, 3, 4], print) == ([1, 2], True)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_the_default_has_seeds_enough_to_call_a_difference():
    assert least_pairs(len(CONTESTANTS) - 1) == STORIES


def test_each_film_has_noise_of_its_own():
    timeline = timeline_for(SCENARIOS["cuts"], story(SCENARIOS["cuts"], 0), stage.SPEC)
    block = timeline.blocks[4]
    noise = EachItsOwn((7, 8), timeline.scenes)(block, 1, (2, 3, 4))
    assert torch.equal(noise[1:], KeyedNoise(8, timeline.scenes)(block, 1, (1, 3, 4))) and not torch.equal(
        noise[0], noise[1]
    )


@pytest.mark.parametrize(("arguments", "said"), [
    (["--scenario", "cut"], "did you mean 'cuts'"),
    (["--policy", "sinc"], "did you mean 'sink'"),
    (["--against", "nobody"], "no policy or setting is called 'nobody'"),
    (["--json", "--csv"], "ask for different things"),
    (["--html", "page.txt"], "does not end in .html"),
    (["--model", "tinny"], "did you mean 'tiny'"),
    (["--seeds", "0"], "--seeds"),
])
def test_bad_input(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["bench", "memory", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err


def test_a_shared_beginning_is_the_same_film_for_every_memory():
    backend, scenario, seeds = stage.backend(), SCENARIOS["shared"], (3, 4)
    stories = {seed: story(scenario, seed) for seed in seeds}
    blocks = {0, 12, 13}
    twins = takes(backend, scenario, CONTESTANTS["none"], stories, blocks)
    made = takes(backend, scenario, CONTESTANTS["echo"], stories, blocks, twins)
    frames = 13 * backend.spec.block_frames
    for seed in seeds:
        assert torch.equal(made[seed].latents[:frames], twins[seed].latents[:frames])
        assert torch.equal(made[seed].of([0, 12]), twins[seed].of([0, 12]))
        assert (made[seed].of([13]) - twins[seed].of([13])).abs().max() > 0.05
    assert not torch.equal(twins[3].latents, twins[4].latents)
