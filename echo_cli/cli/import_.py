"""`import`: prompt files and timelines of other tools become storyboards."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli.options import Debug, Quiet, film_options
from echo_cli.cli.streams import print_file
from echo_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from echo_cli.formats.cut import Cut
    from echo_cli.formats.table import Options


Files = Annotated[list[str], typer.Argument(
    metavar="FILE", help="Files, or folders of captions; - reads standard input.", show_default=False)]
Output = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="OUT", show_default=False,
    help="A storyboard, or a folder/ for many films. By default, one film goes to standard output and many go into a "
    "folder named after the file.")]
Source = Annotated[str | None, typer.Option(
    "--from", metavar="FORMAT", show_default=False,
    help="fcpxml, otio, scope, longlive, vtt, srt, edl, deforum, fizznodes or echo-forcing; by default, recognised by "
    "the content.")]
Fps = Annotated[float | None, typer.Option(
    "--fps", metavar="N", min=1, max=240, show_default=False,
    help="Frames a second of a schedule's keys (by default 15) or an EDL's timecodes (by default 24).")]
Frames = Annotated[int | None, typer.Option(
    "--frames", metavar="N", min=1, help="Length of a schedule, in frames.", show_default=False)]
Blend = Annotated[str, typer.Option(
    "--blend", metavar="HOW", help="How to treat blended prompts: strongest or join.")]
Times = Annotated[str | None, typer.Option(
    "--times", metavar="FILE", help="LongLive's YAML file with the switch frames.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite storyboards that exist.")]


def import_(
    files: Files,
    output: Output = None,
    source: Source = None,
    fps: Fps = None,
    frames: Frames = None,
    blend: Blend = "strongest",
    times: Times = None,
    force: Force = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Convert the prompt files and timelines of other tools to storyboards.

    Reads Echo-Forcing, LongLive, Scope, Deforum, FizzNodes, SRT, WebVTT, OTIO, EDL and FCPXML. What a storyboard cannot
    express is listed on standard error and at the top of the storyboard.
    """
    from echo_cli.formats.table import Options
    from echo_cli.storyboard.document import read_source

    if blend not in ("strongest", "join"):
        raise UsageError(f"--blend {blend}: unknown", "Use strongest or join.")
    options = Options(fps, frames, blend == "join", read_source(times)[0] if times else None)
    films = list(_films(files, options, source))
    if not quiet:
        _report(films)
    _write(films, output, Path(files[0]).stem if files[0] != "-" else "imported", force, quiet)


@dataclass(frozen=True)
class _Film:
    """A film that was read: what messages call its source, the name of its storyboard, and a comment for the top."""

    source: str
    stem: str
    comment: str
    cut: "Cut"


def _films(files: list[str], options: "Options", source: str | None) -> "Iterator[_Film]":
    from echo_cli.formats.table import read_path
    from echo_cli.render.defaults import read
    from echo_cli.render.prepare import storyboard_rules
    from echo_cli.render.source import fitting

    rules = storyboard_rules(below=read(film_options()))
    for path in files:
        name, cuts = read_path(path, options, source)
        comment = f"Imported from {_shown(path)} ({name})."
        for number, cut in enumerate(cuts, start=1):
            said = _shown(path) if len(cuts) == 1 else f"{_shown(path)}, film {number}"
            yield _Film(said, _stem(path, cut, number, len(cuts)), comment, fitting(cut.named(), rules))


def _shown(path: str) -> str:
    return "standard input" if path == "-" else Path(path).name


def _stem(path: str, cut: "Cut", number: int, count: int) -> str:
    stem = "imported" if path == "-" else Path(path).stem
    if count > 1 and cut.title and Path(path).is_dir():
        return cut.title  # the name of a folder inside of it
    return stem if count == 1 else f"{stem}-{number:0{len(str(count))}}"


def _report(films: "list[_Film]") -> None:
    """Prints what was left out, one line each."""
    for film in films:
        for note in film.cut.notes:
            print(f"{film.source}: left out: {note.place}: {note.what}", file=sys.stderr)


def _write(films: "list[_Film]", output: str | None, name: str, force: bool, quiet: bool) -> None:
    from echo_cli.files import output_errors, write_whole
    from echo_cli.formats.storyboard import written
    from echo_cli.render.source import YAML

    if len(films) == 1 and output in (None, "-"):
        print_file(written(films[0].cut, [films[0].comment]))
        return
    if output == "-":
        raise UsageError(f"{len(films)} films do not fit into standard output", "Name a folder with -o FOLDER/.")
    target = Path(output or f"{name}/")
    many = len(films) > 1 or (output or "").endswith("/") or target.is_dir()
    if len(films) > 1 and target.suffix.lower() in YAML:
        raise UsageError(f"{len(films)} films do not fit into one storyboard", "Name a folder with -o FOLDER/.")
    if not many and target.suffix.lower() not in ("", *YAML):
        raise UsageError(f"{output}: a storyboard's name ends in .yaml", f"Write -o {target.with_suffix('.yaml')}.")
    paths = [target / f"{film.stem}.yaml" if many else target for film in films]
    if doubled := next((path for path in paths if paths.count(path) > 1), None):
        raise UsageError(f"two of the files would become {doubled}", "Import them one by one, each with its own -o.")
    if not force and (there := next(filter(os.path.exists, paths), None)):
        raise OutputError(f"{there} exists", "Use --force to overwrite it, or choose another name with -o.")
    for path, film in zip(paths, films, strict=True):
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, written(film.cut, [film.comment]))
    if not quiet:
        print(f"{paths[0]}" if len(paths) == 1 else f"{len(paths)} storyboards in {paths[0].parent}", file=sys.stderr)
