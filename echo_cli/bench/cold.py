"""A film as a user first meets the tool: one command in a separate process, from nothing to a finished MP4, timed from
outside."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

_STORY = """version: 1
scenes:
  - {{id: first, prompt: A red ball bounces up and down in a green meadow by day, duration: {half}s}}
  - {{id: second, prompt: A blue star stands still in the desert at night, duration: {half}s, transition: hard cut}}
"""
_TOOL = "import sys; from echo_cli.cli.app import main; sys.exit(main())"


@dataclass(frozen=True)
class ColdRun:
    """Seconds count from the command's start and include Python, imports and weights."""

    pictures: int
    wall_s: float
    first_picture_s: float  # until the first block's pictures are decoded

    @property
    def pictures_a_second(self) -> float:
        return self.pictures / self.wall_s


def cold_run(seconds: float) -> ColdRun:
    """One film of the embedded model, with every option at its default."""
    with tempfile.TemporaryDirectory(prefix="echo-cold-") as folder:
        (Path(folder) / "story.yaml").write_text(_STORY.format(half=seconds / 2), encoding="utf-8")
        began, first, pictures = time.perf_counter(), 0.0, 0
        command = [sys.executable, "-c", _TOOL, "generate", "story.yaml", "-o", "film.mp4", "--progress", "json"]
        with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as run:
            assert run.stderr is not None
            said = []
            for line in run.stderr:
                said.append(line)
                if line.startswith("{") and (update := json.loads(line)).get("event") == "progress":
                    first = first or time.perf_counter() - began
                    pictures = update["picture"]
        if run.returncode:
            raise RuntimeError(f"generate ended with {run.returncode}: {''.join(said)}")
        return ColdRun(pictures, time.perf_counter() - began, first)
