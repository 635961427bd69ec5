"""The engine of a cluster: room and refusals with a stand-in for Ray; losses with a real cluster of two machines
here."""

import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch

from echo_cli import __version__
from echo_cli.cli.app import run
from echo_cli.errors import MissingError, UsageError
from echo_cli.files import sha256
from echo_cli.models.registry import MODELS
from echo_cli.render.batch import local, ray_engine
from echo_cli.render.batch.outcome import Film, Outcome, Status
from echo_cli.render.batch.request import BatchRequest
from echo_cli.render.batch.tally import Tally
from echo_cli.render.progress import Progress
from echo_cli.render.signals import Interruption
from tests.cli.test_pictures import paint
from tests.render import stage

ROOT = Path(__file__).parents[3]


ONE_CPU = BatchRequest(device="cpu", cpus_per_actor=1)


def cluster_of(*nodes: dict[str, float]) -> SimpleNamespace:
    return SimpleNamespace(nodes=lambda: [{"Alive": True, "Resources": node} for node in nodes] + [
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}}])


@pytest.mark.parametrize(("nodes", "options", "room", "needs"), [
    ([{"CPU": 2.0}], {}, 1, {"CPU": 2, "GPU": 0}),
    ([{"CPU": 16.0}, {"CPU": 10.0}], {}, 6, {"CPU": 4, "GPU": 0}),
    ([{"CPU": 16.0}], {"cpus_per_actor": 3}, 5, {"CPU": 3, "GPU": 0}),
    ([{"CPU": 32.0, "GPU": 4.0}, {"CPU": 8.0}], {}, 4, {"CPU": 4, "GPU": 1}),
    ([{"CPU": 6.0, "GPU": 4.0}], {"cpus_per_actor": 2}, 3, {"CPU": 2, "GPU": 1}),
    ([{"CPU": 8.0, "GPU": 4.0}], {"device": "cpu"}, 2, {"CPU": 4, "GPU": 0}),
    ([{"CPU": 8.0, "GPU": 1.0}], {"device": "cuda"}, 1, {"CPU": 4, "GPU": 1}),
])
def test_an_actor_a_gpu_or_so_many_cpus(nodes: list[dict], options: dict, room: int, needs: dict[str, int]) -> None:
    assert ray_engine._room(cluster_of(*nodes), BatchRequest(**options)) == (room, needs)


@pytest.mark.parametrize(("options", "said"), [
    ({"device": "cuda"}, "no machine of the Ray cluster has a GPU"),
    ({"cpus_per_actor": 9}, "room for an actor of 9 CPUs; the largest has 8 CPUs"),
])
def test_a_cluster_without_room_is_refused(options: dict, said: str) -> None:
    with pytest.raises(MissingError) as caught:
        ray_engine._room(cluster_of({"CPU": 8.0}, {"CPU": 2.0}), BatchRequest(**options))
    assert said in caught.value.message


def test_without_ray_it_says_what_to_install(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text("scenes: [{id: a, prompt: a red ball, duration: 0.5s}]")
    assert run(["batch", "a.yaml", "--engine", "ray"]) == 3
    assert "needs Ray" in (messages := capsys.readouterr().err) and "echo-cli[farm]" in messages


def test_a_single_gpu_cannot_be_chosen_for_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_engine, "_ray", lambda: SimpleNamespace())
    with pytest.raises(UsageError, match="Ray decides which GPU"):
        next(ray_engine.make_films([], BatchRequest(device="cuda:1"), Tally([], 0, Progress()), Interruption()))


def test_a_cluster_that_is_not_there_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        quiet = SimpleNamespace(
            is_initialized=lambda: False, init=lambda **options: pytest.fail("Ray would try for minutes")
        )
        with (
            pytest.raises(MissingError, match=f"no Ray cluster answers at {address}"),
            ray_engine._cluster(quiet, address),
        ):
            pass


def test_an_actor_of_another_version_does_not_begin() -> None:
    with pytest.raises(RuntimeError, match="0.0.0 where the batch was called"):
        ray_engine.Hand(0, 1, ".", "0.0.0")


STORY = (
    "seed: {seed}\nscenes: [{{id: a, prompt: a red ball, duration: {scene}s}}, "
    "{{id: b, prompt: a blue box, duration: {scene}s}}]"
)


def films(folder: Path, count: int, scene: int = 10) -> list[Film]:
    folder.mkdir()
    return [Film(number, f"{number}.yaml", stage.job(folder, STORY.format(seed=number, scene=scene), f"{number}.mp4"))
            for number in range(1, count + 1)]


class Unanswered(Exception):
    """As Ray tells of a machine that does not answer."""


class Fault(Unanswered):
    """As Ray tells of an error inside an actor."""


