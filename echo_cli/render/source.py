"""A storyboard from a file: YAML, or a format that `echo-cli import` knows, imported first. Knows texts, not films."""

import re
from pathlib import Path

from echo_cli.errors import UsageError
from echo_cli.storyboard.document import STDIN, read_source
from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.nouns import Storyboard
from echo_cli.storyboard.parse import load, parse
from echo_cli.storyboard.rules import Rules

YAML = (".yaml", ".yml")
JSON = (".json", ".otio")
_SCENES = re.compile(r"""^(\{.*)?["']?scenes["']?\s*:""", re.MULTILINE)  # a key that every storyboard has


def read_board(path: str, rules: Rules) -> tuple[Storyboard, tuple[str, ...]]:
    """The storyboard of a file, and what was left out of one that had to be imported."""
    if path == STDIN or not Path(path).is_file() or path.lower().endswith(YAML):
        return load(path, rules), ()
    from echo_cli.formats.table import Options, Source, matching

    text, name = read_source(path)
    source = Source(text, name)
    row = None if _is_storyboard(source.json, text) else matching(source)
    if row is None or row.read is None:
        return _parsed(text, name, rules), ()
    cuts = row.read(source, Options())
    if len(cuts) != 1:
        raise UsageError(f"{path} has {len(cuts)} films", f"Make a storyboard of each with `echo-cli import {path}`.")
    from echo_cli.formats.storyboard import written

    cut = cuts[0].named()
    notes = tuple(f"left out: {note.place}: {note.what}" for note in cut.notes)
    return parse(written(cut), f"{path}, imported", rules), notes


def _parsed(text: str, name: str, rules: Rules) -> Storyboard:
    """The storyboard in a text. If its name says that it is JSON and it is not, the error is one about JSON."""
    from echo_cli.formats.jsons import read_json

    try:
        return parse(text, name, rules)
    except StoryboardError:
        if name.lower().endswith(JSON):
            read_json(text, name)
        raise


def _is_storyboard(json: object, text: str) -> bool:
    return "scenes" in json if isinstance(json, dict) else bool(_SCENES.search(text))
