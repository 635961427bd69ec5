"""`echo generate`: a storyboard becomes a film, its trace and its manifest."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from echo_cli.cli.messages import began
from echo_cli.cli.options import Answer, Given, Place, takes
from echo_cli.cli.prompt import Prompt
from echo_cli.cli.streams import closed_output
from echo_cli.errors import UsageError
from echo_cli.render.assignments import assignments
from echo_cli.render.options import Field, Option, Options, Panel
from echo_cli.render.progress import Progress, Style, progress_of
from echo_cli.render.request import Request
from echo_cli.text import listed, plural, size
from echo_cli.video.subtitles import Subtitles

if TYPE_CHECKING:
    from echo_cli.render.job import Job
    from echo_cli.render.made import Made
    from echo_cli.render.session import Loaded
    from echo_cli.runtime import Runtime


@dataclass(frozen=True, kw_only=True)
class Rehearsal(Options):
    """Whether the film is made at all."""

    dry_run: Annotated[bool, Option(
        help="Print what would be rendered, without rendering it.", panel=Panel.OUTPUT)] = False
    show_settings: Annotated[bool, Option(
        help="Print every option's value and who decided it, and make nothing.", panel=Panel.OUTPUT)] = False


@dataclass(frozen=True, kw_only=True)
class Afterwards(Options):
    """What happens to the film once it is there."""

    open: Annotated[bool, Option(
        help="Show the film and its report in the browser; the report is written beside it.",
        panel=Panel.OUTPUT)] = False

    def write_report(self, job: "Job") -> Path | None:
        """The film's report, if it is wanted."""
        from echo_cli.cli.show import write_report

        return write_report(job.outputs.trace) if self.open and job.outputs.trace else None


@takes(Request, Prompt, Rehearsal, Afterwards, Place, Answer, Given)
def generate(asked: Request, prompt: Prompt, rehearsal: Rehearsal, afterwards: Afterwards, place: Place,
             answer: Answer, given: Given) -> None:
    """Render the film of a storyboard: OUT.mp4, and beside it OUT.trace.json and OUT.manifest.json.

    A film whose manifest matches is skipped. An earlier version of it is replaced, and reused as far as both agree; any
    other film is never overwritten without --force. An interrupted film is resumed if the settings are the same.

    Variables such as ECHO_DEVICE and a file echo.toml give options other defaults; --show-settings shows them.
    """
    request = prompt.of(asked)
    _check_streams(request, answer.as_json, afterwards.open)
    from contextlib import ExitStack

    from echo_cli.render.log import open_log
    from echo_cli.render.prepare import prepare
    from echo_cli.render.session import Session
    from echo_cli.render.signals import Interruption

    with ExitStack() as stack:
        log = open_log(request.log_file, sys.argv)
        stack.enter_context(log)
        job = prepare(request, given.defaults)
        if rehearsal.show_settings:
            _print_settings(job, given, answer.as_json)
            return
        if rehearsal.dry_run:
            _print_plan(job, place.here, answer.as_json)
            return
        log.settings({"film": job.outputs.film.path, "storyboard": job.storyboard.source, **dict(job.options)})
        teller = stack.enter_context(log.hearing(progress_of(Style(request.progress), request.quiet)))
        interruption = stack.enter_context(Interruption(teller.say, request.grace))
        made = Session().make(job, teller, interruption, lambda loaded: _announce(job, loaded, teller),
                              began())
        if made:
            _report(job, made, teller)
        else:
            teller.say(f"{job.outputs.film.path} is there already, made from the same storyboard, weights and "
                       "settings: skipped")
        report = afterwards.write_report(job)
    _print_result(job, _result(job, made), report, answer.as_json)


def _result(job: "Job", made: "Made | None") -> dict[str, Any]:
    """What `--json` prints."""
    if made is None:
        return {"status": "skipped", "film": str(job.outputs.film.path)}
    return {
        "status": "made",
        "film": str(job.outputs.film.path),
        "pictures": made.pictures,
        "seconds": made.seconds,
        "wall_seconds": round(made.wall_seconds, 3),
        "sitting_seconds": round(made.sitting_seconds, 3),
        "loading_seconds": round(made.loading_seconds, 3),
        "sittings": made.sittings,
        "reused_blocks": made.reused,
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
    }


