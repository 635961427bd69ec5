"""A run's progress in the form that its reader needs: a bar for people, plain lines for logs, JSON, Open Job
Description.

The plain line and the keys of the JSON line are matched by patterns on farms: they are a contract, and a test
checks them. A step may be one of a batch: then the share that is done, and the time left, are the batch's. Nothing here
decides when a block is made.
"""

import json
import os
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Protocol, Self, TextIO

from echo_cli.errors import EchoError
from echo_cli.text import clock, size

EVERY = 5.0  # seconds between lines that are not for a terminal
WARNING = "warning: "  # what a warning among the lines for people begins with
RECENT = 20.0  # seconds that the speed is measured over


class Style(StrEnum):
    """What `--progress` takes."""

    AUTO = "auto"
    BAR = "bar"
    PLAIN = "plain"
    JSON = "json"
    OPENJD = "openjd"
    DEADLINE = "deadline"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Place:
    """The film that a step belongs to, counted from 1, among those of a batch; pictures are the batch's, made and to
    make."""

    film: int
    films: int
    name: str
    picture: int
    pictures: int


@dataclass(frozen=True, slots=True)
class Step:
    """A block is done. Counts are of things finished; `scene` counts from 1. `new` pictures came of the block, and it
    took `seconds`."""

    block: int
    blocks: int
    scene: int
    scenes: int
    scene_id: str
    picture: int
    pictures: int
    memory_bytes: int
    new: int
    seconds: float
    place: Place | None = None

    @property
    def done(self) -> tuple[int, int]:
        """Pictures made and to make, of all that this run is about."""
        return (self.place.picture, self.place.pictures) if self.place else (self.picture, self.pictures)

    @property
    def percent(self) -> float:
        """To a tenth, never rounded up: 100 means that every picture is there."""
        made, wanted = self.done
        return 1000 * made // wanted / 10


class Pace:
    """Pictures per second over the last while, so that one slow block does not shake the time left.

    It counts from the beginning of the first block: neither loading, nor pictures that an earlier run made, nor the
    block that is generated while the first is written, tell how fast pictures come.
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()
        self._made = 0

    def mark(self, new: int, seconds: float) -> float:
        now = time.monotonic()
        if not self._marks:
            self._marks.append((now - seconds, 0))
        self._made += new
        self._marks.append((now, self._made))
        while len(self._marks) > 2 and self._marks[-1][0] - self._marks[1][0] > RECENT:
            self._marks.popleft()
        (since, before), (now, _) = self._marks[0], self._marks[-1]
        return (self._made - before) / max(now - since, 1e-6)


class Progress:
    """Called at every step; as a context it ends its last line, and reports a failure if there was one. Says nothing
    itself."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._printed = -EVERY

    def __enter__(self) -> Self:
        self._pace = Pace()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EchoError):
            self.failed(error.message)

    def step(self, step: Step) -> None:
        """A block is done; lines come a few seconds apart, the last one always."""
        made, wanted = step.done
        rate = self._pace.mark(step.new, step.seconds)
        now = time.monotonic()
        if now - self._printed >= self.every or made >= wanted:
            self._printed = now
            self.tell(step, rate, (wanted - made) / rate if rate else None)

    every = EVERY

    def say(self, text: str) -> None:
        """A line for people, between those of progress."""
        print(text, file=sys.stderr, flush=True)

    def warn(self, text: str) -> None:
        """A line that is printed even with --quiet."""
        self.say(text)

    def tell(self, step: Step, rate: float, left: float | None) -> None:
        """One line, or its equivalent. Nobody knows how many seconds are left before the first picture is there."""

    def failed(self, message: str) -> None:
        """The run ends before the film does."""


class Quiet(Progress):
    """Prints nothing but warnings, as another teller prints them."""

    def __init__(self, teller: Progress | None = None) -> None:
        super().__init__()
        self._teller = teller or Progress()

    def say(self, text: str) -> None:
        """Prints nothing."""

    def warn(self, text: str) -> None:
        self._teller.warn(text)


