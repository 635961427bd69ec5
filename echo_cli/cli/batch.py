"""`batch`: many storyboards become films; which, whose share, what was done already, and what became of each."""

import json
import os
import sys
from collections.abc import Iterator
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli.batch_report import Report
from echo_cli.cli.options import (
    CheckpointEvery,
    Compiled,
    Crf,
    Debug,
    Decoder,
    Device,
    Dtype,
    Fast,
    Grace,
    LogFile,
    Memory,
    Model,
    Offloading,
    Preset,
    ProgressStyle,
    Quiet,
    Resume,
    Scale,
    Seed,
    Settings,
    Size,
    Subtitling,
    VideoCodec,
    check_running,
    picture_size,
)
from echo_cli.errors import EchoError, Exit, UsageError
from echo_cli.models.running import Offload, Pictures, Running
from echo_cli.render.progress import Style, progress_of
from echo_cli.render.signals import GRACE
from echo_cli.video.encoding import Encoding

if TYPE_CHECKING:
    from echo_cli.render.batch.outcome import Film, Orders, Outcome
    from echo_cli.render.batch.tally import Tally
    from echo_cli.render.job import Choices
    from echo_cli.render.signals import Interruption


class Engine(StrEnum):
    """What `--engine` takes."""

    LOCAL = "local"
    RAY = "ray"


def batch(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATHS",
            help="Storyboards, folders of them, globs; - reads a list from standard input.",
            show_default=False,
        ),
    ] = None,
    out_dir: Annotated[
        str, typer.Option("--out-dir", metavar="FOLDER", help="Where the films go.", show_default="here")
    ] = ".",
    name: Annotated[
        str,
        typer.Option(
            "--name",
            metavar="NAME",
            help="What each film is called: of {stem}, {folder}, {seed}, {model}, {memory}, {hash}.",
        ),
    ] = "{stem}",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Only this share of the list, such as 2/5; auto asks the scheduler (Slurm, OpenCue, AWS Batch).",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print one command a film, for farms that schedule commands.")
    ] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    retries: Annotated[int, typer.Option(metavar="N", min=0, help="Try a film again that failed and might not.")] = 0,
    engine: Annotated[
        Engine, typer.Option(help="local: one process; ray: an actor a GPU, on a cluster.")
    ] = Engine.LOCAL,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="The Ray cluster; left out, RAY_ADDRESS, or one is started here and stopped.",
            show_default=False,
        ),
    ] = None,
    actors: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="How many Ray actors; left out, as many as there is room for.", show_default=False
        ),
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option("--cpus-per-actor", metavar="N", min=1, help="CPUs of each Ray actor.", show_default="4 at most"),
    ] = None,
    seed: Seed = None,
    model: Model = None,
    memory: Memory = None,
    settings: Settings = None,
    size: Size = None,
    scale: Scale = None,
    subtitles: Subtitling = None,
    crf: Crf = None,
    codec: VideoCodec = "libx264",
    preset: Preset = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    decoder: Decoder = Pictures.FULL,
    fast: Fast = False,
    offload: Offloading = Offload.AUTO,
    compiled: Compiled = None,
    force: Annotated[bool, typer.Option("--force", help="Make films anew over what is there.")] = False,
    resume: Resume = True,
    checkpoint_every: CheckpointEvery = None,
    grace: Grace = GRACE,
    log_file: LogFile = None,
    progress: ProgressStyle = Style.AUTO,
    quiet: Quiet = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Name the films that were done already, too.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a storyboard, as each is done.")
    ] = False,
    debug: Debug = False,
) -> int:
    """Make the films of many storyboards with one loaded model.

    Films that are done are skipped, interrupted ones go on where they stopped, and one that cannot be made does not
    stop the rest. The exit code is 0 when all are done, otherwise that of the failure a farm should answer first: 75,
    5, 3, 4, 1, 2.
    """
    from contextlib import ExitStack
    from pathlib import Path

    from echo_cli.render.batch.already import split
    from echo_cli.render.batch.outcome import Orders
    from echo_cli.render.batch.tally import Tally
    from echo_cli.render.job import Choices
    from echo_cli.render.log import Log, Logged
    from echo_cli.render.signals import Interruption

    if as_json and progress is Style.OPENJD and not plan:
        raise UsageError("--json and --progress openjd both write to standard output", "use one of them")
    given = {"--address": address, "--actors": actors, "--cpus-per-actor": cpus}
    if engine is not Engine.RAY and (odd := [option for option, value in given.items() if value is not None]):
        raise UsageError(f"{odd[0]} is for --engine ray", "add --engine ray")
    check_running(device, dtype)
    _check_names(model, memory)
    choices = Choices(
        seed,
        model,
        memory,
        {},
        picture_size(size),
        scale,
        subtitles,
        Encoding(codec, crf, preset),
        device,
        dtype,
        Running(decoder, fast, offload, compiled),
    )
    orders = Orders(device, dtype, force, not resume, checkpoint_every, retries, fail_fast, grace)
    with ExitStack() as stack:
        log = stack.enter_context(Log(Path(log_file))) if log_file else None
        if log:
            log.head(sys.argv)
        folder = os.path.abspath(out_dir) if engine is Engine.RAY else out_dir  # actors may begin in another one
        films, bad, count = _listed(paths or [], name, folder, shard, choices, settings or [])
        done, waiting = split(films, force)
        teller = progress_of(progress, quiet)
        if log:
            log.settings({"storyboards": count, "done already": len(done), "choices": choices, "orders": orders})
            teller = Logged(teller, log)
        report = Report(teller, count, as_json, quiet, verbose, log)
        if plan:
            return _print_plan(waiting, bad, choices, settings or [], orders, progress, report)
        stack.enter_context(teller)
        say = (lambda text: None) if quiet else teller.say
        interruption = stack.enter_context(Interruption(say, grace))
        for outcome in (*bad, *done):
            report(outcome)
        tally = Tally(waiting, count, teller, say)
        for outcome in _made(
            engine, waiting, orders, bool(fail_fast and bad), tally, interruption, (address, actors, cpus)
        ):
            report(outcome)
        return report.summary()