def ray_that(answers: list[Outcome | Exception]) -> SimpleNamespace:
    """A stand-in for Ray that gives one answer a film; `hired` and `killed` are its actors, `given` the
    films that these were given and how long each is waited for."""

    def hire(*given: object) -> Mock:
        actor = Mock()
        actor.make.remote = lambda film: ray.given.append((film.number, film.job.request.wait)) or answers.pop(0)
        ray.hired.append(actor)
        return actor

    def get(answer: Outcome | Exception) -> Outcome:
        if isinstance(answer, Exception):
            raise answer
        return answer

    ray = SimpleNamespace(
        given=[],
        hired=[],
        killed=[],
        get=get,
        remote=lambda **needs: lambda hand: SimpleNamespace(remote=hire),
        wait=lambda promises, **how: (promises[:1] if isinstance(promises[0], Outcome | Exception) else [], []),
        exceptions=SimpleNamespace(RayError=Unanswered, RayTaskError=Fault, OutOfMemoryError=MemoryError),
    )
    ray.kill = ray.killed.append
    return ray


def made(film: Film) -> Outcome:
    return Outcome(film.number, film.source, Status.MADE)


def handed_out(ray: SimpleNamespace, wanted: list[Film]) -> list[Outcome]:
    crew = ray_engine._Crew(ray, 0, {"CPU": 1, "GPU": 0})
    tally = Tally(wanted, len(wanted), Progress())
    return list(ray_engine._hand_out(crew, wanted, 1, BatchRequest(), tally, Interruption()))


def test_a_film_whose_actor_was_lost_goes_on_with_another(tmp_path: Path) -> None:
    wanted = films(tmp_path / "films", 2)
    ray = ray_that(
        [Unanswered("a"), Unanswered("b"), Unanswered("c"), made(wanted[0]), Unanswered("d"), made(wanted[1])]
    )
    assert [(outcome.number, outcome.status) for outcome in handed_out(ray, wanted)] == [
        (1, Status.MADE),
        (2, Status.MADE),
    ]
    assert len(ray.hired) == 5 and ray.killed[:3] == ray.hired[:3]


def test_a_film_that_loses_every_actor_is_given_up_and_the_next_is_made(tmp_path: Path) -> None:
    wanted = films(tmp_path / "films", 2)
    outcomes = handed_out(ray_that([Unanswered("gone")] * (ray_engine.LOST + 1) + [made(wanted[1])]), wanted)
    assert [(outcome.number, outcome.status) for outcome in outcomes] == [(1, Status.FAILED), (2, Status.MADE)]
    assert "its actor was lost 4 times: gone" in (outcomes[0].message or "")


def test_an_error_of_its_own_is_not_repeated(tmp_path: Path) -> None:
    wanted = films(tmp_path / "films", 1)
    outcome, = handed_out(ray_that([Fault("a bug"), made(wanted[0])]), wanted)
    assert outcome.status is Status.FAILED and "its actor failed: a bug" in (outcome.message or "")


def held(film: Film) -> Outcome:
    return Outcome(film.number, film.source, Status.HELD, 75, message="another process renders it")


def test_a_film_that_another_process_renders_is_put_off_to_the_end(tmp_path: Path) -> None:
    wanted = films(tmp_path / "films", 3)
    ray = ray_that([held(wanted[0]), made(wanted[1]), held(wanted[2]), made(wanted[0]), held(wanted[2])])
    assert [(outcome.number, outcome.status) for outcome in handed_out(ray, wanted)] == [
        (2, Status.MADE), (1, Status.MADE), (3, Status.HELD)]
    assert ray.given == [(1, 0), (2, 0), (3, 0), (1, ray_engine.PATIENCE), (3, ray_engine.PATIENCE)]


def test_a_film_is_waited_for_as_long_as_was_asked(tmp_path: Path) -> None:
    wanted = [film.waited(3600) for film in films(tmp_path / "films", 1)]
    ray = ray_that([held(wanted[0])])
    assert [outcome.status for outcome in handed_out(ray, wanted)] == [Status.HELD] and ray.given == [(1, 3600)]


def test_after_a_signal_no_film_is_begun_again(tmp_path: Path) -> None:
    crew = ray_engine._Crew(ray_that([Unanswered("gone")]), 0, {"CPU": 1, "GPU": 0})
    crew.hire(1)
    crew.give(deque(films(tmp_path / "films", 1)))
    assert [outcome.status for outcome in crew.ended(0, None)] == [Status.FAILED] and not crew.busy


COMING_IN = {
    "picture": "scenes: [{id: a, picture: meadow.png, prompt: a red ball, duration: 1s}]",
    "series": "series: first.scenes\nscenes: [{id: a, prompt: a blue box, duration: 1s}, "
              "{id: b, transition: 'recall:first/meadow', prompt: a red ball, duration: 1s}]",
    "continue": "continue: first.end\nscenes: [{id: a, transition: hard cut, prompt: a red ball, duration: 1s}]",
}


@pytest.fixture
def boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of storyboards that need other files, by paths relative to it, and a film that left two of these."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    folder = tmp_path / "boards"
    folder.mkdir()
    paint(folder / "meadow.png", 1)
    first = tmp_path / "first.yaml"
    first.write_text("keep_scenes: true\nscenes: [{id: meadow, prompt: a red ball on a meadow, duration: 2s}]")
    assert run(["generate", str(first), "-o", str(folder / "first.mp4"), "--keep-end", "--quiet"]) == 0
    (folder / "first.mp4").unlink()
    for name, story in COMING_IN.items():
        (folder / f"{name}.yaml").write_text(story)
    monkeypatch.chdir(tmp_path)
    return folder


