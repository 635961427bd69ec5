"""`bench faults`: whether films survive whatever stops them."""

import json as json_text
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from echo_cli.cli.options import Debug
from echo_cli.errors import EchoError


def faults(
    interruptions: Annotated[int, typer.Option(min=1, help="How many.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the moments.")] = 1,
    model: Annotated[str, typer.Option(help="random: a small one of random weights; or a model by name.")] = "random",
    json: Annotated[bool, typer.Option("--json", help="The same as one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Strike films while they are made, and go on with them: do they come out as if nothing had happened?

    Runs are killed, terminated and interrupted at random moments: between blocks and within them, while a checkpoint is
    written, while segments are joined, while files are given their names; some are struck again before they are
    finished. Every film is compared, byte by byte, with one that was left in peace. Exit code 1 when a single one
    differs.
    """
    from echo_cli.bench.faults import measure, table
    from echo_cli.cli.app import run
    from echo_cli.models.registry import find

    if model != "random":
        find(model)
    strikes = []
    for strike in measure(run, interruptions, seed, model):
        strikes.append(strike)
        print(f"{len(strikes)} of {interruptions}", file=sys.stderr)
        if strike.told:
            print(strike.told, file=sys.stderr)
    if json:
        print(json_text.dumps({"interruptions": [asdict(strike) for strike in strikes]}))
    else:
        print("\n".join(table(strikes)))
    if not all(strike.whole and strike.same is not False for strike in strikes):
        raise EchoError("a film did not survive", "please report this with the table")
