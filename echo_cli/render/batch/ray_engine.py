"""The engine of a cluster: Ray places one actor per GPU, or per group of CPUs, and each keeps its model loaded.

An actor gets its next film when it is free. An actor that is lost is replaced, on another machine if its own is gone,
and the new one resumes the film; the manifest decides what is done, so a film that was finished at that moment is not
rendered twice. Ray's own retries are not used: Ray counts every failed call to a machine that is gone, and gives up
before it knows that it is. All machines must see the same files. Ray is imported only if a batch uses it.
"""

import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from types import ModuleType
from typing import Any

from echo_cli import __version__
from echo_cli.errors import EchoError, Interrupted, MissingError, OutOfMemory, UsageError
from echo_cli.machine import cores
from echo_cli.render.batch.attempts import make_film
from echo_cli.render.batch.local import by_model, postponed
from echo_cli.render.batch.outcome import Film, Outcome, Status, failed, left
from echo_cli.render.batch.request import BatchRequest
from echo_cli.render.batch.tally import Tally
from echo_cli.render.lock import BEAT, STALE
from echo_cli.render.progress import Progress, Step
from echo_cli.render.session import Session
from echo_cli.render.signals import Interruption

CPUS = 4  # of an actor, where a machine has as many
LOST = 3  # times that a film is restarted because its actor was lost
TICK = 1.0  # seconds between looks at signals and steps
MARGIN = 3.0  # seconds at the end of the grace period in which actors are no longer waited for
PATIENCE = STALE + 3 * BEAT  # seconds until the lock of a writer that was lost with its machine counts as stale
KNOCK = 10.0  # seconds within which a cluster must answer
OBJECTS = 100 * 2**20  # bytes for what actors and this process exchange: names and numbers, never pictures


class Hand:
    """What an actor does: renders films, one after another, and reports on the one in progress."""

    def __init__(self, retries: int, threads: int, folder: str, version: str) -> None:
        import torch

        if version != __version__:
            raise RuntimeError(f"echo-cli {__version__} is installed here, and {version} where the batch was called")
        with suppress(OSError):  # a model's folder may be relative to it
            os.chdir(folder)
        torch.set_num_threads(threads)
        self._session, self._retries = Session(), retries
        self._interruption = Interruption()
        self._progress = _Latest()

    def make(self, film: Film) -> Outcome:
        self._progress.forget()
        return make_film(self._session, film, self._retries, self._progress, self._interruption)

    def look(self) -> tuple[Step | None, list[str]]:
        """How far it is, and what it has said since the last call."""
        return self._progress.latest, self._progress.messages()

    def stop(self, by: str) -> None:
        self._interruption.by = by


