"""A storyboard from a file: YAML, or a format that `echo-cli import` knows, imported first. Knows texts, not films."""

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from echo_cli.errors import EchoError, UsageError
from echo_cli.storyboard.document import STDIN, read_source
from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.nouns import Storyboard
from echo_cli.storyboard.parse import load, parse
from echo_cli.storyboard.rules import Model, Rules

if TYPE_CHECKING:
    from echo_cli.formats.cut import Cut

YAML = (".yaml", ".yml")
JSON = (".json", ".otio")


def read_board(path: str, rules: Rules) -> tuple[Storyboard, tuple[str, ...]]:
    """The storyboard of a file, and what was left out of one that had to be imported."""
    if path != STDIN and (not os.path.isfile(path) or path.lower().endswith(YAML)):
        return load(path, rules), ()
    return board_in(*read_source(path), path, rules)


def board_in(text: str, name: str, path: str, rules: Rules) -> tuple[Storyboard, tuple[str, ...]]:
    """The same of a text that was read from there; `name` is for messages."""
    from echo_cli.formats.table import Options, Source, is_storyboard, matching

    source = Source(text, name)
    row = None if is_storyboard(source) else matching(source)
    if row is None or row.read is None:
        return _parsed(text, name, rules), ()
    cuts = row.read(source, Options())
    if len(cuts) != 1:
        raise UsageError(f"{name} has {len(cuts)} films", f"Make a storyboard of each with `echo-cli import {path}`.")
    from echo_cli.formats.storyboard import written

    cut = fitting(cuts[0].named(), rules)
    notes = tuple(f"left out: {note.place}: {note.what}" for note in cut.notes)
    return parse(written(cut), f"{name}, imported", rules), notes


def fitting(cut: "Cut", rules: Rules) -> "Cut":
    """A film without a size that its model cannot render: the size is that of another tool's model."""
    from echo_cli.formats.cut import Note

    model = rules.model_for(None)
    if cut.size is None or model is None or _renders(model, cut.size):
        return cut
    size = "x".join(map(str, cut.size))
    left = f"its size {size}, which {model.name} does not render; add 'size: {size}' for another model"
    return replace(cut, size=None, notes=(*cut.notes, Note("the film", left)))


def _renders(model: Model, size: tuple[int, int]) -> bool:
    try:
        model.grid(size)
    except EchoError:
        return False
    return model.was_seen(size)


def _parsed(text: str, name: str, rules: Rules) -> Storyboard:
    """The storyboard in a text. If its name says that it is JSON and it is not, the error is one about JSON."""
    from echo_cli.formats.jsons import read_json

    try:
        return parse(text, name, rules)
    except StoryboardError:
        if name.lower().endswith(JSON):
            read_json(text, name)
        raise
