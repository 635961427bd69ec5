"""`train`: the embedded model from nothing, or from where an earlier run stopped."""

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli.options import Debug, Device
from echo_cli.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from echo_cli.runtime import Runtime
    from echo_cli.training.loop import Progress

_EVERY = 10.0  # seconds between lines
_GRACE = 180.0  # seconds that a signal waits for the current step, or the end of a stage


class Stage(StrEnum):
    codec = "codec"
    pool = "pool"
    teacher = "teacher"
    polish = "polish"
    distill = "distill"
    steady = "steady"
    decoder = "decoder"
    motion = "motion"
    memory = "memory"
    eye = "eye"


Out = Annotated[Path | None, typer.Option(
    "--out", "-o", metavar="FOLDER", show_default=False,
    help="Run folder; an interrupted run is resumed. Without it, nothing is trained: the command says "
    "what it would do, and exits with 2.")]
Only = Annotated[Stage | None, typer.Option(
    help="Only this stage. Without it: all, in order, skipping what is done.")]
Memory = Annotated[str | None, typer.Option(
    metavar="POLICY", help="Train only what a memory learns: echo-infinity, whose queries are trained for the weights "
    "in the folder, or else the package's own.")]
Preset = Annotated[str, typer.Option(help="The size of the run: cpu, gpu or mini; auto depends on the device.")]
Computed = Annotated[str, typer.Option(
    help="The type to compute in: bfloat16, float32 or auto (bfloat16 on a GPU, else float32).")]
Seed = Annotated[int, typer.Option(min=0, max=65535, help="The same seed gives the same losses.")]
Minutes = Annotated[list[str] | None, typer.Option(
    metavar="STAGE=M", help="End a stage after M minutes; may be repeated.")]
From = Annotated[str | None, typer.Option(
    "--from", metavar="FOLDER", show_default=False,
    help="Start from the weights in this folder, or from the package's with `tiny`: their codec is kept, and their "
    "transformer takes the place of the teacher. With --stage decoder or motion, only their decoder learns.")]
Judge = Annotated[bool, typer.Option(
    "--report", help="Judge the weights in the folder, or the package's, instead of training.")]
Stories = Annotated[int, typer.Option(min=4, help="With --report: number of held-out stories to judge.")]


def train(
    out: Out = None,
    stage: Only = None,
    memory: Memory = None,
    preset: Preset = "auto",
    device: Device = "auto",
    dtype: Computed = "auto",
    seed: Seed = 1,
    minutes: Minutes = None,
    start: From = None,
    report: Judge = False,
    stories: Stories = 50,
    debug: Debug = False,
) -> None:
    """Train the embedded model `tiny`, reproducibly, stage by stage. Stop it at any time; the same command resumes."""
    from echo_cli.render.signals import Interruption
    from echo_cli.runtime import Runtime
    from echo_cli.training.course import STAGES, Course, Watch

    if report:
        return _report(device, out, stories)
    runtime = Runtime.choose(device, dtype)
    chosen = _preset(preset, runtime)
    stages = (_stage_of(memory),) if memory is not None else STAGES if stage is None else (stage.value,)
    limits, known = _minutes(minutes or [], STAGES), None if start is None else _weights(start)
    if out is None:
        raise _not_begun(chosen, stages)
    _make_folder(out)
    with Interruption(_stopping, _GRACE) as asked:
        course = Course(out, chosen, seed, runtime, Watch(_Lines(), lambda: asked.by is not None), limits, known)
        for name in stages:
            if not course.stage(name):
                raise Interrupted(f"stopped by {asked.by} during stage {name}",
                                  hint="Run the same command again to resume.")
            _show_done(out, name)
    print(course.weights)


def _preset(preset: str, runtime: "Runtime") -> str:
    from echo_cli.training.course import PRESETS

    chosen = ("gpu" if runtime.device.type == "cuda" else "cpu") if preset == "auto" else preset
    if chosen not in PRESETS:
        raise UsageError(f"no preset is called '{preset}'", hint=f"Use auto, {', '.join(PRESETS)}.")
    return chosen


def _weights(start: str) -> Path:
    """The folder of the weights that training starts from."""
    from echo_cli.models.tiny.parts import WEIGHTS
    from echo_cli.spec import INDEX, TINY

    folder = WEIGHTS if start == TINY.name else Path(start)
    if not (folder / INDEX).is_file():
        raise UsageError(f"{folder}: there are no weights of {TINY.name} in this folder",
                         hint=f"Use {TINY.name}, or the folder `weights` of a run.")
    return folder


