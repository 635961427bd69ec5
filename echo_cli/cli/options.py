"""Options that several commands share."""

from typing import Annotated

import typer

# Read by the error boundary, which sees the arguments even when they cannot be parsed.
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