class Lines(Protocol):
    """Anything that takes lines: a stream, or a log."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


class Plain(Progress):
    """A line a few seconds apart; its form is kept."""

    def __init__(self, stream: Lines) -> None:
        super().__init__()
        self._stream = stream

    def tell(self, step: Step, rate: float, left: float | None) -> None:
        print(plain_line(step, rate, left), file=self._stream, flush=True)


class WholePercents(Plain):
    """The plain line with a whole percentage, never rounded up: the stock plug-ins of Deadline know no other."""

    def tell(self, step: Step, rate: float, left: float | None) -> None:
        print(plain_line(step, rate, left, f"{int(step.percent)}%"), file=self._stream, flush=True)


class JsonLines(Plain):
    """The same in JSON, one object a line; messages and warnings are objects too."""

    def say(self, text: str) -> None:
        self._stream.write(message_line(text))
        self._stream.flush()

    def warn(self, text: str) -> None:
        self.say(text if text.startswith(WARNING) else WARNING + text)

    def tell(self, step: Step, rate: float, left: float | None) -> None:
        film = asdict(step)
        place = film.pop("place")
        del film["new"], film["seconds"]
        batch = {"film": place["film"], "films": place["films"], "storyboard": place["name"]} if place else {}
        self._print({"event": "progress", "percent": step.percent, **batch, **film,
                     "pictures_per_second": round(rate, 2), "seconds_left": None if left is None else round(left, 1)})

    def failed(self, message: str) -> None:
        self._print({"event": "failed", "message": message})

    def _print(self, fields: dict[str, object]) -> None:
        self._stream.write(json_line(fields))
        self._stream.flush()


class OpenJobDescription(Plain):
    """Lines that a worker of Open Job Description reads from the job's standard output."""

    def tell(self, step: Step, rate: float, left: float | None) -> None:
        self._print("progress", f"{step.percent:.1f}")
        self._print("status", plain_line(step, rate, left).partition(" | ")[2])

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)
        if isinstance(error, EchoError):
            error.told = True

    def failed(self, message: str) -> None:
        self._print("fail", " ".join(message.split()))

    def _print(self, what: str, text: str) -> None:
        print(f"openjd_{what}: {text}", file=self._stream, flush=True)


class Bar(Progress):
    """A bar on a terminal, redrawn with every block."""

    every = 0.0

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        from rich import progress
        from rich.console import Console

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"), progress.BarColumn(bar_width=None),
            progress.TextColumn("{task.fields[percent]:>3} %"), progress.TextColumn("{task.fields[rest]}", style="dim"),
            console=Console(file=stream, soft_wrap=False), expand=True, transient=True)
        self._task = self._bar.add_task("first block", total=100, percent=0, rest="")

    def __enter__(self) -> Self:
        super().__enter__()
        self._bar.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def tell(self, step: Step, rate: float, left: float | None) -> None:
        film = (
            f"film {step.place.film}/{step.place.films} [bold]{_escaped(_one_line(step.place.name))}[/] "
            if step.place
            else ""
        )
        self._bar.update(self._task, completed=step.percent, percent=int(step.percent),
                         description=f"{film}scene {step.scene}/{step.scenes} [bold]{_escaped(step.scene_id)}[/]",
                         rest=f"block {step.block}/{step.blocks}  {rate:.0f} pictures/s  "
                              f"{'' if left is None else f'{clock(left, 0, hours=True)} left  '}"
                              f"memory {size(step.memory_bytes)}")


def progress_of(style: Style, quiet: bool = False) -> Progress:
    """The teller for a style; `auto` looks at the terminal. Open Job Description has its lines on standard output."""
    if quiet:
        return Quiet(JsonLines(sys.stderr) if style is Style.JSON else None)
    if style is Style.NONE:
        return Progress()
    if style is Style.AUTO:
        style = Style.BAR if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else Style.PLAIN
    if style is Style.OPENJD:
        return OpenJobDescription(sys.stdout)
    return {Style.BAR: Bar, Style.PLAIN: Plain, Style.JSON: JsonLines, Style.DEADLINE: WholePercents}[style](sys.stderr)


def json_line(fields: dict[str, object]) -> str:
    """An object with its line break: written at once, so that lines of two threads do not mix, and in ASCII, so that it
    is the same in every locale."""
    return json.dumps(fields) + "\n"


def message_line(text: str) -> str:
    """A line for people as an object."""
    event = "warning" if text.startswith(WARNING) else "message"
    return json_line({"event": event, "message": text.removeprefix(WARNING)})


def plain_line(step: Step, rate: float, left: float | None, percent: str = "") -> str:
    rest = "" if left is None else f"left {clock(left, 0, hours=True)} | "
    film = f"film {step.place.film}/{step.place.films} {_one_line(step.place.name)} | " if step.place else ""
    return (f"Progress: {percent or f'{step.percent:.1f}%'} | {film}block {step.block}/{step.blocks} | "
            f"scene {step.scene}/{step.scenes} {step.scene_id} | picture {step.picture}/{step.pictures} | "
            f"{rate:.1f} pictures/s | {rest}memory {size(step.memory_bytes)}")


def _one_line(name: str) -> str:
    """A file's name as it can stand in a line of its own."""
    return " ".join(name.split())


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
