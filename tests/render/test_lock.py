"""One writer: of two processes one is refused, and nobody is refused because of the dead."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from echo_cli.errors import OutputError
from echo_cli.render import lock
from echo_cli.render.lock import Holder, OneWriter, check_free

ROOT = Path(__file__).parents[2]
HOLD = ("import sys, time; from pathlib import Path; from echo_cli.render.lock import OneWriter\n"
        "with OneWriter(Path(sys.argv[1]), Path('film.mp4')):\n"
        "    print('held', flush=True); time.sleep(60)")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "film.lock"


def writer(path: Path) -> OneWriter:
    return OneWriter(path, Path("film.mp4"))


def elsewhere(path: Path, age: float) -> None:
    """A lock of another machine, whose heart beat so many seconds ago."""
    path.write_text(json.dumps(asdict(replace(Holder.here(), host="node7", machine="another boot", pid=4711))))
    then = time.time() - age
    os.utime(path, (then, then))


def test_it_is_held_and_leaves_nothing(path: Path) -> None:
    with writer(path) as first:
        with pytest.raises(OutputError, match=f"film.mp4 is being rendered by process {os.getpid()} on "), writer(path):
            pytest.fail("two writers")
        with pytest.raises(OutputError, match="is being rendered by"):
            check_free(path, Path("film.mp4"))
        first.check()
    assert list(path.parent.iterdir()) == []
    check_free(path, Path("film.mp4"))


def test_another_process_is_refused_until_it_is_killed(path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert other.stdout.readline() == b"held\n"
    with pytest.raises(OutputError, match=f"process {other.pid} on"), writer(path):
        pytest.fail("two writers")
    os.kill(other.pid, signal.SIGKILL)
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # dead, and its parent has not looked yet
    with writer(path):
        pass
    other.communicate()
    assert list(path.parent.iterdir()) == []


def test_a_number_given_to_another_process_since_is_not_the_holder(path: Path) -> None:
    path.write_text(json.dumps(asdict(replace(Holder.here(), born="1"))))
    with writer(path):
        pass


@pytest.mark.parametrize(("age", "free"), [(1, False), (50, False), (70, True), (-20, False), (-3600, True)])
def test_one_of_another_machine_lives_while_its_heart_beats(path: Path, age: float, free: bool) -> None:
    elsewhere(path, age)
    if free:
        with writer(path):
            pass
    else:
        with pytest.raises(OutputError, match="process 4711 on node7") as caught, writer(path):
            pytest.fail("two writers")
        assert "60 seconds" in caught.value.hint
    assert not [left for left in path.parent.iterdir() if left != path]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"host": "x"}', b"\xff\x00"])
def test_a_lock_that_says_nothing_is_believed_until_it_is_old(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(OutputError, match="another process"), writer(path):
        pytest.fail("two writers")
    os.utime(path, (1, 1))
    with writer(path):
        pass


def test_the_heart_beats_and_notices_a_loss(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with writer(path) as first:
        os.utime(path, (1, 1))
        until(lambda: path.stat().st_mtime > 1)
        first.check()
        elsewhere(path, 0)
        until(lambda: first._lost)
        with pytest.raises(OutputError, match="belongs to somebody else"):
            first.check()
    assert path.exists()  # it is the other one's


def test_who_stood_still_looks_before_he_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with writer(path) as first:
        elsewhere(path, 0)
        first.check()  # nobody looks all the time
        first._beaten -= lock.STALE
        with pytest.raises(OutputError, match="belongs to somebody else"):
            first.check()
    assert path.exists()


def test_a_file_system_that_does_not_answer_for_a_moment_takes_nothing_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.01)
    asked = []

    def silent(_: Path) -> bytes:
        asked.append(1)
        raise OSError(errno.EIO, "no answer")

    with writer(path) as first:
        with monkeypatch.context() as patch:
            patch.setattr(lock, "read_small", silent)
            until(lambda: len(asked) > 3)
            first.check()
        os.utime(path, (1, 1))
        until(lambda: path.stat().st_mtime > 1)
        first.check()
    assert not path.exists()


def until(true) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("waited for 5 seconds")


def test_of_many_who_find_a_dead_ones_lock_one_gets_it(path: Path) -> None:
    held, refused, together = [], [], threading.Barrier(8)

    def race() -> None:
        mine = writer(path)
        together.wait()
        try:
            with mine:
                held.append(1)
                assert len(held) == 1
                until(lambda: len(refused) == 7)
        except OutputError:
            refused.append(1)

    for _ in range(5):
        held.clear(), refused.clear()
        path.write_text(json.dumps(asdict(replace(Holder.here(), born="1"))))
        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(held), len(refused)) == (1, 7)


def test_where_nothing_can_be_written_it_is_told(locked_disk: Path) -> None:
    with pytest.raises(OutputError, match="read-only"), writer(locked_disk / "film.lock"):
        pass
