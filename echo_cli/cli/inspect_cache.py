"""`inspect-cache`: what the memory held while a film was rendered. Parses, asks `echo_cli.trace`, prints."""

import csv
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_cli.cli import complete
from echo_cli.cli.options import Debug, Html, Json
from echo_cli.cli.streams import console
from echo_cli.errors import UsageError

if TYPE_CHECKING:
    from echo_cli.trace.reader import Trace


TraceFile = Annotated[Path, typer.Argument(
    metavar="TRACE", show_default=False,
    help="A film or the .trace.json beside it, the .partial file of an unfinished one, or a file of scenes.")]
SceneId = Annotated[str | None, typer.Option(
    metavar="ID", help="Show how a scene began, what it recalled and why.", autocompletion=complete.scene_ids)]
Block = Annotated[int | None, typer.Option(metavar="N", help="Show everything about one block.")]
At = Annotated[str | None, typer.Option(
    metavar="TIME", help="Show everything about the block on screen at 42s, 1m30s, …")]
Layer = Annotated[int | None, typer.Option(
    metavar="N", help="With --block or --at: show this layer's choice, not the mean of all.")]
Other = Annotated[Path | None, typer.Option(metavar="OTHER", help="Show where two runs differ.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print one line a block.")]


def inspect_cache(
    trace: TraceFile,
    scene: SceneId = None,
    block: Block = None,
    at: At = None,
    layer: Layer = None,
    diff: Other = None,
    as_csv: Csv = False,
    html: Html = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what the memory held, block by block: a timeline, one scene, one block, two runs, JSON, CSV or a page.

    Of a file of scenes (FILM.scenes), show the scenes that later films may recall.
    """
    from echo_cli.cli.show import trace_beside
    from echo_cli.storyboard.series import ENDING
    from echo_cli.trace.reader import read_trace

    questions = {"--scene": scene, "--block": block, "--at": at, "--diff": diff, "--csv": as_csv or None}
    if trace.suffix == ENDING:
        return _show_scenes(trace, {**questions, "--layer": layer}, html, as_json)

    _check_one_question({**questions, "--html": html}, layer, as_json)
    opened = _while_rendering(read_trace(trace_beside(trace)))
    other = _while_rendering(read_trace(trace_beside(diff))) if diff else None
    for each in filter(None, (opened, other)):
        if each.notice:
            print(f"note: {each.notice}", file=sys.stderr)
    try:
        _answer(opened, other, scene, block, at, layer, as_csv, html, as_json)
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
        for each in filter(None, (opened, other)):
            each.check()  # names the damaged line of a trace; anything else is an internal error
        raise


def _while_rendering(trace: "Trace") -> "Trace":
    """An unfinished trace belongs to a run that was cut short, or to one in progress, whose lock is then held."""
    from echo_cli.files import PARTIAL
    from echo_cli.render.lock import is_held

    film = trace.path.with_name(trace.path.name.removesuffix(PARTIAL).removesuffix(".trace.json"))
    growing = trace.notice and is_held(film.with_name(f"{film.name}.lock"), film)
    return trace.while_rendering() if growing else trace


def _answer(opened: "Trace", other: "Trace | None", scene: str | None, block: int | None, at: str | None,
            layer: int | None, as_csv: bool, html: Path | None, as_json: bool) -> None:
    from echo_cli.trace import inspect

    if as_csv:
        table = csv.DictWriter(sys.stdout, inspect.CSV_COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(inspect.csv_rows(opened))
    elif html:
        _write_page(opened, html)
    elif other:
        _show_diff(opened, other, as_json)
    elif scene is not None:
        _show_scene(opened, inspect.find_scene(opened, scene), as_json)
    elif block is not None:
        _show_block(opened, inspect.check_block(opened, block), layer, as_json)
    elif at is not None:
        _show_block(opened, inspect.block_at(opened, _seconds(at)), layer, as_json)
    else:
        _show_film(opened, as_json)


def _show_scenes(file: Path, questions: dict[str, object], html: Path | None, as_json: bool) -> None:
    from echo_cli.cli.scenes import show_file

    if asked := [name for name, value in questions.items() if value is not None]:
        raise UsageError(f"{file}: is a file of scenes, and {asked[0]} asks about a trace",
                         "Name the .trace.json beside the film, or leave the option out.")
    show_file(file, html, as_json)


def _check_one_question(questions: dict[str, object], layer: int | None, as_json: bool) -> None:
    asked = [name for name, value in questions.items() if value is not None]
    if as_json and asked and asked[0] in ("--csv", "--html"):
        asked.append("--json")
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} ask for different things", "Give one of them at a time.")
    if layer is not None and asked not in (["--block"], ["--at"]):
        raise UsageError("--layer needs a block to look into", "Add --block N or --at TIME.")


def _seconds(text: str) -> float:
    from echo_cli.storyboard.durations import read_duration

    try:
        return float(read_duration(text))
    except ValueError as error:
        raise UsageError(f"--at: '{text}' {error}", "Write it as in --at 42s.") from None


def _show_film(trace: "Trace", as_json: bool) -> None:
    from echo_cli.trace import inspect

    survey = inspect.survey(trace)
    summary = inspect.summarise(trace, survey)
    if as_json:
        return _print_json({"header": trace.header, "summary": summary})
    from echo_cli.trace import terminal

    screen = console()
    coloured = bool(screen.color_system) and not screen.no_color
    screen.print(terminal.overview(trace, survey, summary, screen.width, coloured))


def _show_scene(trace: "Trace", scene: int, as_json: bool) -> None:
    from echo_cli.trace import inspect

    record = next((each for each in trace.scenes if each.scene == scene), None)
    if record is None:
        raise UsageError(
            f"scene '{trace.header.timeline[scene].id}' has not begun" if trace.growing else
            f"the run ended before scene '{trace.header.timeline[scene].id}' began", "Choose an earlier one."
        )
    if as_json:
        return _print_json({"record": record, "answer": inspect.answer(trace, record)})
    from echo_cli.trace import terminal

    _print(terminal.scene_detail(trace, record, trace.block(record.block) if record.block < len(trace) else None))


def _show_block(trace: "Trace", index: int, layer: int | None, as_json: bool) -> None:
    from echo_cli.trace import inspect, terminal

    record = trace.block(index)
    if layer is not None:
        inspect.check_layer(trace, index, layer)
    if as_json and layer is not None and record.measured:
        return _print_json({"block": index, "layer": layer, "measured": record.measured.layers[layer]})
    if as_json:
        return _print_json(record)
    _print(terminal.block_detail(trace, record, layer))


def _show_diff(this: "Trace", other: "Trace", as_json: bool) -> None:
    from echo_cli.trace import inspect

    difference = inspect.diff(this, other)
    if as_json:
        return _print_json(difference)
    from echo_cli.trace import terminal

    _print(terminal.differences(difference))


def _write_page(trace: "Trace", path: Path) -> None:
    from echo_cli.files import write_page
    from echo_cli.trace.html import page

    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--html: '{path}' does not end in .html", f"Try --html {path.with_suffix('.html')}.")
    write_page(path, page(trace))
    print(path)


def _print(renderable: Any) -> None:
    console().print(renderable)


def _print_json(answer: object) -> None:
    from echo_cli.trace.rows import to_row

    print(json.dumps(to_row(answer), indent=2))
