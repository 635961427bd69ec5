"""What more than one folder of tests needs."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "echo-test", folder], capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with 300 kB on it."""
    yield from _mounted(tmp_path / "small", "size=300k")


@pytest.fixture
def locked_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk that nobody may write to."""
    yield from _mounted(tmp_path / "locked", "ro")
