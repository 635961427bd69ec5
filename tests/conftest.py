"""What more than one folder of tests needs."""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_cli.render.defaults import OTHER_VARIABLES

# Some virtual machines advertise matrix instructions that they refuse; a test in bfloat16 would end the whole suite.
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
# Where an environment forbids writing compiled code, every command that a test starts would compile the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# A shell that starts the tests in the background makes them, and every command that they start, ignore interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if "PYTEST_XDIST_WORKER" in os.environ:  # beside other workers: more threads than cores wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as they like unless a test says how wide its terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _no_defaults(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whoever runs the tests may have defaults of his own."""
    for name in [name for name in os.environ if name.startswith("ECHO_") and name not in OTHER_VARIABLES]:
        del os.environ[name]
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("config"))


def _mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(["mount", "-t", "tmpfs", "-o", options, "echo-test", folder], capture_output=True).returncode
    ):
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


def pytest_collection_finish() -> None:
    """What was imported stays: Python need not search it again and again for garbage."""
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where ECHO_NO_SKIPS is set, a test that skipped has failed, but for those that need a GPU."""
    if not os.environ.get("ECHO_NO_SKIPS"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker; the process that started it counts
        return
    skipped = [report for report in reporter.stats.get("skipped", []) if "gpu" not in getattr(report, "keywords", ())]
    if skipped:
        reporter.write_line("\nskipped where nothing may be:", red=True)
        for report in skipped:
            reporter.write_line(f"  {report.nodeid}: {report.longrepr[-1]}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
