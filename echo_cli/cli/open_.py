"""`open`: a film and its report, in the browser."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from echo_cli.cli.options import Debug, Quiet

Film = Annotated[str, typer.Argument(
    metavar="FILM", show_default=False, help="A film or a pattern such as frames/%06d.png; its trace is beside it.")]


def open_(film: Film, quiet: Quiet = False, debug: Debug = False) -> None:
    """Show a film and the report of its memory in the browser.

    The report is written beside the film as NAME.html, and shows the film if browsers play its kind: MP4 and WebM.
    Where there is no desktop, nothing is opened; the paths are printed either way.
    """
    from echo_cli.cli.show import show, trace_of, write_report

    trace = trace_of(film)
    report = write_report(trace)
    opened = show(report)
    if quiet:
        return
    for path in (*_film_beside(trace), report):
        print(path)
    if not opened:
        print("There is no desktop here: copy the report to where there is one, and open it there.", file=sys.stderr)


def _film_beside(trace: Path) -> list[Path]:
    from echo_cli.trace.reader import read_trace

    video = read_trace(trace).header.film.video
    return [trace.parent / video] if video and (trace.parent / video).exists() else []
