"""Memories side by side: every scenario under every policy, for many seeds, each film judged by what its scenario
demands.

Work is cut into pieces of a scenario and a few seeds; a piece films its twin first, then every contestant. Pieces run
in as many processes as there are cores; their number changes nothing but rounding.
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echo_cli import __version__, machine
from echo_cli.bench.contestants import BLANK, CONTESTANTS, VARIED, Contestant
from echo_cli.bench.filming import Take, takes
from echo_cli.bench.judging import Findings, judge, judge_stayed, moments, wanted, wanted_stayed
from echo_cli.bench.results import Report, Row, filled
from echo_cli.bench.scenarios import Scenario, geometry_for, never_left, story
from echo_cli.errors import MissingError, OutOfMemory
from echo_cli.memory.table import DEFAULT_POLICY
from echo_cli.models.backend import Backend
from echo_cli.models.loaders import load_backend
from echo_cli.runtime import Runtime
from echo_cli.spec import TINY, ModelSpec
from echo_cli.storyboard.nouns import Geometry
from echo_cli.text import plural
from echo_cli.world.meaning import Meaning, load_meaning

Shown = list[tuple[int, int, Tensor]]  # scene, block, picture


@dataclass(frozen=True)
class Order:
    """What to render and how: the first `sheets` seeds are shown in pictures."""

    model: str
    scenarios: tuple[Scenario, ...]
    contestants: tuple[Contestant, ...]
    seeds: tuple[int, ...]
    against: str = DEFAULT_POLICY
    device: str = "auto"
    dtype: str = "auto"
    jobs: int = 1
    together: int = 10  # films rendered at once
    sheets: int = 1

    def pieces(self, spec: ModelSpec) -> list["Piece"]:
        """The longest first, so that none runs alone at the end."""
        size = min(self.together, -(-len(self.seeds) // self.jobs))
        chunks = [self.seeds[at:at + size] for at in range(0, len(self.seeds), size)]
        results = []
        for scenario in self.scenarios:
            films = sum(takes_part(contestant, self, scenario, spec) for contestant in self.contestants)
            results += [Piece(scenario, chunk, films * scenario.blocks * len(chunk)) for chunk in chunks]
        return sorted(results, key=lambda piece: -piece.blocks)


@dataclass(frozen=True)
class Piece:
    scenario: Scenario
    seeds: tuple[int, ...]
    blocks: int  # of all films together


@dataclass
class Results:
    """The results of a piece. `lacking`: contestants that cannot be rendered, or a missing judge, and why."""

    piece: Piece
    rows: list[Row] = field(default_factory=list)
    shown: dict[tuple[str, str, int], Shown] = field(default_factory=dict)  # scenario, policy, seed
    lacking: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)  # of the weights


@dataclass(frozen=True)
class Bench:
    """The report, and the pictures that a page may show. A bench that was stopped has what was finished by then."""

    report: Report
    shown: Mapping[tuple[str, str, int], Shown]
    stopped: bool = False


def takes_part(contestant: Contestant, order: Order, scenario: Scenario, spec: ModelSpec) -> bool:
    """Whether its film has to be rendered: it can differ from all others, or no other contestant renders it."""
    names = {each.name for each in order.contestants}
    if not contestant.takes_part(scenario, spec):
        return False
    return contestant.differs(scenario, spec) or source_of(contestant) not in names


def source_of(contestant: Contestant) -> str:
    """Whose film it shares if it cannot have one of its own."""
    return VARIED if contestant.parts else "sink"


def measure(order: Order, spec: ModelSpec, say: Callable[[str], None]) -> Bench:
    """The whole bench; `say` is called with a line for each finished piece. Ctrl-C or SIGTERM ends it after those that
    are finished; with none, it is a KeyboardInterrupt."""
    began = time.monotonic()
    results, stopped = _collect(order, spec, say)
    if stopped:
        measured = {each.piece.scenario.name for each in results}
        order = replace(order, scenarios=tuple(each for each in order.scenarios if each.name in measured))
    lacking = {name: why for each in results for name, why in each.lacking.items()}
    same = {
        (scenario.name, each.name): source_of(each)
        for scenario in order.scenarios
        for each in order.contestants
        if each.name not in lacking
        and each.takes_part(scenario, spec)
        and not takes_part(each, order, scenario, spec)
    }
    shown = {key: pictures for each in results for key, pictures in each.shown.items()}
    for (scenario, name), source in same.items():
        shown |= {
            (scenario, name, seed): shown[scenario, source, seed]
            for seed in order.seeds
            if (scenario, source, seed) in shown
        }
    about = _about(order, results, lacking, time.monotonic() - began)
    return Bench(_report(order, about, results, same), shown, stopped)


def _collect(order: Order, spec: ModelSpec, say: Callable[[str], None]) -> tuple[list[Results], bool]:
    """The results of all pieces, or of those that were finished when the bench was stopped; and whether it was."""
    began, pieces, results = time.monotonic(), order.pieces(spec), []
    try:
        with _interruptible() as check:
            for each in _run(order, pieces):
                results.append(each)
                say(_progress(results, pieces, time.monotonic() - began))
                if len(results) < len(pieces):
                    check()
    except KeyboardInterrupt:
        if not results:
            raise
        return results, True
    return results, False


def _about(order: Order, results: Sequence[Results], lacking: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """What was measured, with what, and where."""
    return {
        "version": __version__,
        "model": order.model,
        **results[0].facts,
        "seeds": list(order.seeds),
        "lacking": lacking,
        "device": _device(order),
        "machine": machine.name(),
        "torch": torch.__version__,
        "jobs": order.jobs,
        "seconds": round(seconds, 1),
        "films": sum(len(each.rows) for each in results),
    }


def _progress(results: Sequence[Results], pieces: Sequence[Piece], spent: float) -> str:
    """The last piece, and how long the rest will take."""
    piece, films = results[-1].piece, plural(len(results[-1].rows), "film")
    done, share = (sum(each.blocks for each in group) for group in ([each.piece for each in results], pieces))
    return (f"{piece.scenario.name}, seeds {piece.seeds[0]} to {piece.seeds[-1]}: {films}; {done / share:.0%}, "
            f"{spent:.0f} s elapsed, about {spent / done * (share - done):.0f} s left")


@contextmanager
def _interruptible() -> Iterator[Callable[[], None]]:
    """A scheduler's SIGTERM ends a bench as Ctrl-C does: processes are stopped, results are kept. Yields a check that
    raises KeyboardInterrupt if a signal has arrived, since Python drops one that is raised in a finaliser."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    arrived = threading.Event()

    def stop(*_: object) -> None:
        arrived.set()
        raise KeyboardInterrupt

    def check() -> None:
        if arrived.is_set():
            raise KeyboardInterrupt

    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in heeded}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(
    order: Order, about: Mapping[str, Any], results: Sequence[Results], same: Mapping[tuple[str, str], str]
) -> Report:
    names = (*(each.name for each in order.scenarios), *(each.name for each in order.contestants))
    places = {name: place for place, name in enumerate(names)}
    rows = sorted(filled((row for each in results for row in each.rows), same),
                  key=lambda row: (places[row.scenario], places[row.policy], row.seed))
    scenarios = {
        each.name: {
            "words": each.words,
            "prompts": {str(seed): story(each, seed) for seed in order.seeds},
            "scenes": [
                {"place": act.place, "blocks": act.blocks, "begins": act.begins and act.begins.value}
                for act in each.acts
            ],
        }
        for each in order.scenarios
    }
    policies = {each.name: {"policy": each.policy, "settings": dict(each.settings)} for each in order.contestants
                if each.name not in about["lacking"]}
    return Report(about, scenarios, policies, order.against, tuple(rows))


