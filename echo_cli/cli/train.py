"""`echo train`: the embedded model from nothing, or from where an earlier run stopped."""

import json
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from echo_cli.cli.options import Debug
from echo_cli.errors import Interrupted, UsageError

if TYPE_CHECKING:
    from echo_cli.training.loop import Progress

_EVERY = 10.0  # seconds between lines
_GRACE = 180.0  # seconds that a signal waits for the step, or the end of a stage, that is in progress


class Stage(StrEnum):
    codec = "codec"
    pool = "pool"
    teacher = "teacher"
    polish = "polish"
    distill = "distill"
    memory = "memory"
    eye = "eye"


def train(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder of the run; one that exists is gone on with.")
    ] = Path("tiny-training"),
    stage: Annotated[
        Stage | None, typer.Option(help="Only this stage. Without it: all, in order, skipping what is done.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="Only what a memory policy learns: echo-infinity, whose queries are trained for the weights in "
            "the folder, or else the package's own.",
        ),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="How large the run is: cpu, gpu or mini; auto goes by the device.")
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="What training computes in: bfloat16, float32, or auto: bfloat16 on a GPU alone.")
    ] = "auto",
    seed: Annotated[
        int, typer.Option(min=0, max=65535, help="Decides the run: the same seed gives the same losses.")
    ] = 1,
    minutes: Annotated[
        list[str] | None, typer.Option(metavar="STAGE=M", help="End a stage after so many minutes; may be repeated.")
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Train nothing: judge the weights in the folder, or the package's own.")
    ] = False,
    stories: Annotated[int, typer.Option(min=4, help="With --report: how many held-out stories are judged.")] = 50,
    debug: Debug = False,
) -> None:
    """Train the embedded model `tiny`, reproducibly, a stage at a time; stop whenever you like and run it again to go
    on."""
    from echo_cli.files import told_as_output
    from echo_cli.render.signals import Interruption
    from echo_cli.runtime import Runtime
    from echo_cli.training.chart import curve, losses
    from echo_cli.training.course import PRESETS, STAGES, Course, Watch

    if report:
        from echo_cli.bench.trained import report as judged
        from echo_cli.models.tiny.model import INDEX, WEIGHTS, load, save_measured

        runtime = Runtime.choose(device, "float32")
        with told_as_output(out):
            out.mkdir(parents=True, exist_ok=True)
        own = out / "weights"
        trained = (own / INDEX).exists()
        backend = load(runtime, own if trained else WEIGHTS)
        figures = judged(backend, out / "report", stories, lambda line: print(line, file=sys.stderr, flush=True))
        if trained:
            save_measured(own, figures)
        print(json.dumps(figures))
        return
    runtime = Runtime.choose(device, dtype)
    chosen = ("gpu" if runtime.device.type == "cuda" else "cpu") if preset == "auto" else preset
    if chosen not in PRESETS:
        raise UsageError(f"no preset is called '{preset}'", hint=f"Use auto, {', '.join(PRESETS)}.")
    if memory is not None:
        from echo_cli.training.remember import NAME

        if memory != NAME:
            raise UsageError(f"'{memory}' has nothing to learn", hint=f"The memory policy that learns is {NAME}.")
        stage = Stage.memory
    limits = _minutes(minutes or [], STAGES)
    with told_as_output(out):
        out.mkdir(parents=True, exist_ok=True)
    with Interruption(_stopping, _GRACE) as asked:
        course = Course(out, chosen, seed, runtime, Watch(_Lines(), lambda: asked.by is not None), limits)
        for name in STAGES if stage is None else (stage.value,):
            if not course.stage(name):
                raise Interrupted(
                    f"stopped by {asked.by} during stage {name}", hint="Run the same command again to go on."
                )
            print(f"{name}: done", file=sys.stderr)
            if (out / f"{name}.csv").exists():
                print("\n".join(curve(losses(out / f"{name}.csv"))), file=sys.stderr)
    print(course.weights)


def _minutes(said: list[str], stages: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for one in said:
        name, equals, number = one.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not equals or name not in stages or not found[name] > 0:
            raise UsageError(f"--minutes {one}: not a stage and its minutes",
                             hint=f"For example --minutes teacher=55; stages: {', '.join(stages)}.")
    return found


def _stopping(_said: str) -> None:
    print(f"stopping after this step, within {_GRACE:g} seconds; once more stops at once", file=sys.stderr, flush=True)


class _Lines:
    """One plain line a few seconds apart."""

    def __init__(self) -> None:
        self._told, self._stage = 0.0, ""
        self._means: dict[str, float] = {}

    def __call__(self, progress: "Progress") -> None:
        if progress.stage != self._stage:
            self._told, self._stage, self._means = 0.0, progress.stage, {}
        for name, value in progress.losses.items():
            self._means[name] = value if name not in self._means else 0.95 * self._means[name] + 0.05 * value
        if time.monotonic() - self._told < _EVERY:
            return
        self._told = time.monotonic()
        figures = "  ".join(f"{name} {value:.4g}" for name, value in self._means.items())
        print(
            f"{progress.stage} {progress.spent:5.1%}  step {progress.step}  {progress.seconds / 60:.1f} min  {figures}",
            file=sys.stderr,
            flush=True,
        )
