"""What a command says on standard error: a problem and what to try, or how far it has come."""

import os
import sys
import time

from echo_cli.errors import EchoError

_EVERY = 5.0  # seconds between lines of progress where there is no terminal


def tell(problem: EchoError) -> None:
    red, dim, plain = ("\033[31m", "\033[2m", "\033[0m") if _coloured() else ("", "", "")
    print(f"{red}{problem.message}{plain}", file=sys.stderr)
    if problem.hint:
        print(f"{dim}hint:{plain} {problem.hint}", file=sys.stderr)


def _coloured() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Lines:
    """Progress in one line: redrawn on a terminal, a few seconds apart elsewhere."""

    def __init__(self) -> None:
        self._told, self._drawn = time.monotonic(), sys.stderr.isatty()

    def __call__(self, text: str, last: bool = False) -> None:
        now = time.monotonic()
        if not last and now - self._told < (0.1 if self._drawn else _EVERY):
            return
        self._told = now
        print(f"\r\033[K{text}" if self._drawn else text, end="\n" if last or not self._drawn else "",
              file=sys.stderr, flush=True)
