"""`echo generate`: a storyboard becomes a film, its trace and its manifest."""

import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echo_cli.cli.options import (
    CheckpointEvery,
    Compiled,
    Crf,
    Debug,
    Decoder,
    Device,
    Dtype,
    Fast,
    Grace,
    LogFile,
    Memory,
    Model,
    Offloading,
    Preset,
    ProgressStyle,
    Quiet,
    Resume,
    Scale,
    Seed,
    Settings,
    Size,
    Subtitling,
    VideoCodec,
    check_running,
    picture_size,
)
from echo_cli.errors import UsageError
from echo_cli.models.running import Offload, Pictures, Running
from echo_cli.render.progress import Style, progress_of
from echo_cli.render.progress import size as said
from echo_cli.render.signals import GRACE
from echo_cli.trace.look import plural
from echo_cli.video.encoding import Encoding
from echo_cli.video.subtitles import Subtitles

if TYPE_CHECKING:
    from echo_cli.render.film import Made
    from echo_cli.render.job import Choices, Job


def generate(
    storyboard: Annotated[str, typer.Argument(metavar="STORYBOARD", help="A YAML file; - reads standard input.",
                                              show_default=False)],
    output: Annotated[str | None, typer.Option(
        "-o", "--output", metavar="OUT", show_default=False,
        help="film.mp4, a folder/, pictures as frames/%06d.png, or - for standard output. Left out, it is the "
             "storyboard's name here.")] = None,
    seed: Seed = None,
    model: Model = None,
    memory: Memory = None,
    settings: Settings = None,
    size: Size = None,
    scale: Scale = None,
    subtitles: Subtitling = None,
    crf: Crf = None,
    codec: VideoCodec = "libx264",
    preset: Preset = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    decoder: Decoder = Pictures.FULL,
    fast: Fast = False,
    offload: Offloading = Offload.AUTO,
    compiled: Compiled = None,
    force: Annotated[bool, typer.Option("--force", help="Make it anew over what is there.")] = False,
    resume: Resume = True,
    checkpoint_every: CheckpointEvery = None,
    grace: Grace = GRACE,
    log_file: LogFile = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and make nothing.")] = False,
    progress: ProgressStyle = Style.AUTO,
    quiet: Quiet = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say also how, and where the time went.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    debug: Debug = False,
) -> None:
    """Make the film of a storyboard: OUT.mp4, and beside it OUT.trace.json and OUT.manifest.json.

    A film whose manifest says that it was made from the same storyboard, weights and settings is skipped. Another film
    of that name is never overwritten without --force. A film that was interrupted goes on where it stopped, when it is
    asked for with the same settings.
    """
    _check_streams(output, progress, as_json)
    check_running(device, dtype)
    from contextlib import ExitStack
    from pathlib import Path

    from echo_cli.models.loaders import told_hash
    from echo_cli.models.registry import spec_named
    from echo_cli.render.decide import Keeping, Told, needed
    from echo_cli.render.job import Choices
    from echo_cli.render.log import Log, Logged
    from echo_cli.render.signals import Interruption

    with ExitStack() as stack:
        log = stack.enter_context(Log(Path(log_file))) if log_file else None
        if log:
            log.head(sys.argv)
        job = _job(storyboard, output, settings or [], Choices(
            seed, model, memory, {}, picture_size(size), scale, subtitles, Encoding(codec, crf, preset), device, dtype,
            Running(decoder, fast, offload, compiled)))
        if dry_run:
            _tell_plan(job, as_json)
            return
        teller = progress_of(progress, quiet)
        if log:
            log.settings(_logged(job))
            teller = Logged(teller, log)
        tell = (lambda text: None) if quiet else teller.say
        stack.enter_context(teller)
        interruption = stack.enter_context(Interruption(tell, grace))
        keeping = Keeping(checkpoint_every, not resume, tell)
        known = told_hash(job.storyboard.model)
        due = known is None or needed(job, Told(known), force, keeping)
        if due:
            from echo_cli.models.loaders import load_backend
            from echo_cli.render import budget as room
            from echo_cli.render.film import make
            from echo_cli.runtime import Runtime

            runtime = Runtime.choose(job.device, job.dtype)
            running, need = room.choose(job, spec_named(job.storyboard.model), runtime, job.running)
            if need:
                tell(need)
            backend = load_backend(job.storyboard.model, runtime, running)
            due = backend.weights_hash == known or needed(job, backend, force, keeping)
        if not due:
            tell(
                f"{job.outputs.film.path} is there already, made from the same storyboard, weights and settings: "
                "skipped"
            )
            _print_result({"status": "skipped", "film": str(job.outputs.film.path)}, job, as_json)
            return
        _warn_of_unknown_words(job, backend.text, tell)
        if verbose:
            tell(_plan(job) + f", on {runtime.device} in {runtime.dtype}")
        interruption.check("before the first block")
        made = make(job, backend, runtime, teller, interruption, keeping)
        _tell_made(job, made, verbose, tell)
    _print_result(
        {
            "status": "made",
            "film": str(job.outputs.film.path),
            "pictures": made.pictures,
            "seconds": made.seconds,
            "wall_seconds": round(made.wall_seconds, 3),
            "sittings": made.sittings,
            "checkpoints": {
                "count": made.kept.checkpoints,
                "bytes": made.kept.bytes,
                "most_bytes": made.kept.bound,
                "seconds": round(made.kept.seconds, 3),
            },
            "outputs": {
                what: {"path": str(written.path), "sha256": written.sha256, "bytes": written.bytes}
                for what, written in made.outputs.items()
            },
        },
        job,
        as_json,
    )


