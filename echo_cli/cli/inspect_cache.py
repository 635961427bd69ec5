"""`echo inspect-cache`: what memory held while a film was made."""

import csv
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def inspect_cache(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="The .trace.json beside a film, or a .partial one.",
                                          show_default=False)],
    scene: Annotated[str | None, typer.Option(metavar="ID", help="How a scene began, what it recalled and why.")] = None,
    block: Annotated[int | None, typer.Option(metavar="N", help="All about one block.")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="All about the block on screen at 42s, 1m30s, …")] = None,
    layer: Annotated[int | None, typer.Option(metavar="N", help="With --block or --at: one layer instead of the mean "
                                                                "of all.")] = None,
    diff: Annotated[Path | None, typer.Option(metavar="OTHER", help="Where two runs part.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print one line a block.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="REPORT.html", help="Write one self-contained page.")] = None,
) -> None:
    """Show what memory held, block by block: as a timeline, a table, JSON, CSV or a page."""
    from rich.console import Console

    from echo_cli.errors import UsageError
    from echo_cli.trace import inspect
    from echo_cli.trace.reader import read_trace

    asked = [name for name, value in (("--scene", scene), ("--block", block), ("--at", at), ("--diff", diff),
                                      ("--csv", as_csv or None), ("--html", html)) if value is not None]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} ask for different things", "give one of them at a time")
    if as_json and asked and asked[0] in ("--csv", "--html"):
        raise UsageError(f"--json and {asked[0]} ask for different things", "give one of them at a time")
    if layer is not None and block is None and at is None:
        raise UsageError("--layer needs a block to look into", "add --block N or --at TIME")

    opened = read_trace(trace)
    if opened.notice:
        Console(stderr=True).print(opened.notice, style="yellow", highlight=False, soft_wrap=True)
    if as_csv:
        _print_csv(opened)
    elif html:
        _write_html(opened, html)
    elif diff:
        _show_diff(inspect.diff(opened, read_trace(diff)), as_json)
    elif scene is not None:
        _show_scene(opened, inspect.find_scene(opened, scene), as_json)
    elif block is not None:
        _show_block(opened, inspect.check_block(opened, block), layer, as_json)
    elif at is not None:
        _show_block(opened, inspect.block_at(opened, _seconds(at)), layer, as_json)
    else:
        _show_overview(opened, as_json)


def _seconds(text: str) -> float:
    from echo_cli.errors import UsageError
    from echo_cli.storyboard.durations import read_duration

    try:
        return float(read_duration(text))
    except ValueError as error:
        raise UsageError(f"--at {text!r} {error}", "for example --at 42s") from None


def _print_json(answer: Any) -> None:
    from echo_cli.trace.rows import to_row

    print(json.dumps(to_row(answer), ensure_ascii=False, indent=2))


def _print(renderable: Any) -> None:
    from rich.console import Console

    Console(highlight=False).print(renderable)


def _show_overview(trace: Any, as_json: bool) -> None:
    from rich.console import Console

    from echo_cli.trace import inspect, terminal

    found = inspect.survey(trace)
    summary = inspect.summarise(trace, found)
    if as_json:
        _print_json({"header": trace.header, "summary": summary})
    else:
        _print(terminal.overview(trace, found, summary, Console().width))


def _show_scene(trace: Any, scene: int, as_json: bool) -> None:
    from echo_cli.errors import UsageError
    from echo_cli.trace import inspect, terminal

    record = next((each for each in trace.scenes if each.scene == scene), None)
    if record is None:
        raise UsageError(f"the run ended before scene '{trace.header.timeline[scene].id}' began", "choose an earlier one")
    if as_json:
        _print_json({"scene": record, "answer": inspect.answer(trace, record)})
    else:
        first = trace.block(record.block) if record.block < len(trace) else None
        _print(terminal.scene_detail(trace, record, first))


def _show_block(trace: Any, index: int, layer: int | None, as_json: bool) -> None:
    from echo_cli.errors import UsageError
    from echo_cli.trace import terminal

    record = trace.block(index)
    layers = record.measured.layers if record.measured else ()
    if layer is not None and not 0 <= layer < len(layers):
        raise UsageError(f"block {index} tells of {f'layers 0 to {len(layers) - 1}' if layers else 'no single layer'}",
                         "choose one of these" if layers else "leave --layer out for the mean of all")
    if as_json:
        _print_json(record if layer is None else {"block": index, "layer": layer, **_row(layers[layer])})
    else:
        _print(terminal.block_detail(trace, record, layer))


def _row(record: Any) -> dict[str, Any]:
    from echo_cli.trace.rows import to_row

    return to_row(record)


def _show_diff(found: Any, as_json: bool) -> None:
    from echo_cli.trace import terminal

    _print_json(found) if as_json else _print(terminal.differences(found))


def _print_csv(trace: Any) -> None:
    from echo_cli.trace import inspect

    table = csv.DictWriter(sys.stdout, inspect.CSV_COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(inspect.csv_rows(trace))


def _write_html(trace: Any, path: Path) -> None:
    from echo_cli.files import write_whole
    from echo_cli.trace.html import page

    write_whole(path, page(trace))
    print(path)
