"""One writer per film: a lock file beside it, which works on shared file systems and does not outlive its holder.

Made with O_EXCL, so that only one of two can. Its mtime is its heartbeat, measured by the clock of the file system
itself, since those of two machines need not agree. A process on the same machine is looked up by its id and start time,
so a lock left by a kill is recognised immediately; one from another machine, when its heartbeat has stopped.
"""

import datetime
import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from echo_cli.errors import Held, OutputError
from echo_cli.files import output_errors, read_json, read_small

BEAT = 5.0  # seconds
STALE = 60.0  # seconds without a beat


@dataclass(frozen=True, slots=True)
class Holder:
    """A process, distinguished from every other process on every machine."""

    host: str
    pid: int
    since: str
    token: str
    machine: str  # its boot and its numbering of processes; empty where the system does not say
    born: str  # when the process began, by the machine's own count

    @classmethod
    def here(cls) -> "Holder":
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), now, secrets.token_hex(8), _machine(), _born(os.getpid()) or "")

    @property
    def runs_here(self) -> bool | None:
        """Whether this machine runs it; None when it is of another one, or when nobody can say."""
        if not self.machine or self.machine != _machine():
            return None
        return _born(self.pid) == self.born


class OneWriter:
    """While open, the only writer of `film`; an OutputError names another one."""

    def __init__(self, path: Path, film: Path) -> None:
        self.path, self.film = path, film
        self._holder = Holder.here()
        self._stop, self._lost, self._beaten = threading.Event(), False, time.monotonic()

    def __enter__(self) -> Self:
        with output_errors(self.film):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while not self._taken():
                check_free(self.path, self.film)
                self._clear_dead()
        self._beaten = time.monotonic()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            if not self._lost and _is(self.path, self._holder):
                self.path.unlink(missing_ok=True)

    @property
    def lost(self) -> bool:
        """Whether the film is not ours to write any more."""
        if time.monotonic() - self._beaten > STALE / 2:  # this process stood still; others may think it dead
            self._look()
        return self._lost

    def check(self) -> None:
        """Before anything is written: an OutputError if the film is no longer ours."""
        if self.lost:
            raise OutputError(
                f"cannot write {self.film}: its lock {self.path.name} is gone or belongs to somebody else",
                "Check whether its folder was removed or another process began the same film, then run again.",
            )

    def _taken(self) -> bool:
        try:
            file = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            os.write(file, _said(self._holder))
            os.fsync(file)
        except OSError:
            self.path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        return True

    def _clear_dead(self) -> None:
        """Remove a dead holder's lock, one process at a time: while the lock exists nobody can create a new one, so a
        lock that is stale under the guard is still stale when it is removed."""
        guard = self.path.with_name(self.path.name + ".clearing")
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            if (_age(guard) or 0.0) > STALE:  # the process that was clearing it died
                guard.unlink(missing_ok=True)
            time.sleep(0.02)
            return
        try:
            check_free(self.path, self.film)
            self.path.unlink(missing_ok=True)
        finally:
            guard.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._lost and not self._stop.wait(BEAT):
            self._look()

    def _look(self) -> None:
        """Renew the lock if it is still ours. A file system that does not answer for a moment has not taken it away."""
        with suppress(OSError):
            if not _is(self.path, self._holder):
                self._lost = True
            elif not self._lost:
                os.utime(self.path)
                self._beaten = time.monotonic()


def _is(path: Path, holder: Holder) -> bool:
    """Whether the lock belongs to a holder; an OSError if that cannot be determined."""
    try:
        return read_small(path) == _said(holder)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_free(path: Path, film: Path) -> None:
    """Held if a living process has the lock, another OutputError if the file of that name is not a lock."""
    holder = _read(path)
    if holder is None and not os.path.lexists(path):
        return
    if not path.is_file():
        raise OutputError(f"cannot write {film}: {path} is not a lock, but a folder, a pipe or a broken link",
                          "Move it away, or write elsewhere with -o.")
    lives = holder.runs_here if holder else None
    if lives is None:
        with output_errors(film):
            age = _age(path)
        lives = age is not None and abs(age) < STALE  # a beat in the future means that the clock was set back
    if lives:
        who = f"process {holder.pid} on {holder.host}, since {holder.since}" if holder else "another process"
        raise Held(
            f"{film} is being rendered by {who}",
            "Run this again later, wait for it with --wait SECONDS, or write elsewhere with -o. If that process died "
            f"on another machine, {path.name} counts as left behind after {STALE:.0f} seconds.",
        )


def is_held(path: Path, film: Path) -> bool:
    """Whether a living process has the lock."""
    try:
        check_free(path, film)
    except Held:
        return True
    except OutputError:
        return False
    return False


def _said(holder: Holder) -> bytes:
    """What a holder's lock says."""
    return json.dumps(asdict(holder)).encode()


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**read_json(path))
    except (OSError, ValueError, TypeError):
        return None


def _age(path: Path) -> float | None:
    """Seconds since the last beat, both by the clock of the file system; None if the lock is gone."""
    probe = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        probe.touch()
        return probe.stat().st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def _machine() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + " " + os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _born(pid: int) -> str | None:
    """When a process began, in clock ticks since boot; None if there is none, or only what is left of one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