def _tell_made(job: "Job", made: "Made", verbose: bool, tell: Callable[[str], None]) -> None:
    rate = made.pictures / made.wall_seconds
    tell(f"{job.outputs.film.path}: {made.pictures} pictures, {made.seconds:g} s of film in {made.wall_seconds:.1f} s "
         f"({rate:.1f} pictures/s)")
    if verbose and made.kept.checkpoints:
        kept = made.kept
        tell(f"checkpoints: {kept.checkpoints}, of {said(kept.bytes)} at most (never more than {said(kept.bound)}), "
             f"in {kept.seconds:.2f} s")
    if verbose:
        tell("time: " + ", ".join(f"{part} {spent / 1000:.1f} s" for part, spent in made.times._asdict().items()))
        for what, written in made.outputs.items():
            tell(f"{what}: {written.path}, {said(written.bytes)}, sha256 {written.sha256}")


def _logged(job: "Job") -> dict[str, Any]:
    """What a log says of the film before it is made."""
    return {"film": job.outputs.film.path, "storyboard": job.storyboard.source, "device": job.device,
            **job.identity("").plain()["settings"], "seed": job.storyboard.seed}


def _check_streams(output: str | None, progress: Style, as_json: bool) -> None:
    """Standard output has room for one thing: the film, the JSON object, or Open Job Description's lines."""
    wanted = [name for name, asked in (("-o -", output == "-"), ("--json", as_json),
                                       ("--progress openjd", progress is Style.OPENJD)) if asked]
    if len(wanted) > 1:
        raise UsageError(f"{' and '.join(wanted)} all write to standard output", "use one of them")
    if output == "-" and sys.stdout.isatty():
        raise UsageError("-o - would write the film to the terminal",
                         "pipe it into a player (| ffplay -), or name a file with -o")


def _job(source: str, output: str | None, assignments: list[str], choices: "Choices") -> "Job":
    """The film that the storyboard and the command line describe, checked without loading a model."""
    from pathlib import Path

    from echo_cli.render.outputs import outputs_of
    from echo_cli.render.prepare import chosen_storyboard, job_for
    from echo_cli.storyboard.document import STDIN

    board, spec, choices = chosen_storyboard(source, assignments, choices)
    return job_for(board, spec, outputs_of(output, "film" if source == STDIN else Path(source).stem), choices)


def _plan(job: "Job") -> str:
    width, height = (side * job.scale for side in job.size)
    enlarged = f" (made at {job.size[0]}x{job.size[1]}, enlarged {job.scale} times)" if job.scale > 1 else ""
    geometry = job.timeline.geometry
    return (
        f"{job.outputs.film.path}: {job.timeline.pictures} pictures of {width}x{height}{enlarged} at "
        f"{geometry.fps:g} fps, {job.timeline.pictures / geometry.fps:g} s in "
        f"{plural(len(job.timeline.spans), 'scene')} and {plural(len(job.timeline.blocks), 'block')}; "
        f"model {job.storyboard.model}, memory {job.policy}, seed {job.storyboard.seed}, subtitles {job.subtitles}"
    )


def _tell_plan(job: "Job", as_json: bool) -> None:
    """What would be made, and what stands in its way; nothing is loaded and nothing written."""
    from echo_cli.render.resume import Work

    there = [str(path) for path in job.outputs.existing()]
    left = Work(job.outputs).read() if job.outputs.base else None
    if as_json:
        identity = job.identity("").plain()
        print(
            json.dumps(
                {
                    "status": "planned",
                    "film": str(job.outputs.film.path),
                    "existing": there,
                    "interrupted": left and {"block": left.block, "blocks": left.blocks},
                    "pictures": job.timeline.pictures,
                    "seconds": job.timeline.pictures / job.timeline.geometry.fps,
                    "blocks": len(job.timeline.blocks),
                    "seed": job.storyboard.seed,
                    "storyboard": identity["storyboard"],
                    "settings": identity["settings"],
                },
                ensure_ascii=False,
            )
        )
        return
    print(_plan(job))
    for path in job.outputs.companions:
        if path != job.outputs.subtitles or job.subtitles is Subtitles.SRT:
            print(f"beside it {path.name}")
    if left:
        print(f"interrupted after {left.told}: goes on from there, if it is the same film")
    if there:
        print(f"already there: {', '.join(there[:3])}{' …' if len(there) > 3 else ''}; skipped if it is the same film, "
              "else --force is needed")


def _warn_of_unknown_words(job: "Job", text: Any, tell: Any) -> None:
    unknown = list(dict.fromkeys(word for scene in job.storyboard.scenes for word in text.unknown_words(scene.prompt)))
    if unknown:
        from echo_cli.models.tiny.words import TABLES

        shown = ", ".join(unknown[:12]) + (f" and {len(unknown) - 12} more" if len(unknown) > 12 else "")
        tell(f"warning: {job.storyboard.model} has never met these words and will not show them: {shown}; it knows\n"
             + "\n".join(f"         {what}: {', '.join(known)}" for what, known in TABLES.items())
             + f"\n         and many words for each of these: echo-cli models info {job.storyboard.model}")


def _print_result(result: dict[str, Any], job: "Job", as_json: bool) -> None:
    from echo_cli.video.target import Stdout

    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    elif not isinstance(job.outputs.film, Stdout) and not sys.stdout.isatty():  # on a terminal it has been told already
        print(job.outputs.film.path)
