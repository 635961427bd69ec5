"""What a scene begins with, beside its prompt: its keys read, and its file looked at.

Knows keys and places in the storyboard. The rules say what is in a file; nothing is decoded here.
"""

import re
from pathlib import Path

from yaml.nodes import SequenceNode

from echo_cli.storyboard.document import scalar, short
from echo_cli.storyboard.fields import Fields
from echo_cli.storyboard.nouns import CENTRE, Fit, Opening
from echo_cli.storyboard.rules import Rules

OPENING_KEYS = ("picture", "fit", "focus")

_SHARES = re.compile(r"(0?\.\d+|1\.0+|0|1)\s*,\s*(0?\.\d+|1\.0+|0|1)", re.ASCII)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def read_opening(fields: Fields, folder: Path, rules: Rules) -> Opening | None:
    """The scene's opening; None when it has none, or one that cannot be used, which has been noted."""
    fit = Fit(fields.choice("fit", tuple(Fit)) or Fit.COVER)
    focus = _read_focus(fields)
    if "picture" not in fields:
        for key in OPENING_KEYS[1:]:
            if key in fields:
                fields.note(key, f"has '{key}', but no picture that it could be for; add 'picture: FILE'")
        return None
    if focus is not None and fit is not Fit.COVER:
        fields.note("focus", f"focus says what stays in view when a picture is cut, and with 'fit: {fit}' nothing is "
                    "cut; leave one of them out")
    path = read_file(fields, "picture", folder, rules)
    return None if path is None else Opening(path, fit, focus or CENTRE)


def read_file(fields: Fields, key: str, folder: Path, rules: Rules) -> str | None:
    """The path at `key`, as it is written, of a file that can be what the key says; None when it cannot."""
    path = fields.name(key)
    if path is None:
        return None
    problem = f"{short(path)} is an address; files are read from this machine, so download it first" if (
        _ADDRESS.match(path)) else rules.file_problem(key, folder / path)
    if problem:
        fields.note(key, f"{key} {problem}")
        return None
    return path


def _read_focus(fields: Fields) -> tuple[float, float] | None:
    """Two shares of the picture's sides, as `0.5, 0.3` or as a list."""
    node = fields.node("focus")
    if node is None:
        return None
    values: list[object] = []
    try:
        if isinstance(node, SequenceNode):
            values = [scalar(part) for part in node.value]
        elif match := _SHARES.fullmatch(str(scalar(node)).strip()):
            values = [float(part) for part in match.groups()]
    except ValueError:
        values = []
    shares = [float(value) for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(values) != 2 or len(shares) != 2 or not all(0 <= share <= 1 for share in shares):
        fields.note("focus", "focus must be two numbers from 0 to 1, the point to keep in view as shares of the "
                    "picture's width and height, such as 0.5, 0.3")
        return None
    return shares[0], shares[1]
