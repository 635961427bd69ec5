"""A share of the storyboards: `2/5`, or the share that belongs to this process's task in a farm's scheduler.

Shares are dealt like cards from the list that `listing` orders, so they depend only on the list: neither on what is
already done nor on the order in which it was named. Every share needs the same list.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from echo_cli.errors import UsageError

AUTO = "auto"
MOST_FRAMES = 10_000_000  # in a layer's range; more is a mistake

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `number` of `count`, from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: Sequence[Item]) -> list[Item]:
        return list(items[self.number - 1::self.count])


def read_shard(text: str, environment: Mapping[str, str]) -> Shard:
    """`I/N`, or `auto`."""
    if text.strip().lower() == AUTO:
        return _of_scheduler(environment)
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if not match:
        raise UsageError(f"--shard {text}: not a share", "Write I/N, such as 2/5 for the second of five, or auto.")
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise UsageError(
            f"--shard {text}: shares are numbered from 1 to {count}" if count else f"--shard {text}: no shares",
            "Write I/N, such as 2/5 for the second of five.",
        )
    return Shard(number, count)


def _of_scheduler(environment: Mapping[str, str]) -> Shard:
    schedulers = {name: read for name, (variable, read) in _SCHEDULERS.items() if environment.get(variable, "") != ""}
    if len(schedulers) > 1:
        raise UsageError(f"--shard auto: this process is a task of {' and of '.join(schedulers)}", "Write --shard I/N.")
    if not schedulers:
        known = ", ".join(f"{variable} ({name})" for name, (variable, _) in _SCHEDULERS.items())
        raise UsageError("--shard auto: no scheduler says which share this is",
                         f"It is read from {known}. Elsewhere write --shard I/N.")
    (name, read), = schedulers.items()
    try:
        return read(environment)
    except (KeyError, ValueError) as error:
        reason = f"{error.args[0]} is not set" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"--shard auto: {name} does not say which share this is: {reason}", "Write --shard I/N."
        ) from None


def _slurm(environment: Mapping[str, str]) -> Shard:
    """Tasks may be numbered in any even steps (`--array=3-21:3`); with others, their place cannot be known."""
    task, first, count = (_number(environment, f"SLURM_ARRAY_TASK_{what}") for what in ("ID", "MIN", "COUNT"))
    last = _number(environment, "SLURM_ARRAY_TASK_MAX", first + count - 1)
    step = _number(environment, "SLURM_ARRAY_TASK_STEP", (last - first) // max(count - 1, 1)) if count > 1 else 1
    place, uneven = divmod(task - first, step) if step > 0 else (0, 1)
    if uneven or not 0 <= place < count or first + step * (count - 1) != last:
        raise ValueError(f"task {task} of an array of {count} from {first} to {last} has no place that can be counted")
    return Shard(place + 1, count)


def _opencue(environment: Mapping[str, str]) -> Shard:
    """A frame of a layer; with chunks, the first frame of a chunk."""
    frame, chunk = _number(environment, "CUE_IFRAME"), _number(environment, "CUE_CHUNK", 1)
    frames = _frames(environment["CUE_RANGE"])
    if chunk < 1 or frame not in frames:
        raise ValueError(f"frame {frame} is not in the range {environment['CUE_RANGE']}")
    place, inside = divmod(frames.index(frame), chunk)
    if inside:
        raise ValueError(f"frame {frame} does not begin a chunk of {chunk} in the range {environment['CUE_RANGE']}")
    return Shard(place + 1, -(-len(frames) // chunk))


def _frames(text: str) -> list[int]:
    """A range as OpenCue writes it: 7, 1-20, 1-20x2, or several of them separated by commas; each frame once."""
    frames: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(-?\d+)(?:-(-?\d+)(?:x(\d+))?)?\s*", part)
        if not match:
            raise ValueError(f"the range {text} is not understood")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if step < 1 or last < first or (last - first) // step > MOST_FRAMES:
            raise ValueError(f"the range {text} is not understood")
        frames.update(dict.fromkeys(range(first, last + 1, step)))
    return list(frames)


def _aws(environment: Mapping[str, str]) -> Shard:
    place, count = (_number(environment, f"AWS_BATCH_JOB_ARRAY_{what}") for what in ("INDEX", "SIZE"))
    if not 0 <= place < count:
        raise ValueError(f"child {place} of an array of {count}")
    return Shard(place + 1, count)


def _number(environment: Mapping[str, str], variable: str, default: int | None = None) -> int:
    if default is not None and not environment.get(variable):
        return default
    try:
        return int(environment[variable])
    except ValueError:
        raise ValueError(f"{variable} is {environment[variable]!r}") from None


# scheduler → the variable that shows its presence, and the function that reads the rest
_SCHEDULERS = {"Slurm": ("SLURM_ARRAY_TASK_ID", _slurm), "OpenCue": ("CUE_IFRAME", _opencue),
               "AWS Batch": ("AWS_BATCH_JOB_ARRAY_INDEX", _aws)}