def _announce(job: "Job", loaded: "Loaded", teller: Progress) -> None:
    """What is printed before the first block."""
    from echo_cli.render.checks import warnings

    for warning in (*job.notes, *warnings(job.storyboard, loaded.backend.spec, job.policy)):
        teller.say(f"warning: {warning}")
    if unknown := loaded.unknown_words(job):
        from echo_cli.models.tiny.words import TABLES

        teller.say(f"warning: {job.model} does not know these words and will not show them: {listed(unknown)}; "
                   "it knows\n"
                   + "\n".join(f"         {what}: {', '.join(known)}" for what, known in TABLES.items())
                   + f"\n         and many words for each of these: echo-cli models info {job.model}")
    if job.request.verbose:
        runtime = loaded.runtime
        teller.say(f"{_plan(job)}, on {runtime.device} in {runtime.dtype}{_attention(runtime)}")
        if job.running.fast:
            teller.say(_fast(job, loaded))


def _attention(runtime: "Runtime") -> str:
    """Which attention kernel a GPU uses, or why not the fastest."""
    if runtime.device.type != "cuda":
        return ""
    from echo_cli.models.tuning import flash_attention_3

    return f"; attention: {flash_attention_3(runtime.device, runtime.dtype)[1]}"


def _fast(job: "Job", loaded: "Loaded") -> str:
    """What --fast computes in eight bits beside the linear layers, and why no more."""
    from echo_cli.models.files.eight_bits import measured
    from echo_cli.models.registry import find
    from echo_cli.models.tuning import eight_bit_layers

    near = measured(find(job.model).folder, job.spec.depth, loaded.backend.weights_hash)
    words = eight_bit_layers(near, loaded.runtime.device, loaded.runtime.dtype)[2]
    return f"fast: linear layers are in eight bits; {words}"


def _report(job: "Job", made: "Made", teller: Progress) -> None:
    before = [f"{plural(made.reused, 'block')} reused"] if made.reused else []
    if made.sittings > 1:
        before.append(f"{made.wall_seconds:.1f} s with the sittings before")
    teller.say(f"{job.outputs.film.path}: {plural(made.pictures, 'picture')}, {made.seconds:g} s of film in "
               f"{made.sitting_seconds:.1f} s, {made.loading_seconds:.1f} s of it loading; "
               + (", ".join(before) or f"{made.pictures / made.wall_seconds:.1f} pictures/s"))
    if not job.request.verbose:
        return
    kept = made.kept
    if kept.checkpoints:
        teller.say(f"checkpoints: {kept.checkpoints}, of {size(kept.bytes)} at most (never more than "
                   f"{size(kept.bound)}), in {kept.seconds:.2f} s")
    whose = "time of all blocks, earlier ones too: " if before else "time: "
    teller.say(whose + ", ".join(f"{part} {spent / 1000:.1f} s" for part, spent in made.times._asdict().items()))
    for what, written in made.outputs.items():
        teller.say(f"{what}: {written.path}, {size(written.bytes)}, sha256 {written.sha256}")


def _check_streams(request: Request, as_json: bool, opens: bool) -> None:
    """Standard output can take one thing: the film, the JSON object, or Open Job Description's lines."""
    streamed = request.output == "-"
    wanted = [name for name, asked in (("-o -", streamed), ("--json", as_json),
                                       ("--progress openjd", request.progress == "openjd")) if asked]
    if len(wanted) > 1:
        raise UsageError(f"{' and '.join(wanted)} {'both' if len(wanted) == 2 else 'all'} write to standard output",
                         "Use one of them.")
    if wanted and sys.stdout.closed:
        raise closed_output()
    if streamed and opens:
        raise UsageError("a film on standard output cannot be opened", "Name a file with -o, or leave out --open.")
    if streamed and sys.stdout.isatty():
        raise UsageError("-o - would write the film to the terminal",
                         "Pipe it into a player (| ffplay -), or name a file with -o.")


def _plan(job: "Job") -> str:
    width, height = (side * job.scale for side in job.size)
    made, drawn = ("x".join(map(str, size)) for size in (job.size, job.decoded))
    decoder = f"; the decoder draws {drawn}" if drawn != made else ""
    enlarged = f" (made at {made}, enlarged {job.scale} times{decoder})" if job.enlarged > 1 else ""
    geometry = job.timeline.geometry
    generator = f" with the generator {job.generator_file.name}" if job.generator_file else ""
    return (
        f"{job.outputs.film.path}: {plural(job.timeline.pictures, 'picture')} of {width}x{height}{enlarged} at "
        f"{geometry.fps:g} fps, {job.timeline.pictures / geometry.fps:g} s in "
        f"{plural(len(job.timeline.spans), 'scene')} and {plural(len(job.timeline.blocks), 'block')}; "
        f"model {job.model}{generator}, memory {job.policy}, seed {job.seed}, subtitles {job.subtitles}"
    )