class _Latest(Progress):
    """Keeps the last step and the messages until they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.latest: Step | None = None
        self._messages: list[str] = []

    def forget(self) -> None:
        """Another film begins."""
        self.latest = None

    def step(self, step: Step) -> None:
        self.latest = step

    def say(self, text: str) -> None:
        self._messages.append(text)

    def messages(self) -> list[str]:
        """What has been said since the last call."""
        messages, self._messages = self._messages, []
        return messages


def make_films(films: Sequence[Film], batch: BatchRequest, tally: Tally,
               interruption: Interruption) -> Iterator[Outcome]:
    """An outcome for every film, in the order in which the films end."""
    ray = _ray()
    if batch.device.startswith("cuda:"):
        raise UsageError(
            f"--device {batch.device}: with --engine ray, Ray decides which GPU an actor has", "Use --device cuda."
        )
    # Ray reports losses on standard output, which is reserved for results
    with redirect_stdout(sys.stderr), _cluster(ray, batch.address):
        room, needs = _room(ray, batch)
        crew = _Crew(ray, batch.retries, needs)
        try:
            size = min(batch.actors or room, len(films))
            yield from _hand_out(crew, by_model(films), size, batch, tally, interruption)
        finally:
            crew.dismiss()


def _hand_out(crew: "_Crew", films: Sequence[Film], size: int, batch: BatchRequest, tally: Tally,
              interruption: Interruption) -> Iterator[Outcome]:
    waiting, stopped, until = deque(films), False, None
    crew.hire(size)
    while waiting or crew.busy:
        if interruption.by and until is None:
            stopped, until = True, time.monotonic() + max(batch.grace - MARGIN, batch.grace / 2)
            crew.stop(interruption.by)
        while waiting and not stopped and crew.idle:
            crew.give(waiting)
        if not waiting or stopped:
            crew.release()
        for outcome in crew.ended(TICK, None if stopped else waiting):
            if outcome.status is Status.HELD and not stopped and (film := crew.postpone(outcome.number)):
                tally.say(postponed(film, outcome))
                waiting.append(film)
                continue
            tally.over(outcome)
            yield outcome
            stopped |= outcome.status is Status.INTERRUPTED or (batch.fail_fast and outcome.status is Status.FAILED)
        for number, step, said in crew.looks():
            if step:
                tally.step(number, step)
            for line in said:
                tally.say(line)
        if stopped:
            yield from map(left, waiting)
            waiting.clear()
        if until is not None and time.monotonic() > until:
            yield from crew.abandon(f"stopped by {interruption.by} in the middle of a block")


class _Crew:
    """The actors, which film each renders, and what Ray reports about them."""

    def __init__(self, ray: ModuleType, retries: int, needs: dict[str, int]) -> None:
        self._ray = ray
        self._actor = ray.remote(num_cpus=needs["CPU"], num_gpus=needs["GPU"], max_restarts=-1,
                                 concurrency_groups={"watch": 1})(Hand)
        self._given = (retries, needs["CPU"], os.getcwd(), __version__)
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, Film]] = {}  # a pending result → the actor and its film
        self._models: dict[Any, str] = {}  # the model that an actor has loaded
        self._asked: dict[Any, Film] = {}
        self._lost: Counter[int] = Counter()  # how often a film's actor was lost
        self._hasty: dict[int, Film] = {}  # films that are not waited for if another process renders them
        self._postponed: set[int] = set()

    def hire(self, count: int) -> None:
        self.idle += [self._actor.remote(*self._given) for _ in range(count)]

    def give(self, waiting: deque[Film]) -> None:
        """Give a free actor the next film, preferably one of the model it has loaded. The last films are waited for if
        another process renders them, and those whose actor was lost: its lock may be all that is left of it."""
        actor = self.idle.pop()
        new = [film for film in waiting if film.number not in self._postponed] or waiting
        film = next((film for film in new if film.job.model == self._models.get(actor)), new[0])
        waiting.remove(film)
        self._models[actor] = film.job.model
        if waiting and film.number not in self._postponed and not self._lost[film.number]:
            self._hasty[film.number], seconds = film, 0.0
        else:
            self._hasty.pop(film.number, None)
            seconds = max(PATIENCE, film.job.request.wait)
        self.busy[actor.make.remote(film.waited(seconds))] = actor, film

    def postpone(self, number: int) -> Film | None:
        """A film that was not waited for, to be given again at the end; None if it was."""
        film = self._hasty.pop(number, None)
        if film:
            self._postponed.add(number)
        return film

    def ended(self, seconds: float, waiting: deque[Film] | None) -> Iterator[Outcome]:
        """The outcomes since the last call. A film whose actor was lost goes back to the head of the queue, unless the
        batch is ending."""
        ready, _ = self._ray.wait(list(self.busy), num_returns=1, timeout=seconds) if self.busy else ([], [])
        for promise in ready:
            actor, film = self.busy.pop(promise)
            try:
                outcome = self._ray.get(promise)
            except self._ray.exceptions.RayError as error:  # the actor is replaced
                self._kill(actor)
                self.hire(1)
                self._lost[film.number] += 1
                losses = self._lost[film.number]
                if waiting is not None and losses <= LOST and _worth_repeating(self._ray, error):
                    waiting.appendleft(film)
                else:
                    problem = _actor_error(self._ray, film, error, losses)
                    yield failed(film.number, film.source, problem, film=str(film.job.outputs.film.path))
            else:
                self.idle.append(actor)
                yield outcome

    def looks(self) -> Iterator[tuple[int, Step | None, list[str]]]:
        """Collects the progress and messages that were asked for last time and have arrived; then asks all again."""
        ready, _ = (
            self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0) if self._asked else ([], [])
        )
        making = {film.number for _, film in self.busy.values()}
        for answer in ready:
            film = self._asked.pop(answer)
            with suppress(self._ray.exceptions.RayError):  # it is being restarted
                step, said = self._ray.get(answer)
                yield film.number, step if film.number in making else None, said
        waited_for = {film.number for film in self._asked.values()}
        for actor, film in self.busy.values():
            if film.number not in waited_for:
                self._asked[actor.look.options(concurrency_group="watch").remote()] = film

    def stop(self, by: str) -> None:
        """Ask every actor to stop at the next block."""
        for actor, _ in self.busy.values():
            actor.stop.options(concurrency_group="watch").remote(by)

    def release(self) -> None:
        """Release actors that have nothing left to do: a replacement for a lost actor may need their place."""
        while self.idle:
            self._kill(self.idle.pop())

    def abandon(self, message: str) -> Iterator[Outcome]:
        for _, film in self.busy.values():
            yield failed(
                film.number, film.source, Interrupted(f"{film.source}: {message}"), film=str(film.job.outputs.film.path)
            )
        self.dismiss()

    def dismiss(self) -> None:
        self.release()
        for actor, _ in self.busy.values():
            self._kill(actor)
        self.busy.clear()

    def _kill(self, actor: Any) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)


def _ray() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise MissingError(
            "--engine ray needs Ray, which is not installed here", "Run `pip install 'echo-cli[farm]'`."
        ) from None
    return ray


@contextmanager
def _cluster(ray: ModuleType, address: str | None) -> Iterator[None]:
    """Connected to a cluster: the one this process is already in, the one at `address` or RAY_ADDRESS, or a local
    one."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own = {"num_cpus": cores(),
           "object_store_memory": OBJECTS, "include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        if address == "local":
            raise MissingError(f"Ray does not start here: {reason}",
                               "See its logs in the folder `ray` among the temporary files.") from None
        raise MissingError(
            f"no Ray cluster answers at {address}: {reason}",
            "Start one with `ray start --head`, or leave out --address to start one here. For a cluster that needs "
            "its token, set RAY_AUTH_MODE=token.",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Check that something answers at HOST:PORT; Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if colon and "//" not in address and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK).close()


