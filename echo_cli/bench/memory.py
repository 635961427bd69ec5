"""Memories side by side: every scenario under every policy, for many seeds, each film judged by what its scenario
demands.

Work is cut into pieces of a scenario and a few seeds; a piece films its twin first, then every contestant. Pieces run
in as many processes as there are cores; their number changes nothing but rounding. Films that earlier results have are
not rendered again.
"""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from echo_cli import __version__, machine
from echo_cli.bench.contestants import BLANK, CONTESTANTS, Contestant
from echo_cli.bench.filming import Take, takes
from echo_cli.bench.judging import Findings, judge, judge_stayed, moments, wanted, wanted_stayed
from echo_cli.bench.order import Order, Piece, source_of, takes_part
from echo_cli.bench.results import Report, Row, filled
from echo_cli.bench.reuse import Earlier, Reused, reused
from echo_cli.bench.scenarios import Scenario, geometry_for, never_left, story
from echo_cli.eight import attend_to_codes
from echo_cli.errors import MissingError, OutOfMemory
from echo_cli.models.backend import Backend
from echo_cli.models.fp8 import use_part
from echo_cli.models.loaders import known_digest, load_backend
from echo_cli.models.running import Running
from echo_cli.models.tuning import eight_bit_attention, quicken
from echo_cli.runtime import Runtime
from echo_cli.spec import TINY, ModelSpec
from echo_cli.storyboard.nouns import Geometry
from echo_cli.text import plural
from echo_cli.world.eye import check as eye_hash
from echo_cli.world.meaning import Meaning, load_meaning

Shown = list[tuple[int, int, Tensor]]  # scene, block, picture


@dataclass
class Results:
    """The results of a piece. `lacking`: contestants that cannot be rendered, or a missing judge, and why."""

    piece: Piece
    rows: list[Row] = field(default_factory=list)
    shown: dict[tuple[str, str, int], Shown] = field(default_factory=dict)  # scenario, policy, seed
    lacking: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bench:
    """The report, and the pictures that a page may show. A bench that was stopped has what was finished by then."""

    report: Report
    shown: Mapping[tuple[str, str, int], Shown]
    stopped: bool = False


def measure(order: Order, spec: ModelSpec, say: Callable[[str], None], earlier: Sequence[Earlier] = (),
            again: Collection[str] = ()) -> Bench:
    """The whole bench; `say` is called with a line for each finished piece. Films of `earlier` results are reused,
    except those of the memories named in `again`. Ctrl-C or SIGTERM ends it after the pieces that are finished; with
    none, it is a KeyboardInterrupt."""
    began, facts = time.monotonic(), _facts(order, spec)
    for each in earlier:
        each.check(facts)
    films = order.films(spec)
    known = reused(earlier, again, films, order.scenarios_in_words(), order.policies_in_words())
    made, stopped = _collect(order, order.pieces(films - known.rows.keys()), say)
    if stopped:
        measured = {each.piece.scenario.name for each in made} | {scenario for scenario, _, _ in known.rows}
        order = replace(order, scenarios=tuple(each for each in order.scenarios if each.name in measured))
    about = _about(order, facts, made, known, time.monotonic() - began)
    same = _same(order, spec, about["lacking"])
    rows = [*known.rows.values(), *(row for each in made for row in each.rows)]
    return Bench(_report(order, about, rows, same), _shown(order, made, same), stopped)


def _facts(order: Order, spec: ModelSpec) -> dict[str, str]:
    """What decides the figures of a film besides its story and its memory."""
    runtime = Runtime.choose(order.device, order.dtype)
    facts = {
        "weights": known_digest(order.model) or load_backend(order.model, runtime).weights_hash,
        "device": f"{machine.device_name(runtime)}, {str(runtime.dtype).removeprefix('torch.')}",
    }
    if order.fast:
        facts["fast"] = order.fast.value
    if spec.name == TINY.name:  # the eye knows only the little world
        with suppress(MissingError):
            facts["eye"] = eye_hash()
    return facts


def _same(order: Order, spec: ModelSpec, lacking: Collection[str]) -> dict[tuple[str, str], str]:
    """(scenario, policy) → whose film it shares."""
    return {
        (scenario.name, each.name): source_of(each)
        for scenario in order.scenarios
        for each in order.contestants
        if each.name not in lacking
        and each.takes_part(scenario, spec)
        and not takes_part(each, order, scenario, spec)
    }


def _shown(order: Order, results: Sequence[Results],
           same: Mapping[tuple[str, str], str]) -> dict[tuple[str, str, int], Shown]:
    shown = {key: pictures for each in results for key, pictures in each.shown.items()}
    for (scenario, name), source in same.items():
        shown |= {
            (scenario, name, seed): shown[scenario, source, seed]
            for seed in order.seeds
            if (scenario, source, seed) in shown
        }
    return shown