def _print_settings(job: "Job", given: Given, as_json: bool) -> None:
    """Every option with its value, and who decided it."""
    decided = {**dict(job.options), "memory": job.policy, "settings": assignments(job.storyboard.memory),
               "output": str(job.outputs.film.path)}
    rows = [(field, decided[field.name], given.source(field, job.origins)) for field, _ in job.request.values()
            if not field.option.argument]
    if as_json:
        print(json.dumps({field.name: {"value": value, "source": source} for field, value, source in rows}))
        return
    if job.request.quiet:
        return
    printable = [(field.name, _shown(field, value), source) for field, value, source in rows]
    widths = [max(map(len, column)) for column in zip(*printable, strict=True)]
    for name, value, source in printable:
        print(f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}")


def _shown(field: Field, value: Any) -> str:
    """A value as `echo.toml` would have it; a dash where nothing was decided."""
    if value is None or value == ():
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    return " ".join(value) if field.repeats else field.option.write(value) if field.option.text else str(value)


def _print_plan(job: "Job", here: bool | None, as_json: bool) -> None:
    """What would be made, and what stands in its way; nothing is loaded and nothing written."""
    from echo_cli.render.checks import Machine, kept_bytes, refuse_here, warnings_of
    from echo_cli.render.foresight import foresee
    from echo_cli.render.resume import Work
    from echo_cli.render.session import Session

    machine, spec = Machine(small=True), job.spec
    doubts = [] if here is False else refuse_here(machine.problems(job), here)
    doubts = [*warnings_of(job), *doubts]
    there, (reuse, refusal) = [str(path) for path in job.outputs.existing()], foresee(job, Session())
    planned = _planned(job)
    if here and refusal:
        raise refusal
    left = Work(job.outputs).read() if job.outputs.base else None
    if as_json:
        print(json.dumps({**planned, "existing": there, "reuse": reuse,
                          "refused": refusal and refusal.message,
                          "interrupted": left and {"block": left.block, "blocks": left.blocks},
                          "memory": machine.memory(job), "warnings": doubts}))
        return
    if job.request.quiet:
        return
    print(_plan(job))
    for path in job.outputs.companions:
        if path != job.outputs.subtitles or job.subtitles is Subtitles.SRT:
            large = f", at least {size(kept_bytes(job, spec))}" if path == job.outputs.scenes else ""
            print(f"beside it {path.name}{large}")
    if need := machine.memory(job):
        print(need)
    if left:
        print(f"interrupted after {left.progress}: will be resumed from there, if it is the same film")
    if refusal:
        print(f"already there: {refusal.message}. {refusal.hint}")
    elif reuse or there:
        print(reuse or f"already there: {', '.join(there[:3])}{' …' if len(there) > 3 else ''}; skipped if it is the "
                       "same film, replaced if it is an earlier version, else --force is needed")
    teller = progress_of(Style(job.request.progress))
    for doubt in doubts:
        teller.say(f"warning: {doubt}")


def _planned(job: "Job") -> dict[str, Any]:
    identity = job.identity("").plain()
    return {
        "status": "planned",
        "film": str(job.outputs.film.path),
        "pictures": job.timeline.pictures,
        "seconds": job.timeline.pictures / job.timeline.geometry.fps,
        "blocks": len(job.timeline.blocks),
        "seed": job.seed,
        "storyboard": identity["storyboard"],
        "settings": identity["settings"],
    }


def _print_result(job: "Job", result: dict[str, Any], report: Path | None, as_json: bool) -> None:
    from echo_cli.cli.show import show
    from echo_cli.video.target import Stdout

    opened = report is not None and show(report)
    if as_json:
        more = {"report": str(report), "opened": opened} if report else {}
        print(json.dumps({**result, **more}))
    elif not (job.request.quiet or isinstance(job.outputs.film, Stdout)):
        if not sys.stdout.isatty():  # a terminal shows it already
            print(job.outputs.film.path)
        if report:
            print(report)
