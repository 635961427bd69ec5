"""The JSON Schema of storyboards, for editors: `schema.json`, with the kinds of transition filled in.

The schema sees the form of a storyboard; what a storyboard means is checked by `parse` alone.
"""

import json
import re
from importlib.resources import files
from typing import Any

from echo_cli.storyboard.nouns import Kind


def schema() -> dict[str, Any]:
    """The schema as plain values; every kind of transition is in it under all its names."""
    described: dict[str, Any] = json.loads(files("echo_cli.storyboard").joinpath("schema.json").read_text("utf-8"))
    spellings = [spelling for kind in Kind for spelling in kind.spellings]
    transition = described["$defs"]["scene"]["properties"]["transition"]
    transition["description"] = transition["description"].replace("{kinds}", ", ".join(spellings))
    transition["examples"] = [spelling for spelling in spellings if "<" not in spelling]
    transition["pattern"] = rf"^\s*({'|'.join(map(_pattern, Kind))})\s*$"
    return described


def _pattern(kind: Kind) -> str:
    names = "|".join(_any_case(name) for name in (kind.value, *kind.aliases))
    return rf"({names})\s*:[\s\S]*\S" if kind.targeted else names


def _any_case(name: str) -> str:
    """A pattern for a name in any case and with any separators; patterns of JSON Schema have no flags."""
    letters = re.sub("[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", name)
    return letters.replace(" ", r"[\s_-]+")
