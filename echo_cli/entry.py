"""The `echo` on PATH: passes what is certainly meant for the tool to it, and everything else to the system's echo.

Uses only the standard library, and as little of it as possible, until there is evidence: this runs whenever a program
looks up `echo` on PATH. Once something of ours is named, `cli.guard` decides.
"""

import os
import sys

from echo_cli.evidence import may_be_ours

LAST_RESORT = "/bin/echo"
_HANDED_OVER = "ECHO_CLI_HANDED_OVER"  # our process id: a launcher that leads back here is skipped


def main() -> None:
    """Runs the tool or becomes the system's echo; does not return."""
    if may_be_ours(sys.argv[1:]):
        from echo_cli.cli.app import main as tool
        from echo_cli.cli.guard import is_ours

        if is_ours(sys.argv[1:]):
            tool()
    hand_over(sys.argv[1:])


def hand_over(arguments: list[str]) -> None:
    """Replaces this process by the first echo on PATH that is not this script."""
    import signal

    came_back = os.environ.get(_HANDED_OVER) == str(os.getpid())
    os.environ[_HANDED_OVER] = str(os.getpid())
    for ignored in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and ignored signals stay ignored across exec
        if hasattr(signal, ignored):
            signal.signal(getattr(signal, ignored), signal.SIG_DFL)
    for path in [] if came_back else _on_path("echo"):
        try:
            os.execv(path, ["echo", *arguments])
        except OSError:
            continue
    os.execv(LAST_RESORT, ["echo", *arguments])


def _on_path(name: str) -> list[str]:
    """Every executable file called `name` on PATH, except this script."""
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    paths = (os.path.join(place or os.curdir, name) for place in places)
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK) and not _is_this(path)]


def _is_this(path: str) -> bool:
    try:
        return os.path.samefile(path, sys.argv[0])
    except OSError:
        return False