def _collect(order: Order, pieces: Sequence[Piece], say: Callable[[str], None]) -> tuple[list[Results], bool]:
    """The results of all pieces, or of those that were finished when the bench was stopped; and whether it was."""
    began, results = time.monotonic(), list[Results]()
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


def _about(order: Order, facts: Mapping[str, str], results: Sequence[Results], known: Reused,
           seconds: float) -> dict[str, Any]:
    """What was measured, with what, and where. `films` were rendered in `seconds`; others were `reused`."""
    return {
        "version": __version__,
        "model": order.model,
        **facts,
        "seeds": list(order.seeds),
        "lacking": {name: why for each in results for name, why in each.lacking.items()},
        "machine": machine.name(),
        "torch": torch.__version__,
        "jobs": order.jobs,
        "seconds": round(seconds, 1),
        "films": sum(len(each.rows) for each in results),
        "reused": list(known.sources),
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
    order: Order, about: Mapping[str, Any], rows: Sequence[Row], same: Mapping[tuple[str, str], str]
) -> Report:
    policies = {name: each for name, each in order.policies_in_words().items() if name not in about["lacking"]}
    places = {name: place for place, name in enumerate((*(each.name for each in order.scenarios), *policies))}
    rows = sorted(filled((row for row in rows if row.policy in policies), same),
                  key=lambda row: (places[row.scenario], places[row.policy], row.seed))
    return Report(about, order.scenarios_in_words(), policies, order.against, tuple(rows))


def _run(order: Order, pieces: Sequence[Piece]) -> Iterator[Results]:
    if not pieces:  # everything is reused: no model is needed
        return
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


def _loaded(order: Order, runtime: Runtime) -> Backend:
    """The model. A part of --fast is chosen before passes are fused, which join layers as they are."""
    if order.fast is None:
        return load_backend(order.model, runtime)
    backend = load_backend(order.model, runtime, Running(compiled=False))
    kernel, _ = eight_bit_attention(runtime.device, runtime.dtype)
    use_part(backend.transformer, order.fast, runtime.device, kernel or attend_to_codes)
    if runtime.device.type == "cuda":
        quicken(backend.transformer)
    return backend


class Studio:
    """A model, loaded once, and the eye that goes with it."""

    def __init__(self, order: Order) -> None:
        self.order = order
        runtime = Runtime.choose(order.device, order.dtype)
        self.backend: Backend = _loaded(order, runtime)
        self.meaning: Meaning | None = None
        self.lacking: dict[str, str] = {}
        if self.backend.spec.name == TINY.name:  # the eye knows only the little world
            try:
                self.meaning = load_meaning(runtime.device)
            except MissingError as error:
                self.lacking["the eye"] = error.message

    @torch.inference_mode()
    def film(self, piece: Piece) -> Results:
        scenario, results = piece.scenario, Results(piece, lacking=dict(self.lacking))
        stories = {seed: story(scenario, seed) for seed in piece.seeds}
        films = [(each, piece.films[each.name]) for each in self.order.contestants if each.name in piece.films]
        compared = {seed for each, seeds in films for seed in seeds if not each.stays and len(scenario.acts) > 1}
        twins = takes(self.backend, scenario, CONTESTANTS[BLANK],
                      {seed: stories[seed] for seed in piece.seeds if seed in compared}, wanted(scenario))
        for contestant, seeds in films:
            try:
                judged = list(self._judged(scenario, contestant, {seed: stories[seed] for seed in seeds}, twins))
            except MissingError as error:
                results.lacking[contestant.name] = error.message
                continue
            for rendered, take, findings in judged:
                results.rows.append(Row(scenario.name, contestant.name, take.seed, findings.figures, findings.curves))
                if take.seed in self.order.seeds[:self.order.sheets] and not contestant.stays:
                    results.shown[scenario.name, contestant.name, take.seed] = moments(rendered, take)
        return results

    def _judged(self, scenario: Scenario, contestant: Contestant, stories: Mapping[int, Sequence[str]],
                twins: Mapping[int, Take]) -> Iterator[tuple[Scenario, Take, Findings]]:
        """The films of the stories: what was rendered, and what was found."""
        if contestant.stays:
            yield from self._stayed(scenario, contestant, stories)
            return
        if twins and contestant == CONTESTANTS[BLANK]:
            made = {seed: twins[seed] for seed in stories}
        else:
            given = {seed: twins[seed] for seed in stories} if scenario.shared else {}
            made = takes(self.backend, scenario, contestant, stories, wanted(scenario), given)
        for seed, take in made.items():
            twin = twins.get(seed, take)
            yield (scenario, take,
                   judge(scenario, stories[seed], take, twin, geometry_for(self.backend.spec), self.meaning))

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