def _device(order: Order) -> str:
    runtime = Runtime.choose(order.device, order.dtype)
    return f"{machine.device_name(runtime)}, {str(runtime.dtype).removeprefix('torch.')}"


def _run(order: Order, pieces: Sequence[Piece]) -> Iterator[Results]:
    if order.jobs == 1:
        studio = Studio(order)
        yield from map(studio.film, pieces)
        return
    # Spawned, since a fork of a process that has computed with threads may hang.
    with ProcessPoolExecutor(order.jobs, multiprocessing.get_context("spawn"), _open_studio, (order,)) as pool:
        futures = [pool.submit(_film, piece) for piece in pieces]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise OutOfMemory("a process of the bench was killed, probably because memory ran out",
                              "Use --jobs 1, or a smaller --together.") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():  # their films are no longer wanted
                process.terminate()


_studio: list["Studio"] = []  # of a worker process


def _open_studio(order: Order) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent process decides for all
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    _studio.append(Studio(order))


def _film(piece: Piece) -> Results:
    return _studio[0].film(piece)


class Studio:
    """A model, loaded once, and the eye that goes with it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        runtime = Runtime.choose(order.device, order.dtype)
        self.backend: Backend = load_backend(order.model, runtime)
        self.meaning: Meaning | None = None
        self.lacking: dict[str, str] = {}
        if self.backend.spec.name == TINY.name:  # the eye knows only the little world
            try:
                self.meaning = load_meaning(runtime.device)
            except MissingError as error:
                self.lacking["the eye"] = error.message

    @torch.inference_mode()
    def film(self, piece: Piece) -> Results:
        scenario, spec = piece.scenario, self.backend.spec
        results = Results(piece, lacking=dict(self.lacking), facts={"weights": self.backend.weights_hash})
        if self.meaning is not None:
            results.facts["eye"] = self.meaning.weights_hash
        stories = {seed: story(scenario, seed) for seed in piece.seeds}
        blocks = wanted(scenario)
        blank = CONTESTANTS[BLANK]
        twins = takes(self.backend, scenario, blank, stories, blocks) if len(scenario.acts) > 1 else {}

        def judged(contestant: Contestant) -> Iterator[tuple[Scenario, Take, Findings]]:
            if contestant.stays:
                yield from self._stayed(scenario, contestant, stories)
                return
            again = contestant == blank and twins
            given = twins if scenario.shared else {}
            made = twins if again else takes(self.backend, scenario, contestant, stories, blocks, given)
            for seed, take in made.items():
                twin = twins.get(seed, take)
                yield scenario, take, judge(scenario, stories[seed], take, twin, geometry_for(spec), self.meaning)

        for contestant in self.order.contestants:
            if not takes_part(contestant, self.order, scenario, spec):
                continue
            try:
                films = list(judged(contestant))
            except MissingError as error:
                results.lacking[contestant.name] = error.message
                continue
            for rendered, take, findings in films:
                results.rows.append(Row(scenario.name, contestant.name, take.seed, findings.figures, findings.curves))
                if take.seed in self.order.seeds[:self.order.sheets] and not contestant.stays:
                    results.shown[scenario.name, contestant.name, take.seed] = moments(rendered, take)
        return results

    def _stayed(self, scenario: Scenario, contestant: Contestant,
                stories: Mapping[int, Sequence[str]]) -> Iterator[tuple[Scenario, Take, Findings]]:
        """Films of the same stories that never leave the place that returns."""
        stays = never_left(scenario)
        begun = {seed: prompts[:len(stays.acts)] for seed, prompts in stories.items()}
        for take in takes(self.backend, stays, contestant, begun, wanted_stayed(stays)).values():
            yield stays, take, judge_stayed(stays, take, geometry_for(self.backend.spec))


def strips(bench: Bench, geometry: Geometry) -> dict[tuple[str, str, int], list[tuple[str, np.ndarray]]]:
    """The shown pictures, each with a label: its scene and its second."""
    return {
        key: [
            (f"{scene + 1} · {block * geometry.block_pictures / geometry.fps:.1f} s", picture.permute(1, 2, 0).numpy())
            for scene, block, picture in shown
        ]
        for key, shown in bench.shown.items()
    }
