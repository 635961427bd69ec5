"""The `echo` on PATH: what is certainly meant for the tool goes to it, everything else to the system's echo, unchanged.

Standard library only until there is evidence, and as little of it as possible: this runs whenever a program looks `echo`
up on PATH. Which options a command has is not known here; `cli.guard` is asked, once something of ours is named.
"""

import os
import sys

from echo_cli.commands import ALWAYS_ECHOED, COMMANDS, OPTIONS

ENDINGS = (".yaml", ".yml", ".json")
FILMS = (".mp4", ".mov", ".mkv", ".webm", ".gif")
INSIDE = (b"scenes:", b'"scenes"')  # a storyboard's opening lines, whatever the file is called
LAST_RESORT = "/bin/echo"
_HANDED_OVER = "ECHO_CLI_HANDED_OVER"  # our process number: a launcher that leads back here is passed by


def main() -> None:
    """Runs the tool or becomes the system's echo; returns in neither case."""
    if is_ours(sys.argv[1:]):
        from echo_cli.cli.app import main as tool

        tool()
    hand_over(sys.argv[1:])


def is_ours(arguments: list[str]) -> bool:
    """Whether a call of `echo` is certainly meant for the tool: one of its commands, whose arguments the rest are, and
    which name something of ours."""
    command, *rest = arguments or [""]
    if not rest:
        return command in OPTIONS
    if command not in COMMANDS or command == ALWAYS_ECHOED or not any(map(hints_at_us, rest)):
        return False
    from echo_cli.cli.guard import takes

    return takes(command, rest)


def hints_at_us(word: str) -> bool:
    """Whether a word might be an option, or names something of ours."""
    return word.startswith("-") or names_ours(word)


def names_ours(word: str) -> bool:
    """Whether a word names a storyboard, a trace, a film or a folder."""
    if word.lower().endswith(ENDINGS) or os.path.isdir(word):
        return True
    return os.path.isfile(word) and (word.lower().endswith(FILMS) or _reads_as_storyboard(word))


def _reads_as_storyboard(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    return any(mark in start for mark in INSIDE)


def hand_over(arguments: list[str]) -> None:
    """Replaces this process by the first echo on PATH that is not this script."""
    import signal

    came_back = os.environ.get(_HANDED_OVER) == str(os.getpid())
    os.environ[_HANDED_OVER] = str(os.getpid())
    for ignored in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and an ignored signal outlives exec
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    for path in [] if came_back else _on_path("echo"):
        try:
            os.execv(path, ["echo", *arguments])
        except OSError:
            continue
    os.execv(LAST_RESORT, ["echo", *arguments])


def _on_path(name: str) -> list[str]:
    """Every file called `name` on PATH that may be run, this script left out."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found = (os.path.join(place or os.curdir, name) for place in places)
    return [path for path in found if os.path.isfile(path) and os.access(path, os.X_OK) and not _is_this(path)]


def _is_this(path: str) -> bool:
    try:
        return os.path.samefile(path, sys.argv[0])
    except OSError:
        return False
