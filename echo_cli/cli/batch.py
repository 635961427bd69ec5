"""`batch`: renders many storyboards; lists them, takes a share, skips what is done, and reports each outcome."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from echo_cli.cli.batch_report import Report
from echo_cli.cli.options import Answer, Given, Place, takes
from echo_cli.errors import Exit, UsageError
from echo_cli.render.batch.request import BatchRequest
from echo_cli.render.progress import Style, progress_of

if TYPE_CHECKING:
    from echo_cli.render.batch.outcome import Film, Outcome
    from echo_cli.render.batch.tally import Tally
    from echo_cli.render.defaults import Defaults
    from echo_cli.render.foresight import Foresight
    from echo_cli.render.session import Session
    from echo_cli.render.signals import Interruption


@takes(BatchRequest, Place, Answer, Given)
def batch(request: BatchRequest, place: Place, answer: Answer, given: Given) -> int:
    """Render the films of many storyboards with one loaded model.

    Films that are done are skipped, interrupted ones are resumed, and one that cannot be rendered does not stop the
    rest. The exit code is 0 when all are done, otherwise that of the failure that a farm should respond to first: 75,
    5, 3, 4, 1, 2.
    """
    from contextlib import ExitStack

    from echo_cli.render.batch.outcome import left, skipped
    from echo_cli.render.batch.tally import Tally
    from echo_cli.render.checks import warnings
    from echo_cli.render.log import open_log
    from echo_cli.render.session import Session
    from echo_cli.render.signals import Interruption

    _check(request, answer.as_json)
    with open_log(request.log_file, sys.argv) as log, ExitStack() as stack:
        films, bad, count = _listed(request, given.defaults)
        session = Session()
        done, waiting = _split(films, session)
        log.settings({"storyboards": count, "done already": len(done),
                      **{field.name: value for field, value in request.values()}})
        teller = log.hearing(progress_of(Style(request.progress), request.quiet))
        report = Report(teller, count, answer.as_json, request.quiet, request.verbose, log)
        for film in waiting:
            report.expect(film, warnings(film.job.storyboard, film.job.spec, film.job.policy))
        if request.plan:
            return _plan(waiting, bad, place.here, report, session)
        stack.enter_context(teller)
        interruption = stack.enter_context(Interruption(teller.say, request.grace))
        for outcome in (*bad, *map(skipped, done)):
            report(outcome)
        tally = Tally(waiting, count, teller)
        stopped = request.fail_fast and bad
        for outcome in map(left, waiting) if stopped else _made(waiting, request, tally, interruption):
            report(outcome)
        return report.summary()


def _split(films: "Sequence[Film]", session: "Session") -> "tuple[list[Film], list[Film]]":
    """The films that are done, and the others."""
    done: list[Film] = []
    waiting: list[Film] = []
    for film in films:
        (done if session.done(film.job) else waiting).append(film)
    return done, waiting


def _check(request: BatchRequest, as_json: bool) -> None:
    """Refuse once what would be wrong for every storyboard."""
    from echo_cli.memory.table import settings_type
    from echo_cli.models.registry import find

    if as_json and request.progress == "openjd" and not request.plan:
        raise UsageError("--json and --progress openjd both write to standard output", "Use one of them.")
    if request.plan and request.quiet and not as_json:
        raise UsageError("--plan prints commands, and --quiet prints nothing",
                         "Leave --quiet out, or add --json for one object per command.")
    of_ray = {"--address": request.address, "--actors": request.actors, "--cpus-per-actor": request.cpus_per_actor}
    if request.engine != "ray" and (odd := [option for option, value in of_ray.items() if value is not None]):
        raise UsageError(f"{odd[0]} is for --engine ray", "Add --engine ray.")
    if request.model is not None:
        find(request.model)
    if request.memory is not None:
        settings_type(request.memory)


def _listed(request: BatchRequest, below: "Defaults") -> tuple[list["Film"], list["Outcome"], int]:
    """This share's films, the failures of storyboards that cannot become one, and the number of both together."""
    from echo_cli.render.batch import naming
    from echo_cli.render.batch.listing import storyboards
    from echo_cli.render.batch.outcome import Film, failed
    from echo_cli.render.batch.shards import read_shard
    from echo_cli.render.prepare import read_storyboard

    naming.check_name(request.name)
    deal = read_shard(request.shard, os.environ).of if request.shard else list
    folder = os.path.abspath(request.out_dir) if request.engine == "ray" else request.out_dir  # actors may be elsewhere
    sources = storyboards(request.paths)
    share = deal(sources)
    reads = naming.needs_reading(request.name)
    problems: dict[str, Exception] = {}
    read, named = {}, {}
    for source in sources if reads else share:
        try:
            read[source] = read_storyboard(request.film(source), below)
        except Exception as error:  # one bad storyboard does not stop the rest
            problems[source] = error
    for source in [source for source in sources if source not in problems]:
        try:
            board = read[source].storyboard if reads else None
            named[source] = naming.outputs_for(source, board, request.name, folder)
        except Exception as error:
            problems[source] = error
    naming.check_distinct(named.items())
    films, bad = [], []
    for number, source in enumerate(share, 1):
        try:
            if source in problems:
                raise problems[source]
            films.append(Film(number, source, read[source].job(named[source])))
        except Exception as error:
            bad.append(failed(number, source, error))
    return films, bad, len(share)


