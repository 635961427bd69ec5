"""`bench soak`: a day of film, in as many runs as it takes. Parses, runs, prints the hours."""

import json as json_text
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli.options import Debug, Device, Dtype, Model, Threads
from echo_cli.errors import Interrupted
from echo_cli.storyboard.nouns import SEEDS

if TYPE_CHECKING:
    from echo_cli.bench.soak import Soak

_EVERY = 10.0  # seconds between lines
# columns: how often the judges find it right
_RIGHT = (("place", 7), ("time", 6), ("colour", 8), ("shape", 7), ("motion", 8))
_KEPT = (("contrast", 10), ("sharpness", 11), ("moving", 8))  # and the share of the first hour's value


Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder; an existing run is resumed.")]
Memory = Annotated[str, typer.Option(help="The memory; window is the control.")]
Pictures = Annotated[int, typer.Option(min=61, help="Length of the film.")]
SceneSeconds = Annotated[float, typer.Option(min=4, metavar="SECONDS", help="Length of a scene; six scenes repeat.")]
Minutes = Annotated[float | None, typer.Option(
    min=0, metavar="MINUTES", help="Stop after N minutes; run it again to resume.")]


def soak(
    out: Out = Path("soak"),
    policy: Memory = "echo",
    pictures: Pictures = 1_400_000,
    scene: SceneSeconds = 600.0,
    minutes: Minutes = None,
    seed: Annotated[int, typer.Option(min=SEEDS[0], max=SEEDS[1], help="Seed of the film.")] = 0,
    model: Model = "tiny",
    device: Device = "auto",
    dtype: Dtype = "auto",
    threads: Threads = None,
    json: Annotated[bool, typer.Option("--json", help="Print the hours as one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Render a day of film in one rollout and measure it hour by hour: block time, memory, pictures.

    1,400,000 pictures are 24 hours at 16 a second. Only a few seconds of each scene are decoded. Stop it at any time;
    the same command resumes.
    """
    import torch

    from echo_cli.bench.soak import Soak
    from echo_cli.models.loaders import load_backend
    from echo_cli.render.signals import Interruption
    from echo_cli.runtime import Runtime

    if threads:
        torch.set_num_threads(threads)
    runtime = Runtime.choose(device, dtype)
    run = Soak(out, load_backend(model, runtime), runtime, policy, {}, seed, pictures, scene)
    began, total = time.monotonic(), len(run.timeline.blocks)
    with Interruption() as asked:
        run.sit(lambda: asked.by is not None or (minutes is not None and time.monotonic() - began > 60 * minutes),
                _progress(run))
    if run.chapters:
        run.sheet()
    _print(run, json)
    if asked.by is not None and not run.done:
        raise Interrupted(f"stopped by {asked.by} after block {run.blocks} of {total}",
                          hint="Run the same command again to resume.")


def _progress(run: "Soak") -> Callable[[int, float], None]:
    """Prints progress now and then; called with the number of blocks rendered and the last one's milliseconds."""
    began = printed = time.monotonic()
    total, before = len(run.timeline.blocks), run.blocks

    def tell(blocks: int, milliseconds: float) -> None:
        nonlocal printed
        if time.monotonic() - printed > _EVERY:
            printed = time.monotonic()
            speed = (blocks - before) * run.timeline.geometry.block_pictures / (printed - began)
            print(f"{blocks / total:6.2%}  block {blocks:,} of {total:,}  {milliseconds:.0f} ms  "
                  f"{speed:.0f} pictures/s", file=sys.stderr, flush=True)

    return tell


def _print(run: "Soak", json: bool) -> None:
    from echo_cli.bench.soak import hours
    from echo_cli.text import or_dash, plural, size

    rows = hours(run.chapters)
    if json:
        print(json_text.dumps({"about": run.about, "sittings": run.sittings, "done": run.done, "hours": rows}))
        return
    made = run.timeline.geometry.pictures(run.blocks * run.timeline.geometry.block_frames)
    print(f"{run.about['model']}, {run.about['policy']}, {made:,} of {run.timeline.pictures:,} pictures, "
          f"{plural(run.sittings, 'sitting')}")
    print(f"{'hour':>4}{'block':>10}{'processor':>11}{'update':>8}{'memory':>10}{'resident':>10}"
          + "".join(f"{name:>{width}}" for name, width in (*_RIGHT, *_KEPT)) + f"{'tint':>7}{'same place':>12}")
    for row in rows:
        update = or_dash(row["update_share"], ".1%")
        rights = "".join(f"{or_dash(row[f'{name}_right'], '.0%'):>{width}}" for name, width in _RIGHT)
        kept = "".join(f"{row[f'{name}_kept']:>{width}.0%}" for name, width in _KEPT)
        print(
            f"{row['hour']:>4}{row['block_ms']:>7.1f} ms{row['processor_ms']:>8.1f} ms{update:>8}"
            f"{size(row['bytes']):>10}{size(row['resident']):>10}{rights}{kept}{row['colour_moved']:>7.3f}"
            f"{or_dash(row['same_place'], '.1f'):>9} dB"
        )
