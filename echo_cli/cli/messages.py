"""How a problem is told on standard error: what and where, then what to try."""

import os
import sys

from echo_cli.errors import EchoError


def tell(problem: EchoError) -> None:
    red, dim, plain = ("\033[31m", "\033[2m", "\033[0m") if _coloured() else ("", "", "")
    print(f"{red}{problem.message}{plain}", file=sys.stderr)
    if problem.hint:
        print(f"{dim}hint:{plain} {problem.hint}", file=sys.stderr)


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
