"""Options that several commands share."""

from typing import Annotated

import typer

from echo_cli.errors import UsageError
from echo_cli.storyboard.sizes import read_size

# Read by the error boundary, which sees the arguments even when they cannot be parsed.
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]


def picture_size(text: str | None) -> tuple[int, int] | None:
    """WIDTHxHEIGHT in pixels."""
    if text is None:
        return None
    size = read_size(text)
    if size is None:
        raise UsageError(f"--size {text}: not a size", "write WIDTHxHEIGHT in pixels, such as 832x480")
    return size
