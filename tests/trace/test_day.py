"""A film of a hundred thousand blocks, most of a day: inspected in seconds and in bounded memory."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from echo_cli.storyboard.nouns import Kind, Scene
from echo_cli.trace import inspect
from echo_cli.trace.reader import read_trace
from tests.trace.story import write_story

KINDS = (Kind.SMOOTH, Kind.HARD_CUT, Kind.RECALL)
BLOCKS = 100_000


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenes = [Scene("s0", "A red ball rolls to the left across a meadow", 60.0)]
    for index in range(1, BLOCKS // 80):
        kind = KINDS[index % 3]
        scenes.append(Scene(f"s{index}", "A red ball rolls to the left across a meadow", 60.0, kind,
                            f"s{max(0, index - 3)}" if kind is Kind.RECALL else None))
    return write_story(tmp_path_factory.mktemp("day") / "day.trace.json", tuple(scenes))


def _processor() -> float:
    """Seconds of processor that children took: what a busy machine does not stretch."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.slow
@pytest.mark.parametrize("question", [(), ("--at", "20h"), ("--scene", "s900"), ("--json",)])
def test_a_day_is_inspected_in_three_seconds_and_half_a_gigabyte(day: Path, question: tuple[str, ...]) -> None:
    assert len(read_trace(day)) == BLOCKS
    began, before = time.monotonic(), _processor()
    # VmHWM, not ru_maxrss: the latter begins at what this process held when it forked.
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import re, sys; from echo_cli.cli.app import run\n"
            "code = run(['inspect-cache', *sys.argv[1:]])\n"
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1], file=sys.stderr)\n"
            "sys.exit(code)",
            str(day),
            *question,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - began
    cpu = _processor() - before
    kilobytes = int(done.stderr.split()[-1])
    print(f"{question}: {seconds:.2f} s ({cpu:.2f} s of processor), {kilobytes / 1000:.0f} MB")
    assert done.returncode == 0 and done.stdout
    assert cpu < 3 and kilobytes < 500_000


@pytest.mark.slow
def test_what_lingers_in_a_day_is_found_exactly(day: Path) -> None:
    trace = read_trace(day)
    expected = {Kind.SMOOTH: 5, Kind.HARD_CUT: 1, Kind.RECALL: 5}
    for record in trace.scenes[1:]:
        assert [left.blocks for left in inspect.lingering(trace, record)] == [expected[record.transition]]
