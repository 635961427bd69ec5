"""The command that makes one film of a batch, for farms that schedule commands: one line, whatever the names are."""

import os
import re
import shlex
import string
from collections.abc import Sequence

from echo_cli.errors import UsageError
from echo_cli.render.batch.outcome import Orders
from echo_cli.render.job import Choices
from echo_cli.render.progress import Style
from echo_cli.video.encoding import Encoding

_ODD = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\udc80-\udcff]")  # what would break a line, or is no character


def command(source: str, film: str, choices: Choices, assignments: Sequence[str], orders: Orders,
            progress: Style = Style.AUTO) -> list[str]:
    """The words of it. Paths are absolute: it means the same in any folder, and on any machine that sees the same
    files."""
    default, encoding, running = Choices(), choices.encoding, choices.running
    model = choices.model
    options = [
        ("--seed", choices.seed),
        ("--model", os.path.abspath(model) if model and os.path.isdir(model) else model),
        ("--memory", choices.memory),
        *(("--set", assignment) for assignment in assignments),
        ("--size", "x".join(map(str, choices.size)) if choices.size else None),
        ("--scale", choices.scale),
        ("--subtitles", choices.subtitles),
        ("--crf", encoding.crf),
        ("--preset", encoding.preset),
        ("--codec", encoding.codec if encoding.codec != Encoding().codec else None),
        *(
            (f"--{name}", getattr(choices, name))
            for name in ("device", "dtype")
            if getattr(choices, name) != getattr(default, name)
        ),
        ("--decoder", running.pictures.value if running.pictures is not default.running.pictures else None),
        ("--offload", running.offload.value if running.offload is not default.running.offload else None),
        ("--checkpoint-every", orders.checkpoint_every),
        ("--grace", orders.grace if orders.grace != Orders().grace else None),
        ("--progress", progress if progress is not Style.AUTO else None),
    ]
    said = [word for name, value in options if value is not None for word in (name, str(value))]
    return ["echo-cli", "generate", os.path.abspath(source), "-o", os.path.abspath(film), *said,
            *({None: [], True: ["--compile"], False: ["--no-compile"]}[running.compiled]),
            *["--fast"] * running.fast, *["--force"] * orders.force, *["--restart"] * orders.restart]


def line(words: Sequence[str]) -> str:
    """The words as any POSIX shell reads them back, in one line."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if not _ODD.search(word):
        return shlex.quote(word)
    if word.endswith("\n"):  # a shell would take it away
        raise UsageError(f"{word!r} ends in a line break, and no command in one line can say it", "rename it")
    plain = b"/._-" + string.ascii_letters.encode() + string.digits.encode()
    octal = "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in os.fsencode(word))
    return f"\"$(printf '{octal}')\""
