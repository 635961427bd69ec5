"""What a scene begins with besides its prompt: reads the keys and looks at the file.

Knows keys and places in the storyboard. The rules say what is in a file; nothing is decoded here.
"""

import re
from pathlib import Path

from yaml.nodes import SequenceNode

from echo_cli.storyboard.document import scalar, short
from echo_cli.storyboard.durations import describe
from echo_cli.storyboard.fields import Fields
from echo_cli.storyboard.nouns import CENTRE, CLIP, PICTURE, Fit, Opening
from echo_cli.storyboard.rules import Rules

OPENING_KEYS = (PICTURE, CLIP, "fit", "focus", "from", "for")
LONGEST = 60  # seconds of a clip

_SHARES = re.compile(r"(0?\.\d+|1\.0+|0|1)\s*,\s*(0?\.\d+|1\.0+|0|1)", re.ASCII)
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def read_opening(fields: Fields, seconds: float, folder: Path, rules: Rules) -> Opening | None:
    """The opening of a scene that lasts `seconds` (0: unknown); None if it has none, or one that cannot be used, which
    has been noted."""
    what = next((key for key in (CLIP, PICTURE) if key in fields), None)
    begins, lasts = _read_times(fields, what, seconds)
    fit = Fit(fields.choice("fit", tuple(Fit)) or Fit.COVER)
    focus = _read_focus(fields)
    if what is None:
        for key in ("fit", "focus"):
            if key in fields:
                fields.note(key, f"has '{key}', but no picture that it could be for; add 'picture: FILE'")
        return None
    if PICTURE in fields and CLIP in fields:
        fields.note(PICTURE, "begins with a picture and with a clip; leave one of them out")
    if focus is not None and fit is not Fit.COVER:
        fields.note("focus", f"focus says what stays in view when a picture is cut, and with 'fit: {fit}' nothing is "
                    "cut; leave one of them out")
    path = read_file(fields, what, folder, rules, begins)
    return None if path is None else Opening(path, fit, focus or CENTRE, what, begins, lasts)


def _read_times(fields: Fields, what: str | None, seconds: float) -> tuple[float | None, float | None]:
    """Where a clip begins, and how long it is shown."""
    begins, lasts = fields.duration("from", zero=True), fields.duration("for")
    for key in ("from", "for"):
        if key in fields and what != CLIP:
            fields.note(key, f"has '{key}', but no clip that it could be for; add 'clip: FILE'")
    if lasts is not None and lasts > LONGEST:
        fields.note("for", f"for {describe(lasts)} is too long; at most {LONGEST} seconds of a clip can be shown")
    elif lasts is not None and 0 < seconds <= lasts:
        fields.note("for", f"the clip takes {describe(lasts)}, and the scene lasts {describe(seconds)}; leave it some "
                    "time to continue")
    return None if begins is None else float(begins), None if lasts is None else float(lasts)


def read_file(fields: Fields, key: str, folder: Path, rules: Rules, begins: float | None = None) -> str | None:
    """The path at `key`, as it is written, of a file that can be what the key says; None when it cannot."""
    path = fields.name(key)
    if path is None:
        return None
    problem = f"{short(path)} is an address; files are read from this machine, so download it first" if (
        ADDRESS.match(path)) else rules.file_problem(key, folder / path, begins)
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
