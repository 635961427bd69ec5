"""Whether a film survives interruptions: many runs are interrupted at random moments, resumed, and compared.

Every run is a process of its own and the real command. An interrupted film must have no incomplete file under a final
name, and the finished film must be the file of an uninterrupted run, byte for byte.
"""

import json
import multiprocessing
import random
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from echo_cli.errors import EchoError
from echo_cli.files import sha256
from echo_cli.render.outputs import Outputs, outputs_of
from echo_cli.render.resume import Work
from echo_cli.spec import RANDOM_SMALL
from echo_cli.text import plural
from echo_cli.trace.reader import read_trace

if TYPE_CHECKING:
    from echo_cli.bench.victim import Blow, Command

STORY = """
version: 1
seed: 5
scenes:
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 12s, subtitle: Meadow}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 8s}
  - id: again
    transition: "recall:meadow"
    prompt: the red ball in the meadow at night
    duration: 11s
    subtitle: Again
"""
# For each moment: how often it occurs at most, and how many seconds it lasts.
MOMENTS_OF = {"block": (42, 0.03), "checkpoint": (4, 0.05), "join": (1, 0.08), "naming": (1, 0.004)}
EVERY = 0.3  # seconds between checkpoints
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGUSR1")
SHAPES = ("film.mp4", "film.mp4", "frames/%06d.png", "frames/%d.jpg")
AGAIN = 0.35  # share of interrupted films that are interrupted again before they finish


@dataclass(frozen=True, slots=True)
class Strike:
    """One interruption. `code` is the exit code of the process (a signal's number below zero), `kept` its checkpoint,
    `whole` whether every file under a final name was complete; `same` whether the finished film equals the
    uninterrupted one, None if it was interrupted again first."""

    film: int
    shape: str
    signal: str
    moment: str
    code: int
    kept: str | None
    whole: bool
    same: bool | None
    output: str


def measure(run: "Command", interruptions: int, seed: int, model: str = RANDOM_SMALL.name) -> Iterator[Strike]:
    """Interrupts processes in which `run` runs a command line, and yields each interruption. The same seed chooses the
    same moments, as far as clocks allow."""
    from echo_cli.bench.victim import Blow

    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="echo-faults-") as place:
        studio = _Studio(Path(place), run, model)
        models = {shape: studio.unstruck(shape) for shape in set(SHAPES)}
        dealt, film, moments = 0, 0, list(MOMENTS_OF)
        while dealt < interruptions:
            film += 1
            shape = dice.choice(SHAPES)
            folder = studio.folder(f"film-{film}")
            pending: list[Strike] = []
            while True:
                # in turn, so that every moment occurs; the last steps can only be killed, since no other signal stops
                # them
                moment = moments[(dealt + len(pending)) % len(moments)]
                times, latest = MOMENTS_OF[moment]
                blow = Blow(moment, dice.randint(1, times), dice.uniform(0, latest),
                            dice.choice(SIGNALS) if times > 1 else "SIGKILL")
                code = studio.run(folder, shape, blow)
                if code == 0:  # it finished before the signal arrived
                    break
                work = Work(_outputs(folder, shape))
                left = work.read()
                pending.append(Strike(film, shape, blow.signal, moment, code, left.progress if left else None,
                                      _whole(folder, shape, models[shape]), None, ""))
                if dice.random() > AGAIN:
                    code = studio.run(folder, shape, None)
                    break
            same = code == 0 and _finished(folder, shape, models[shape])
            if pending:
                pending[-1] = replace(pending[-1], same=same, output="" if same else studio.words(folder))
            yield from pending
            dealt += len(pending)
            shutil.rmtree(folder)


class _Studio:
    """Runs `generate`, each time in a new process, forked from one that has everything loaded."""

    def __init__(self, place: Path, command: "Command", model: str) -> None:
        self._place, self._command, self._model = place, command, model
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["echo_cli.bench.victim", command.__module__])
        (place / "story.yaml").write_text(STORY)

    def folder(self, name: str) -> Path:
        (self._place / name).mkdir()
        return self._place / name

    def unstruck(self, shape: str) -> Path:
        """The folder of an uninterrupted film."""
        folder = self.folder("unstruck-" + shape.split(".")[-1])
        if code := self.run(folder, shape, None):
            raise EchoError(
                f"the film cannot be rendered at all (exit code {code}): {self.words(folder)}",
                "Render it with `echo-cli generate` to see why."
            )
        return folder

    def run(self, folder: Path, shape: str, blow: "Blow | None") -> int:
        from echo_cli.bench.victim import make

        quick = f"--scale 1 --preset ultrafast --checkpoint-every {EVERY} --progress none --device cpu"
        arguments = [str(self._place / "story.yaml"), "-o", str(folder / shape), "--model", self._model]
        given = (self._command, [*arguments, *quick.split()], folder / "words.txt", blow)
        child = self._context.Process(target=make, args=given)
        child.start()
        child.join()
        assert child.exitcode is not None
        return child.exitcode

    def words(self, folder: Path) -> str:
        return (folder / "words.txt").read_text(errors="replace").strip()


def _outputs(folder: Path, shape: str) -> Outputs:
    return outputs_of(str(folder / shape), "")


def _pictures(folder: Path, shape: str) -> dict[str, str]:
    """The film's files and their hashes."""
    return {path.name: sha256(path) for path in _outputs(folder, shape).film.existing()}


def _whole(folder: Path, shape: str, unstruck: Path) -> bool:
    """Whether every file under a final name is complete."""
    outputs, wanted = _outputs(folder, shape), _pictures(unstruck, shape)
    try:
        if outputs.trace and outputs.trace.exists() and read_trace(outputs.trace).totals is None:
            return False
        if outputs.manifest and outputs.manifest.exists():
            json.loads(outputs.manifest.read_text())
    except (EchoError, ValueError):
        return False
    return _pictures(folder, shape).items() <= wanted.items()


def _finished(folder: Path, shape: str, unstruck: Path) -> bool:
    """Whether the film equals the uninterrupted one, with all of its files and nothing else."""
    def names(place: Path) -> set[str]:
        return {path.relative_to(place).as_posix() for path in place.rglob("*")}

    return _pictures(folder, shape) == _pictures(unstruck, shape) and names(folder) == names(unstruck) \
        and _whole(folder, shape, unstruck)


def table(strikes: Sequence[Strike]) -> Iterator[str]:
    """A row for each interruption, and a summary."""
    yield (
        f"{'':>4}{'film':>6}  {'what':<16}{'signal':<9}{'moment':<12}"
        f"{'ended with':<12}{'kept':<18}{'final names':<13}pictures"
    )
    for number, strike in enumerate(strikes, 1):
        code = signal.Signals(-strike.code).name if strike.code < 0 else f"exit {strike.code}"
        pictures = {True: "the same", False: "OTHER", None: "again first"}[strike.same]
        yield (f"{number:>4}{strike.film:>6}  {strike.shape:<16}{strike.signal:<9}{strike.moment:<12}{code:<12}"
               f"{strike.kept or 'nothing':<18}{'complete' if strike.whole else 'INCOMPLETE':<13}{pictures}")
    films = [strike for strike in strikes if strike.same is not None]
    same, whole = sum(bool(strike.same) for strike in films), sum(strike.whole for strike in strikes)
    yield (
        f"{plural(len(strikes), 'interruption')} of {plural(len(films), 'film')}: {same} of {len(films)} came out as "
        f"uninterrupted ones; {whole} of {len(strikes)} times every file under a final name was complete"
    )
