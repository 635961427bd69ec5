"""`export`: a storyboard's or a film's timeline for editors, players and other tools."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_cli.cli.options import Debug, Force, Quiet
from echo_cli.cli.streams import print_file
from echo_cli.errors import OutputError, UsageError

if TYPE_CHECKING:
    from echo_cli.formats.cut import Cut


Source = Annotated[str, typer.Argument(
    metavar="FILE", show_default=False,
    help="A storyboard, a file that `echo-cli import` knows, or a film, its trace or its manifest; - reads standard "
    "input.")]
To = Annotated[str | None, typer.Option(
    "--to", metavar="FORMAT", show_default=False,
    help="otio, edl, fcpxml, srt, vtt, chapters, echo-forcing, longlive (OUT, and the times in a .yaml beside it) or "
    "scope; by default, as the name after -o ends.")]
Output = Annotated[str | None, typer.Option(
    "-o", "--output", metavar="OUT", help="The file; by default, standard output.", show_default=False)]


def export(source: Source, to: To = None, output: Output = None, force: Force = False, quiet: Quiet = False,
           debug: Debug = False) -> None:
    """Write the timeline of a storyboard or of a film for an editor, a player or another tool.

    A storyboard gives the times that it asks for; a film, those that it really has. What the format cannot express is
    listed on standard error.
    """
    from echo_cli.files import output_errors, write_whole
    from echo_cli.formats import longlive
    from echo_cli.formats.table import named

    row = named(to or _by_suffix(output), reads=False)
    cut, notes = _cut(source)
    if row.media and cut.film:
        cut = replace(cut, sound=_heard(cut.film))
    assert row.write
    text, left = row.write(cut)
    if not quiet:
        for line in (*notes, *(f"left out: {note.place}: {note.what}" for note in (*cut.notes, *left))):
            print(line, file=sys.stderr)
    if output in (None, "-"):
        print_file(text)
    else:
        path = Path(output)
        files = {path: text}
        if row.name == "longlive":
            files[path.with_suffix(".yaml")] = longlive.switch_frames(cut)
        with output_errors(path):
            _check_targets(files, source, force)
            path.parent.mkdir(parents=True, exist_ok=True)
        for one, content in files.items():
            write_whole(one, content)


def _check_targets(files: Iterable[Path], source: str, force: bool) -> None:
    """An error if a file would be overwritten unasked, or what is exported in any case."""
    for path in filter(Path.exists, files):
        if path.resolve() == Path(source).resolve():
            raise OutputError(f"{path} is what is exported, and would be overwritten", "Choose another name with -o.")
        if not force:
            raise OutputError(f"{path} exists", "Use --force to overwrite it, or choose another name with -o.")


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
    from echo_cli.cli.show import trace_named
    from echo_cli.formats.storyboard import cut_of
    from echo_cli.render import manifest
    from echo_cli.render.source import read_board
    from echo_cli.storyboard.document import STDIN
    from echo_cli.storyboard.rules import Rules
    from echo_cli.trace.reader import is_trace
    from echo_cli.video.encoding import CONTAINERS
    from echo_cli.video.target import SUFFIXES

    if source == STDIN:
        return _cut_of_stdin()
    path = Path(source)
    if source.endswith(".manifest.json"):
        return _as_made(_there(Path(source.removesuffix(".manifest.json") + ".trace.json"))), ()
    if source.endswith(".trace.json") or is_trace(path):
        return _as_made(path), ()
    if content := manifest.read(path):
        return _as_made(_named_in(content, path.parent)), ()
    if path.suffix.lower() in (*CONTAINERS, *SUFFIXES):
        return _as_made(_there(trace_named(source) or path)), ()
    board, notes = read_board(source, Rules())
    return cut_of(board), notes


def _cut_of_stdin() -> tuple["Cut", tuple[str, ...]]:
    """The same of standard input: a trace is read to its end, anything else as far as a storyboard may go. The other
    files of a film are looked for in the folder at hand."""
    from echo_cli.formats.storyboard import cut_of
    from echo_cli.render import manifest
    from echo_cli.render.source import board_in
    from echo_cli.storyboard.document import LARGEST, STDIN, decode
    from echo_cli.storyboard.rules import Rules
    from echo_cli.trace.reader import begins_as_trace

    name, data = "<stdin>", sys.stdin.buffer.read(LARGEST + 1)
    if begins_as_trace(data):
        return _as_made(Path(name), data + sys.stdin.buffer.read()), ()
    if content := manifest.parsed(data):
        return _as_made(_named_in(content, Path())), ()
    board, notes = board_in(decode(data, name), name, STDIN, Rules())
    return cut_of(board), notes


def _as_made(trace: Path, data: bytes | None = None) -> "Cut":
    """The film of a trace; `data` is its content, if it has been read already."""
    from echo_cli.formats.cut import Note
    from echo_cli.formats.storyboard import cut_of_trace
    from echo_cli.trace.reader import read_trace

    cut = cut_of_trace(read_trace(trace, data).header, trace.parent)
    if not any(shot.subtitle for shot in cut.shots) and _subtitled(trace):
        lost = Note("the film", "its subtitles, which the trace of an earlier version does not hold")
        return replace(cut, notes=(*cut.notes, lost))
    return cut


def _heard(film: str) -> bool:
    """Whether the film at an address has sound."""
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    from echo_cli.video import sound, still

    try:
        sound.look(Path(url2pathname(urlsplit(film).path)))
    except still.Unusable:
        return False
    return True


def _subtitled(trace: Path) -> bool:
    """Whether the manifest beside a trace says that its film has subtitles."""
    from echo_cli.render import manifest

    content = manifest.read(trace.with_name(trace.name.removesuffix(".trace.json") + ".manifest.json"))
    return bool(content and content["outputs"].get("subtitles", {}).get("bytes"))


def _named_in(manifest: Mapping[str, Any], folder: Path) -> Path:
    """The trace that a manifest names, which lies in `folder`."""
    name = manifest["outputs"].get("trace", {}).get("name")
    if name is None:
        raise UsageError("this manifest names no trace, which has the film's timeline",
                         "Export from the storyboard instead.")
    return _there(folder / name)


def _there(trace: Path) -> Path:
    if not trace.exists():
        raise UsageError(f"{trace}: there is no such file; it has the film's timeline",
                         "Export from the storyboard instead.")
    return trace