def _check_names(model: str | None, memory: str | None) -> None:
    """What is wrong for every storyboard is told once."""
    from echo_cli.memory.settings import settings_type
    from echo_cli.models.registry import find

    if model is not None:
        find(model)
    if memory is not None:
        settings_type(memory)


def _listed(paths: list[str], name: str, folder: str, shard: str | None, choices: "Choices",
            assignments: list[str]) -> tuple[list["Film"], list["Outcome"], int]:
    """This share's films, what is wrong with those storyboards that cannot become one, and how many both are."""
    from echo_cli.render.batch import naming
    from echo_cli.render.batch.listing import storyboards
    from echo_cli.render.batch.outcome import Film, failed
    from echo_cli.render.batch.shards import read_shard
    from echo_cli.render.prepare import chosen_storyboard, job_for

    naming.check_name(name)
    deal = read_shard(shard, os.environ).of if shard else list
    sources = storyboards(paths)
    share = deal(sources)
    reads = naming.needs_reading(name)
    problems: dict[str, EchoError] = {}
    chosen, named = {}, {}
    for source in sources if reads else share:
        try:
            chosen[source] = chosen_storyboard(source, assignments, choices)
        except EchoError as error:
            problems[source] = error
    for source in [source for source in sources if source not in problems]:
        try:
            named[source] = naming.outputs_for(source, chosen[source][0] if reads else None, name, folder)
        except EchoError as error:
            problems[source] = error
    naming.check_distinct(named.items())
    films, bad = [], []
    for number, source in enumerate(share, 1):
        try:
            if source in problems:
                raise problems[source]
            board, spec, said = chosen[source]
            films.append(Film(number, source, job_for(board, spec, named[source], said)))
        except EchoError as error:
            bad.append(failed(number, source, error))
    return films, bad, len(share)


def _made(
    engine: Engine,
    films: list["Film"],
    orders: "Orders",
    stopped: bool,
    tally: "Tally",
    interruption: "Interruption",
    cluster: tuple[str | None, int | None, int | None],
) -> Iterator["Outcome"]:
    """What becomes of each; torch is imported only when there is a film to make."""
    from echo_cli.render.batch.outcome import left

    if stopped or not films:
        yield from map(left, films)
    elif engine is Engine.RAY:
        from echo_cli.render.batch.ray_engine import make_films

        yield from make_films(films, orders, tally, interruption, *cluster)
    else:
        from echo_cli.render.batch.local import make_films

        yield from make_films(films, orders, tally, interruption)


def _print_plan(films: list["Film"], bad: list["Outcome"], choices: "Choices", assignments: list[str], orders: "Orders",
                progress: Style, report: Report) -> Exit:
    """The command of each film; what cannot become one is told, and is in the exit code."""
    from echo_cli.render.batch.outcome import exit_code
    from echo_cli.render.batch.plan import command, line

    commands = [(film, command(film.source, str(film.job.outputs.film.path), choices, assignments, orders, progress))
                for film in films]
    for film, words in commands:
        print(json.dumps({"job": film.number, "storyboard": film.source, "command": words}, ensure_ascii=False)
              if report.as_json else line(words))
    for outcome in bad:
        report.tell(outcome)
    return exit_code(bad)
