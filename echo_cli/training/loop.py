"""The loop that every stage of the transformer runs in: steps, schedule, running average, checkpoints, losses as data.

Everything that a step draws must follow from the seed and the step's number; then a killed run resumes as if it had
never stopped. Knows nothing of what a step learns.
"""

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from echo_cli.files import partial, publish
from echo_cli.training.muon import Muon

_WARMUP = 40  # steps
_FLOOR = 0.05  # of the rate, at the end


@dataclass(frozen=True)
class Budget:
    """How long a stage trains: to its last step, or for a number of minutes of its own time, whichever is first."""

    steps: int
    minutes: float | None = None

    def spent(self, step: int, seconds: float) -> float:
        """From 0 to 1."""
        by_time = 0.0 if self.minutes is None else seconds / (60 * self.minutes)
        return min(1.0, max(step / self.steps, by_time))


@dataclass(frozen=True)
class Progress:
    """One step's figures, for the caller."""

    stage: str
    step: int
    spent: float
    seconds: float
    losses: dict[str, float]


class Learner:
    """A module that learns, its optimiser, its running average and how far it is: everything that a checkpoint
    holds."""

    def __init__(self, module: nn.Module, optimiser: Muon, ema: float) -> None:
        self.module, self.optimiser, self.ema = module, optimiser, ema
        self.average = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self.step, self.seconds = 0, 0.0

    def state(self) -> dict:
        return {"module": self.module.state_dict(), "average": self.average, "optimiser": self.optimiser.state_dict(),
                "step": self.step, "seconds": self.seconds}

    def restore(self, saved: dict) -> None:
        self.module.load_state_dict(saved["module"])
        for name, value in saved["average"].items():
            self.average[name].copy_(value)
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step, self.seconds = saved["step"], saved["seconds"]

    def descend(self, loss: Tensor, rate: float) -> None:
        """One step of the optimiser and of the average."""
        self.optimiser.scale(rate)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        blend = 1 - min(self.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            here = self.module.state_dict()
            torch._foreach_lerp_([self.average[name] for name in here], list(here.values()), blend)


def rate_at(step: int, spent: float) -> float:
    """Warm up, hold, and fall in a straight line over the last half."""
    return min(1.0, (step + 1) / _WARMUP) * max(_FLOOR, min(1.0, 2 * (1 - spent)))


class Losses:
    """A stage's figures as CSV: those of steps beyond the checkpoint are dropped."""

    def __init__(self, path: Path, step: int | None = None) -> None:
        self.path, self.rows = path, []
        if path.exists():
            with path.open(newline="") as file:
                self.rows = [row for row in csv.DictReader(file) if step is None or int(row["step"]) <= step]

    def add(self, progress: Progress) -> None:
        self.rows.append({"step": progress.step, "seconds": round(progress.seconds, 2),
                          **{name: round(value, 6) for name, value in progress.losses.items()}})

    def save(self) -> None:
        columns = list(dict.fromkeys(name for row in self.rows for name in row)) or ["step"]  # a stage's phases differ
        with partial(self.path).open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(self.rows)
        publish(self.path)


def run(name: str, learner: Learner, advance: Callable[[int, float], dict[str, Tensor]], budget: Budget, folder: Path,
        report: Callable[[Progress], None], stop: Callable[[], bool], save_seconds: float = 60.0) -> bool:
    """Call `advance(step, spent)` until the budget is spent (True) or `stop` says so (False); a checkpoint is written.

    The checkpoint, `NAME.pt`, and the losses, `NAME.csv`, are in `folder`; an existing checkpoint is resumed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / f"{name}.pt"
    if checkpoint.exists():
        learner.restore(torch.load(checkpoint, map_location="cpu", weights_only=True))
    losses = Losses(folder / f"{name}.csv", learner.step)
    saved = learner.seconds
    while (spent := budget.spent(learner.step, learner.seconds)) < 1:
        if stop():
            save(learner, checkpoint, losses)
            return False
        began = time.perf_counter()
        parts = advance(learner.step, spent)
        numbers = torch.stack([value.float() for value in parts.values()]).tolist()  # one wait for the device, not many
        figures = dict(zip(parts, numbers, strict=True))
        learner.step += 1
        learner.seconds += time.perf_counter() - began
        progress = Progress(name, learner.step, spent, learner.seconds, figures)
        losses.add(progress)
        report(progress)
        if learner.seconds - saved >= save_seconds:
            saved = learner.seconds
            save(learner, checkpoint, losses)
    save(learner, checkpoint, losses)
    return True


def save(learner: Learner, checkpoint: Path, losses: Losses) -> None:
    """The losses first: a checkpoint is never ahead of them."""
    losses.save()
    torch.save(learner.state(), partial(checkpoint))
    publish(checkpoint)
