"""`init`: a first storyboard, with comments that say what can be changed. Knows a few prompts, and loads no weights."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from echo_cli.cli import complete
from echo_cli.cli.options import Debug, Force
from echo_cli.cli.streams import print_file
from echo_cli.errors import OutputError, UsageError

MOST_SCENES = 99
_HEAD = """\
# Render it:  echo-cli generate {file}
# Check it:   echo-cli validate {file}
version: 1
title: {title}
seed: 7                           # another seed gives another film
model: {model}{space}# `echo-cli models list` shows the others
scenes:
"""
_MEADOW = ("meadow", "a red ball rolls to the right across a green meadow at sunset")  # in words that `tiny` knows
_LATER = (  # how the later scenes begin, a remark on that, and what they show; in turn
    ("hard cut", "# smooth | hard cut | recall:<scene-id> | recall:auto",
     ("city", "a blue box bounces up and down in the city at night")),
    ("recall:meadow", "# the place comes back as it was", _MEADOW),
    ("smooth", "# the picture changes gradually",
     ("beach", "a yellow star drifts to the left on a sandy beach at noon")),
)


def init(
    name: Annotated[str, typer.Argument(
        metavar="NAME", help="Name of the storyboard; .yaml is added if it is missing; - prints it.")] = "story",
    model: Annotated[str, typer.Option(
        metavar="NAME", help="The model to render it with.", autocompletion=complete.models)] = "tiny",
    scenes: Annotated[int, typer.Option(
        metavar="N", min=1, max=MOST_SCENES, help="Number of scenes.")] = 3,
    force: Force = False,
    debug: Debug = False,
) -> None:
    """Write a first storyboard, with comments, to edit and render."""
    from echo_cli.files import output_errors, write_whole
    from echo_cli.models.registry import find
    from echo_cli.storyboard.document import STDIN

    find(model)
    if name == STDIN:
        print_file(storyboard(Path("story.yaml"), model, scenes))
        return
    if os.path.isdir(name):
        raise UsageError(f"{name}: is a folder", f"Name the storyboard in it: {Path(name) / 'story.yaml'}.")
    path = Path(name if name.lower().endswith((".yaml", ".yml")) else f"{name}.yaml")
    if path.exists() and not force:
        raise OutputError(f"{path} exists", "Use --force to overwrite it, or choose another name.")
    with output_errors(path, None):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, storyboard(path, model, scenes), None)
    print(path)


def storyboard(path: Path, model: str, scenes: int) -> str:
    """The text of a storyboard with that many scenes, for the file `path`."""
    from echo_cli.formats.storyboard import scalar

    written = scalar(model)
    named = f"./{path}" if str(path).startswith("-") else path
    head = _HEAD.format(file=shlex.quote(str(named)), title=scalar(path.stem), model=written,
                        space=" " * max(2, 27 - len(written)))
    return head + "".join(map(_scene, range(scenes)))


def _scene(index: int) -> str:
    if index == 0:
        name, prompt = _MEADOW
        return (f"  - id: {name}\n    prompt: {prompt}\n"
                "    duration: 3s                  # 3, 3s, 2.5s, 500ms, 1m30s, 00:01:30\n")
    transition, remark, (name, prompt) = _LATER[(index - 1) % len(_LATER)]
    spelled = f"{transition:<18}{remark}" if index <= len(_LATER) else transition
    return f"  - id: {name}-{index + 1}\n    transition: {spelled}\n    prompt: {prompt}\n    duration: 3s\n"
