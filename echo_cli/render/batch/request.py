"""Every option of a batch: those of its films, and how the batch itself runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from echo_cli.render.options import Option, Panel, fields_of, joined
from echo_cli.render.request import FilmOptions, KeptStates, Request


@dataclass(frozen=True, kw_only=True)
class BatchRequest(FilmOptions):
    """Many films with the same options."""

    keep_states: KeptStates = "none"
    paths: Annotated[Sequence[str], Option(
        help="Storyboards, folders of them, globs; - reads a list from standard input.", panel=Panel.STORYBOARD,
        argument=True, metavar="PATHS", read=tuple)] = ()
    shard: Annotated[str | None, Option(
        help="Render only this share of the list, such as 2/5; auto asks the scheduler (Slurm, OpenCue, AWS Batch).",
        panel=Panel.STORYBOARD, metavar="I/N")] = None
    out_dir: Annotated[str, Option(
        help="Folder for the films.", panel=Panel.OUTPUT, metavar="FOLDER", beside=joined)] = "."
    name: Annotated[str, Option(
        help="Name of each film, made of {stem}, {folder}, {seed}, {model}, {memory}, {hash}.", panel=Panel.OUTPUT,
        metavar="NAME")] = "{stem}"
    plan: Annotated[bool, Option(
        help="Print one command per film, for farms that schedule commands.", panel=Panel.OUTPUT)] = False
    fail_fast: Annotated[bool, Option(
        help="Stop at the first failure; storyboards with mistakes are all reported.",
        panel=Panel.INTERRUPTION)] = False
    retries: Annotated[int, Option(
        help="Retry a film up to N times after a failure that may be temporary.", panel=Panel.INTERRUPTION,
        metavar="N", least=0)] = 0
    engine: Annotated[Literal["local", "ray"], Option(
        help="local: one process; ray: an actor for each GPU of a cluster.", panel=Panel.MACHINE)] = "local"
    address: Annotated[str | None, Option(
        help="Address of the Ray cluster; by default, RAY_ADDRESS, or a local cluster that is started and stopped "
             "again.", panel=Panel.MACHINE, metavar="HOST:PORT")] = None
    actors: Annotated[int | None, Option(
        help="Number of Ray actors; by default, as many as fit.", panel=Panel.MACHINE, metavar="N",
        least=1)] = None
    cpus_per_actor: Annotated[int | None, Option(
        help="CPUs of each Ray actor.", panel=Panel.MACHINE, metavar="N", least=1, unset="4 at most")] = None

    def film(self, storyboard: str, output: str | Path | None = None) -> Request:
        """The request for one of its films."""
        options = {field.name: getattr(self, field.name) for field in fields_of(FilmOptions)}
        return Request(storyboard, output, **options)