def _stage_of(memory: str) -> str:
    """The stage that trains what a memory learns."""
    from echo_cli.training.remember import NAME

    if memory != NAME:
        raise UsageError(f"'{memory}' has nothing to learn", hint=f"The memory that can be trained is {NAME}.")
    return Stage.memory.value


def _show_done(out: Path, stage: str) -> None:
    """Reports that a stage is done, and how its losses fell."""
    from echo_cli.training.chart import curve, losses

    print(f"{stage}: done", file=sys.stderr)
    if (out / f"{stage}.csv").exists():
        print("\n".join(curve(losses(out / f"{stage}.csv"))), file=sys.stderr)


def _report(device: str, out: Path | None, stories: int) -> None:
    """Judges the weights in the folder, or the package's own; without a folder, no sheets of films are kept."""
    from tempfile import TemporaryDirectory

    from echo_cli.bench.trained import report
    from echo_cli.models.tiny.model import load, save_measured
    from echo_cli.models.tiny.parts import WEIGHTS
    from echo_cli.runtime import Runtime
    from echo_cli.spec import INDEX

    runtime = Runtime.choose(device, "float32")
    if out is not None:
        _make_folder(out)
    own = out / "weights" if out and (out / "weights" / INDEX).exists() else None
    with TemporaryDirectory() as nowhere:
        sheets = (out or Path(nowhere)) / "report"
        figures = report(load(runtime, own or WEIGHTS), sheets, stories,
                         lambda line: print(line, file=sys.stderr, flush=True))
    if own:
        save_measured(own, figures)
    print(json.dumps(figures))


_DURATIONS = {
    "cpu": "With --dtype bfloat16, the whole run took 3 hours on one core without the stages steady and motion, which "
           "take about two hours and a half",
    "gpu": "The whole run is several times the work of the preset cpu, which took 3 hours on one core",
    "mini": "The whole run takes about a minute, and its weights are useless",
}


def _not_begun(preset: str, stages: tuple[str, ...]) -> UsageError:
    """What would be done and how long it takes, when no folder is named."""
    return UsageError(f"""\
Nothing was done: training needs a folder to write to.
train would train the embedded model 'tiny' with the preset {preset}, a stage at a time: {", ".join(stages)}
{_DURATIONS[preset]}. Its folder grows to a few gigabytes.""", hint="Name that folder: echo-cli train --out FOLDER.")


def _make_folder(out: Path) -> None:
    """The folder of the run; an OutputError if it holds anything that training did not write."""
    from echo_cli.files import make_folder
    from echo_cli.models.tiny.parts import EXTRAS, PARTS
    from echo_cli.spec import INDEX

    of_stages = (stage + ending for stage in Stage for ending in (".csv", ".pt", ".png"))
    ours = {"weights", "pool", "eye", "report", *of_stages}
    make_folder(out, ours.__contains__, "training")
    if (out / "weights").exists():
        parts = {INDEX, *(f"{part}.safetensors" for part in (*PARTS, *EXTRAS))}
        make_folder(out / "weights", parts.__contains__, "training")


def _minutes(said: list[str], stages: tuple[str, ...]) -> dict[str, float]:
    minutes = {}
    for one in said:
        name, equals, number = one.partition("=")
        try:
            minutes[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or name not in stages or not minutes[name] > 0:
            raise UsageError(f"--minutes {one}: not a stage and its minutes",
                             hint=f"Write it as in --minutes teacher=55. The stages are {', '.join(stages)}.")
    return minutes


def _stopping(_said: str) -> None:
    print(f"stopping after this step, within {_GRACE:g} seconds; a second signal stops it", file=sys.stderr, flush=True)


class _Lines:
    """One plain line every few seconds."""

    def __init__(self) -> None:
        self._printed, self._stage = 0.0, ""
        self._means: dict[str, float] = {}

    def __call__(self, progress: "Progress") -> None:
        if progress.stage != self._stage:
            self._printed, self._stage, self._means = 0.0, progress.stage, {}
        for name, value in progress.losses.items():
            self._means[name] = value if name not in self._means else 0.95 * self._means[name] + 0.05 * value
        if time.monotonic() - self._printed < _EVERY:
            return
        self._printed = time.monotonic()
        figures = "  ".join(f"{name} {value:.4g}" for name, value in self._means.items())
        print(
            f"{progress.stage} {progress.spent:5.1%}  step {progress.step}  {progress.seconds / 60:.1f} min  {figures}",
            file=sys.stderr,
            flush=True,
        )