def batch(folder: str, *arguments: str) -> dict[str, str]:
    """The sha256 of each film of the storyboards, by its name."""
    assert run(["batch", "boards", "--out-dir", folder, "--device", "cpu", "--quiet", *arguments]) == 0
    return {path.name: sha256(path) for path in sorted(Path(folder).glob("*.mp4"))}


def test_what_comes_into_a_film_reaches_an_actor(boards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in hands films over as Ray does, pickled."""
    ray = ray_that([])
    hand = ray_engine.Hand(0, torch.get_num_threads(), os.getcwd(), __version__)
    hire = ray.remote

    def remote(**needs: object) -> Callable[[type], SimpleNamespace]:
        def actor(*given: object) -> Mock:
            mock = hire(**needs)(None).remote(*given)
            mock.make.remote = lambda film: pickle.loads(pickle.dumps(hand.make(pickle.loads(pickle.dumps(film)))))
            return mock
        return lambda hand: SimpleNamespace(remote=actor)

    ray.remote, ray.is_initialized = remote, lambda: True
    ray.nodes = cluster_of({"CPU": 1.0}).nodes
    monkeypatch.setattr(ray_engine, "_ray", lambda: ray)
    made = batch("far", "--engine", "ray", "--cpus-per-actor", "1")
    assert len(made) == 3 and made == batch("near")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A head without CPUs and two machines with one each; what they run knows the small model."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 3}
    small = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick, **small})
    cluster.machines = [cluster.add_node(num_cpus=1, **small) for _ in range(2)]
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR",
                 runtime_env={"worker_process_setup_hook": "tests.render.stage.install"})
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def at_work(machine: object) -> list[int]:
    """The processes of a machine's actors that are making a film at this moment."""
    import psutil

    raylet, = (process.process for process in machine.all_processes["raylet"])
    results = []
    for child in psutil.Process(raylet.pid).children(recursive=True):
        with suppress(psutil.Error):  # it is gone by now
            results += [child.pid] * ("Hand.make" in " ".join(child.cmdline()))
    return results


def when_at_work(machine: object, strike: Callable[[int], object], struck: list[int]) -> None:
    """Calls `strike` with the process of an actor in the middle of a film, and notes that it has."""
    def watch() -> None:
        while not (result := at_work(machine)):
            time.sleep(0.05)
        strike(result[0])
        struck.append(result[0])

    threading.Thread(target=watch, daemon=True).start()


@pytest.mark.slow
def test_a_lost_actor_and_a_lost_machine_cost_no_film(
    cluster: object, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = films(tmp_path / "cluster", 12)
    outcomes: list[Outcome] = []
    struck: list[int] = []
    first, second = cluster.machines
    for outcome in ray_engine.make_films(wanted, ONE_CPU, Tally(wanted, 12, Progress()), Interruption()):
        outcomes.append(outcome)
        if len(outcomes) == 2:
            when_at_work(first, lambda process: os.kill(process, signal.SIGKILL), struck)
        if len(outcomes) == 5:
            when_at_work(second, lambda process: cluster.remove_node(second, allow_graceful=False), struck)
    assert len(struck) == 2
    assert capfd.readouterr().out == ""
    assert sorted(outcome.number for outcome in outcomes) == list(range(1, 13))
    assert {outcome.status for outcome in outcomes} == {Status.MADE}

    alone = films(tmp_path / "alone", 12)
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    sequential = list(local.make_films(alone, ONE_CPU, Tally(alone, 12, Progress()), Interruption()))
    assert {outcome.number: outcome.sha256 for outcome in outcomes} == {
        outcome.number: outcome.sha256 for outcome in sequential
    }
    assert {path.name for path in (tmp_path / "cluster").iterdir()} == {
        path.name for path in (tmp_path / "alone").iterdir()
    }


@pytest.mark.slow
def test_what_comes_into_films_reaches_the_actors_of_a_cluster(boards: Path, cluster: object) -> None:
    made = batch("far", "--engine", "ray", "--cpus-per-actor", "1")
    assert len(made) == 3 and made == batch("near")


@pytest.mark.slow
def test_a_signal_reaches_the_actors(cluster: object, tmp_path: Path) -> None:
    # Too long to be done before the word arrives.
    wanted, interruption = films(tmp_path / "cluster", 5, scene=150), Interruption()
    results: list[float] = []

    class Watching(Progress):
        every = 0.0

        def tell(self, step, rate, left) -> None:
            results.append(step.percent)
            interruption.by = "SIGTERM"

    outcomes = list(ray_engine.make_films(wanted, ONE_CPU, Tally(wanted, 5, Watching()), interruption))
    statuses = [outcome.status for outcome in outcomes]
    assert results and sorted(outcome.number for outcome in outcomes) == [1, 2, 3, 4, 5]
    assert {Status.INTERRUPTED, Status.LEFT} <= set(statuses) <= {Status.INTERRUPTED, Status.LEFT, Status.MADE}
