"""`scenes`: what is in a file of scenes, several files as one, and a file with fewer scenes."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli import complete
from echo_cli.cli.options import Debug, Force, Html, Json
from echo_cli.cli.streams import console
from echo_cli.errors import OutputError, UsageError, did_you_mean

if TYPE_CHECKING:
    from echo_cli.storyboard.series import ScenesFile

scenes = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True,
                     help="Show, merge and prune the files in which films keep their scenes.")

File = Annotated[Path, typer.Argument(metavar="FILE.scenes", show_default=False, help="A file of scenes.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE.scenes", show_default=False, help="Files of scenes.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="FILE.scenes", show_default=False,
                                      help="Where to write.")]
Keep = Annotated[list[str] | None, typer.Option("--keep", metavar="ID", show_default=False, help="Keep this scene.",
                                                autocompletion=complete.kept_ids)]
Drop = Annotated[list[str] | None, typer.Option("--drop", metavar="ID", show_default=False, help="Drop this scene.",
                                                autocompletion=complete.kept_ids)]


@scenes.callback()
def _scenes() -> None:
    """Show, merge and prune the files in which films keep their scenes."""


@scenes.command("show")
def show(file: File, html: Html = None, as_json: Json = False, debug: Debug = False) -> None:
    """List the scenes of a file, and how a storyboard recalls them. `inspect-cache` does the same."""
    show_file(file, html, as_json)


@scenes.command("merge")
def merge(files: Files, output: Output, force: Force = False, debug: Debug = False) -> None:
    """Write the scenes of several files into one.

    An id that is taken already gets a number: rooftop-2.
    """
    from echo_cli.memory.scene_files import merge as merge_files
    from echo_cli.storyboard.series import MOST_SCENES, check_model, read_scenes

    opened = [read_scenes(file) for file in files]
    for other in opened[1:]:
        check_model(other, opened[0].description.model)
    chosen = [(file, index) for file in opened for index in range(len(file.description.scenes))]
    if len(chosen) > MOST_SCENES:
        raise UsageError(f"{len(chosen)} scenes are more than a file can have ({MOST_SCENES})", "Prune some first.")
    _check_free(output, force)
    merge_files(output, chosen)
    _print_written(output)


@scenes.command("prune")
def prune(
    file: File, keep: Keep = None, drop: Drop = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE.scenes", show_default=False,
                                                help="Where to write; by default, over the file itself.")] = None,
    force: Force = False, debug: Debug = False,
) -> None:
    """Write a file of scenes with fewer scenes: those to keep, or all but those to drop."""
    from echo_cli.memory.scene_files import merge as merge_files
    from echo_cli.storyboard.series import read_scenes

    if bool(keep) == bool(drop):
        raise UsageError("which scenes?", "Name them with --keep ID, or those that are not wanted with --drop ID.")
    opened = read_scenes(file)
    ids = [scene.id for scene in opened.description.scenes]
    for name in (*(keep or ()), *(drop or ())):
        if name not in ids:
            raise UsageError(f"{file} has no scene '{name}'{did_you_mean(name, ids)}",
                             f"Run `echo-cli scenes show {file}` to list its scenes.")
    chosen = [(opened, index) for index, name in enumerate(ids) if (name in keep if keep else name not in (drop or ()))]
    if not chosen:
        raise UsageError(f"no scene of {file} would be left", "Delete the file instead.")
    if output is not None:
        _check_free(output, force)
    merge_files(output or file, chosen)
    _print_written(output or file)


def show_file(file: Path, html: Path | None, as_json: bool) -> None:
    """What `scenes show` and `inspect-cache` print of a file."""
    from echo_cli.files import write_page
    from echo_cli.storyboard.series import read_scenes
    from echo_cli.trace import kept

    opened = read_scenes(file)
    if html is not None:
        if html.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"--html: '{html}' does not end in .html", f"Try --html {html.with_suffix('.html')}.")
        write_page(html, kept.page(opened))
        print(html)
    elif as_json:
        print(json.dumps(kept.rows(opened), indent=2))
    else:
        _print_table(opened)


def _print_table(file: "ScenesFile") -> None:
    from rich.table import Table
    from rich.text import Text

    from echo_cli.trace import kept

    table = Table(*kept.COLUMNS, box=None, pad_edge=False)
    for row in kept.cells(file):
        table.add_row(*map(Text, row))
    screen = console()
    screen.print(Text(f"{file.name}  {kept.summary(file)}"), "", table, "", sep="\n")
    first = file.description.scenes[0].id
    screen.print(Text(f"In a storyboard: 'series: {file.path.name}' and 'transition: recall:{file.name}/{first}'."))


def _check_free(output: Path, force: bool) -> None:
    from echo_cli.storyboard.series import ENDING

    if output.suffix != ENDING:
        raise UsageError(f"-o {output}: the name does not end in {ENDING}", f"Try -o {output}{ENDING}.")
    if os.path.lexists(output) and not force:
        raise OutputError(f"{output} exists", "Use --force to overwrite it, or -o to write elsewhere.")


def _print_written(output: Path) -> None:
    from echo_cli.storyboard.series import read_scenes
    from echo_cli.trace import kept

    print(f"{output}: {kept.summary(read_scenes(output))}")
