"""`export`: a storyboard's or a film's timeline for editors, players and other tools."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli.options import Debug, Force, Quiet
from echo_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from echo_cli.formats.cut import Cut


Source = Annotated[str, typer.Argument(
    metavar="FILE", show_default=False,
    help="A storyboard or a file that `echo-cli import` knows, or a film's trace or manifest; - reads standard input.")]
To = Annotated[str | None, typer.Option(
    "--to", metavar="FORMAT", show_default=False,
    help="otio, edl, fcpxml, srt, vtt, chapters, echo-forcing, longlive or scope; by default, as the name after -o "
    "ends.")]
Output = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="OUT", help="The file; by default, standard output.", show_default=False)]


def export(source: Source, to: To = None, output: Output = None, force: Force = False, quiet: Quiet = False,
           debug: Debug = False) -> None:
    """Write the timeline of a storyboard or of a film for an editor, a player or another tool.

    A storyboard gives the times that it asks for; a trace or a manifest, those that the film really has. What the
    format cannot express is listed on standard error.
    """
    from echo_cli.files import output_errors, write_whole
    from echo_cli.formats import longlive
    from echo_cli.formats.table import named

    row = named(to or _by_suffix(output), reads=False)
    cut, notes = _cut(source)
    assert row.write
    text, left = row.write(cut)
    if not quiet:
        for line in (*notes, *(f"left out: {note.place}: {note.what}" for note in (*cut.notes, *left))):
            print(line, file=sys.stderr)
    if output in (None, "-"):
        print(text, end="")
    else:
        path = Path(output)
        files = {path: text}
        if row.name == "longlive":
            files[path.with_suffix(".yaml")] = longlive.switch_frames(cut)
        if not force and (there := next((one for one in files if one.exists()), None)):
            raise OutputError(f"{there} exists", "Use --force to overwrite it, or choose another name with -o.")
        with output_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        for one, content in files.items():
            write_whole(one, content)


def _by_suffix(output: str | None) -> str:
    from echo_cli.formats.table import exported_by, names

    suffix = Path(output or "").suffix.lower()
    formats = exported_by(suffix)
    if len(formats) != 1:
        known = ", ".join(names(reads=False))
        raise UsageError(
            "no format was named" if not output else f"{output}: no single format ends in '{suffix}'",
            f"Name one with --to: {known}.",
        )
    return formats[0]


def _cut(source: str) -> tuple["Cut", tuple[str, ...]]:
    """The film that a file describes, and what was left out of a file that had to be imported."""
    from echo_cli.formats.storyboard import cut_of, cut_of_trace
    from echo_cli.render.source import read_board
    from echo_cli.storyboard.rules import Rules
    from echo_cli.trace.reader import is_trace, read_trace

    if source.endswith(".manifest.json"):
        trace = Path(source.removesuffix(".manifest.json") + ".trace.json")
        if not trace.exists():
            raise UsageError(
                f"{trace}: there is no such file; it has the film's timeline", "Export from the storyboard instead."
            )
        return cut_of_trace(read_trace(trace).header, trace.parent), ()
    if source.endswith(".trace.json") or is_trace(Path(source)):
        return cut_of_trace(read_trace(Path(source)).header, Path(source).parent), ()
    board, notes = read_board(source, Rules())
    return cut_of(board), notes
