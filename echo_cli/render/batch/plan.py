"""The command that renders one film of a batch, for farms that schedule commands: one line, whatever the names are."""

import os
import re
import shlex
import string
from collections.abc import Sequence

from echo_cli.errors import UsageError
from echo_cli.render.request import Request

_ODD = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\udc80-\udcff]")  # what would break a line, or is not a character


def command(request: Request) -> list[str]:
    """Its words. Paths are absolute, so it means the same in any folder, and on any machine that sees the same
    files."""
    words = [word for field, value in request.values() if field.option.planned for word in field.words(value)]
    return ["echo-cli", "generate", *words]


def line(words: Sequence[str]) -> str:
    """The words quoted for any POSIX shell, in one line."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if not _ODD.search(word):
        return shlex.quote(word)
    if word.endswith("\n"):  # a shell would strip it
        raise UsageError(f"{word!r} ends in a line break, which a command in one line cannot express", "Rename it.")
    plain = b"/._-" + string.ascii_letters.encode() + string.digits.encode()
    octal = "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"\"$(printf '{octal}')\""