def _room(ray: ModuleType, batch: BatchRequest) -> tuple[int, dict[str, int]]:
    """How many actors fit, and what each needs: a GPU if the cluster has any, unless the CPU is asked for."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = {kind: max((int(node.get(kind, 0)) for node in nodes), default=0) for kind in ("CPU", "GPU")}
    if batch.device == "cuda" and not most["GPU"]:
        raise MissingError(
            "no machine of the Ray cluster has a GPU", "Use --device auto, or add machines that have one."
        )
    cpus = batch.cpus_per_actor or max(1, min(CPUS, most["CPU"]))
    needs = {"CPU": cpus, "GPU": int(batch.device != "cpu" and most["GPU"] > 0)}
    room = sum(min(int(node.get(kind, 0)) // need for kind, need in needs.items() if need) for node in nodes)
    if not room:
        raise MissingError(f"no machine of the Ray cluster has room for an actor of {needs['CPU']} CPUs"
                           + (" and a GPU" if needs["GPU"] else "") + f"; the largest has {most['CPU']} CPUs",
                           "Use a smaller --cpus-per-actor, or add a larger machine.")
    return room, needs


def _worth_repeating(ray: ModuleType, error: Exception) -> bool:
    """Whether the actor was lost, rather than unable to start or failing by itself."""
    return not isinstance(error, ray.exceptions.RayTaskError) and not getattr(error, "actor_init_failed", False)


def _actor_error(ray: ModuleType, film: Film, error: Exception, losses: int) -> EchoError:
    """What an actor's end means to a person; `losses` counts those of this film."""
    reason = " ".join(str(error).split())
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return OutOfMemory(f"{film.source}: Ray ended its actor because the machine's memory was nearly full",
                           "Use a smaller --size or memory, or give each actor more of the machine (--cpus-per-actor).")
    if getattr(error, "actor_init_failed", False):
        return MissingError(f"{film.source}: its actor cannot start: {reason}",
                            "Every machine needs the same version of `echo-cli`.")
    if isinstance(error, ray.exceptions.RayTaskError):
        return EchoError(f"{film.source}: its actor failed: {reason}", "See the logs of Ray on that machine.")
    often = f" {losses} times" if losses > 1 else ""
    return EchoError(f"{film.source}: its actor was lost{often}: {reason}", "See the logs of Ray on that machine.")
