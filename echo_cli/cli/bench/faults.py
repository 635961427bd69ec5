"""`bench faults`: whether films survive interruptions."""

import json as json_text
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from echo_cli.cli.options import Debug, Json, Model
from echo_cli.errors import EchoError
from echo_cli.storyboard.nouns import SEEDS


def faults(
    interruptions: Annotated[int, typer.Option(min=1, help="Number of interruptions.")] = 40,
    seed: Annotated[int, typer.Option(min=SEEDS[0], max=SEEDS[1], help="Seed of the moments.")] = 1,
    model: Model = "random-small",
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Interrupt films at random moments, resume them, and check that they equal the films of uninterrupted runs.

    Runs are killed, terminated and interrupted between blocks and within them, while a checkpoint is written, while
    segments are joined and while files are renamed; some are interrupted again before they finish. Every film is
    compared, byte by byte, with that of an uninterrupted run. The exit code is 1 if any of them differs.
    """
    from echo_cli.bench.faults import measure, table
    from echo_cli.cli.app import run
    from echo_cli.models.registry import find

    find(model)
    strikes = []
    for strike in measure(run, interruptions, seed, model):
        strikes.append(strike)
        print(f"{len(strikes)} of {interruptions}", file=sys.stderr)
        if strike.output:
            print(strike.output, file=sys.stderr)
    if json:
        print(json_text.dumps({"interruptions": [asdict(strike) for strike in strikes]}))
    else:
        print("\n".join(table(strikes)))
    if not all(strike.whole and strike.same is not False for strike in strikes):
        raise EchoError("a film did not survive an interruption", "Report this with the table.")
