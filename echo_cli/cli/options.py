"""Options that several commands share."""

import re
from typing import Annotated

import typer

from echo_cli.errors import UsageError

# Read by the error boundary, which sees the arguments even when they cannot be parsed.
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]


def picture_size(text: str | None) -> tuple[int, int] | None:
    """WIDTHxHEIGHT in pixels."""
    if text is None:
        return None
    sides = re.fullmatch(r"(\d{1,5})[xX×](\d{1,5})", text, re.ASCII)
    if not sides:
        raise UsageError(f"--size {text}: not a size", "write WIDTHxHEIGHT in pixels, such as 832x480")
    return int(sides[1]), int(sides[2])
