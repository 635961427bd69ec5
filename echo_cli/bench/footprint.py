"""How much memory a film takes while it is rendered: after ten seconds of film and after ten minutes.

Renders one long film with every kind of transition into a temporary folder, and reads the kernel's figures for this
process and its ffmpeg. Reads /proc, so it runs on Linux.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from echo_cli.errors import MissingError
from echo_cli.models.backend import Backend
from echo_cli.render.job import Job
from echo_cli.render.outputs import outputs_of
from echo_cli.render.prepare import prepared
from echo_cli.render.progress import Progress, Step
from echo_cli.render.request import Request
from echo_cli.render.session import Loaded, Session
from echo_cli.render.signals import Interruption
from echo_cli.runtime import Runtime
from echo_cli.storyboard.nouns import Kind, Scene, Storyboard

SCENE = 20.0  # seconds
PROMPTS = ("a red ball rolls to the left across a green meadow", "a blue star rests in the desert at night",
           "a yellow box slides right along a beach at sunset")


@dataclass(frozen=True, slots=True)
class Reading:
    """Resident bytes after that many seconds of film."""

    seconds: float
    own: int
    ffmpeg: int


class _Meter(Progress):
    """Reads memory when the film passes each of the given lengths; prints nothing."""

    def __init__(self, seconds: Sequence[float], fps: float) -> None:
        super().__init__()
        self._wanted = [(length, length * fps) for length in sorted(seconds)]
        self.readings: list[Reading] = []

    def step(self, step: Step) -> None:
        while self._wanted and step.picture >= min(self._wanted[0][1], step.pictures):
            children = Path("/proc/self/task").glob("*/children")
            pids = [int(pid) for path in children for pid in path.read_text().split()]
            self.readings.append(Reading(self._wanted.pop(0)[0], resident("self"), sum(map(resident, pids))))


def resident(pid: int | str) -> int:
    """Resident bytes of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def story(seconds: float) -> Storyboard:
    """Scenes that begin in every possible way, repeatedly."""
    count = max(1, round(seconds / SCENE))
    ways = [(Kind.SMOOTH, None), (Kind.HARD_CUT, None), (Kind.RECALL, "scene-0")]
    scenes = tuple(
        Scene(f"scene-{index}", PROMPTS[index % 3], seconds / count, *(ways[index % 3] if index else (None, None)))
        for index in range(count)
    )
    return Storyboard(scenes)


def job_for(board: Storyboard, backend: Backend, output: str, memory: str | None = None) -> Job:
    """A job with defaults for everything but the model, and perhaps the memory."""
    request = Request(board, output, model=backend.spec.name, memory=memory)
    return prepared(request, board, backend.spec).job(outputs_of(output, ""))


def measure(backend: Backend, runtime: Runtime, seconds: Sequence[float]) -> list[Reading]:
    """Memory after each of `seconds` of one film, rendered as `generate` renders it."""
    if not Path("/proc/self/status").exists():
        raise MissingError("memory is read from /proc, which this system lacks", "Run it on Linux.")
    meter = _Meter(seconds, backend.spec.fps)
    with tempfile.TemporaryDirectory(prefix="echo-footprint-") as folder, Interruption() as interruption:
        job = job_for(story(max(seconds)), backend, f"{folder}/film.mp4")
        Session(given=Loaded(backend, runtime)).make(job, meter, interruption)
    return meter.readings