def _made(films: list["Film"], request: BatchRequest, tally: "Tally",
          interruption: "Interruption") -> Iterator["Outcome"]:
    """The outcome of each; torch is imported only if there is a film to render."""
    if not films:
        return
    if request.engine == "ray":
        from echo_cli.render.batch.ray_engine import make_films
    else:
        from echo_cli.render.batch.local import make_films
    yield from make_films(films, request, tally, interruption)


def _plan(films: list["Film"], bad: list["Outcome"], here: bool | None, report: Report, session: "Session") -> Exit:
    """Prints what would be rendered, and what stands in its way."""
    from echo_cli.render.foresight import foresee

    there = {film.number: foresee(film.job, session) for film in films}
    able, failures = (films, []) if here is False else _tried(films, here, report, there)
    return _print_plan(able, [*bad, *failures], report, there)


def _tried(films: list["Film"], here: bool | None, report: Report,
           there: Mapping[int, "Foresight"]) -> tuple[list["Film"], list["Outcome"]]:
    """The films that this machine could render, and the failures of the others."""
    from echo_cli.render.batch.outcome import failed
    from echo_cli.render.checks import Machine, refuse_here

    machine, able, failures = Machine(), [], []
    for film in films:
        try:
            refused = filter(None, [there[film.number].refusal])
            report.expect(film, refuse_here([*machine.problems(film.job), *refused], here))
            able.append(film)
        except Exception as error:
            failures.append(failed(film.number, film.source, error))
    return able, failures


def _print_plan(films: list["Film"], bad: list["Outcome"], report: Report,
                there: Mapping[int, "Foresight"]) -> Exit:
    """Prints the command of each film; a storyboard that cannot become one is reported and affects the exit code."""
    from echo_cli.render.batch.outcome import exit_code
    from echo_cli.render.batch.plan import command, line

    commands = [(film, command(replace(film.job.request, output=film.job.outputs.film.path))) for film in films]
    for film, words in commands:  # only now: a name that a line cannot express is refused before the first line
        if reuse := there[film.number].reuse:
            report.note(film, reuse)
        inputs = [str(each.file.absolute()) for each in film.job.inputs]
        row = {"job": film.number, "storyboard": film.source, "command": words,
               **({"inputs": inputs} if inputs else {}),
               **({"reuse": reuse} if reuse else {}), **report.warnings(film.number)}
        print(json.dumps(row) if report.as_json else line(words))
    for outcome in bad:
        report.tell(outcome)
    return exit_code(bad)
