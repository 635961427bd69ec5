"""Memory does not grow with the film."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# glibc keeps freed memory for later, and more of it as larger pieces are freed. Here it is returned, so that what is
# read is what the film holds.
RETURNING = {"MALLOC_TRIM_THRESHOLD_": "65536"}


def readings(*seconds: str) -> list[dict]:
    """What the command reads, in a process of its own, with the small model."""
    command = [sys.executable, "-m", "tests.render.stage", "bench", "footprint", *seconds, "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
                         env={**os.environ, "OMP_NUM_THREADS": "1", **RETURNING})
    return json.loads(run.stdout)["readings"]


def test_the_command_reads_both_processes_at_every_length() -> None:
    measured = readings("3", "1")
    assert [reading["seconds"] for reading in measured] == [1, 3]
    assert all(reading["generate_bytes"] > 50e6 and reading["ffmpeg_bytes"] > 5e6 for reading in measured)


@pytest.mark.slow
def test_ten_minutes_take_the_memory_of_ten_seconds() -> None:
    early, late = readings("10", "600")
    assert late["generate_bytes"] < 1.02 * early["generate_bytes"]
    assert late["ffmpeg_bytes"] < 1.1 * early["ffmpeg_bytes"]
