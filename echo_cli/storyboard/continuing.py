"""What a storyboard says of the film that it continues, under `continue`.

Knows a key and its place; the rules say what is in the file.
"""

from pathlib import Path

from echo_cli.errors import UsageError
from echo_cli.storyboard.document import short
from echo_cli.storyboard.fields import Fields
from echo_cli.storyboard.nouns import CLIP, CONTINUE, PICTURE, Continued, Kind, kind_named
from echo_cli.storyboard.openings import ADDRESS
from echo_cli.storyboard.rules import Rules


def read_continued(top: Fields, folder: Path, rules: Rules) -> Continued | None:
    """The film that the storyboard continues, if it continues one; what cannot be used has been noted."""
    path = top.name(CONTINUE)
    if path is None:
        return None
    unread = Continued(path, Path(path).stem)
    if ADDRESS.match(path):
        top.note(CONTINUE, f"{CONTINUE} {short(path)} is an address; files are read from this machine, so download it "
                 "first")
        return unread
    try:
        return rules.continued(path, folder / path)
    except UsageError as error:
        top.note(CONTINUE, f"{CONTINUE} {error.message}")
        return unread


def check_first(first: Fields, transition: str | None) -> None:
    """Notes what the first scene of a film that continues the pictures of another cannot have."""
    if "transition" in first and kind_named(transition or "") is not Kind.SMOOTH:
        first.note("transition", f"the first scene continues the film that is named under '{CONTINUE}'; leave its "
                   "transition out")
    for key in (PICTURE, CLIP):
        if key in first:
            first.note(key, f"begins with a {key}, but continues the film that is named under '{CONTINUE}'; leave one "
                       "of them out")
