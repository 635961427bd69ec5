"""Films one after another: one failure is not another's, what may pass is tried again, models are loaded once."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from echo_cli.errors import EchoError, Exit, Interrupted, MissingError, OutOfMemory, OutputError, UsageError
from echo_cli.models.registry import MODELS
from echo_cli.models.running import Running
from echo_cli.render import budget, lock, session
from echo_cli.render import film as making
from echo_cli.render.batch import attempts, local
from echo_cli.render.batch.attempts import make_film
from echo_cli.render.batch.outcome import WORST_FIRST, Film, Outcome, Status, exit_code, failed, left
from echo_cli.render.batch.request import BatchRequest
from echo_cli.render.batch.tally import Tally
from echo_cli.render.job import Job
from echo_cli.render.lock import OneWriter
from echo_cli.render.progress import Progress
from echo_cli.render.resume import Work
from echo_cli.render.session import Loaded, Session
from echo_cli.render.signals import Interruption
from tests.render import stage

SHORT = "scenes: [{id: a, prompt: a red ball, duration: 0.5s}]"


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    monkeypatch.setattr(attempts, "wait", lambda seconds, interruption: None)
    monkeypatch.setattr(session, "wait", lambda seconds, interruption: None)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """Makes the first makings fail, each in its way; which attempts there were."""

    def install(*errors: BaseException) -> list[int]:
        tried: list[int] = []
        make = making.make

        def probe(*arguments: object) -> object:
            tried.append(len(tried) + 1)
            if len(tried) <= len(errors):
                raise errors[len(tried) - 1]
            return make(*arguments)

        monkeypatch.setattr(making, "make", probe)
        return tried

    return install


def film(folder: Path, number: int = 1, **options) -> Film:
    return Film(number, f"{number}.yaml", stage.job(folder, SHORT, f"{number}.mp4", **options))


def made(one: Film, retries: int = 0) -> Outcome:
    return make_film(Session(), one, retries, Progress(), Interruption())


def test_a_film_is_made_and_then_skipped(tmp_path: Path) -> None:
    first = made(film(tmp_path))
    assert (first.status, first.exit_code, first.pictures, first.attempts) == (Status.MADE, Exit.DONE, 8, 1)
    assert first.sha256 and (tmp_path / "1.manifest.json").exists()
    assert made(film(tmp_path)).status is Status.SKIPPED
    assert made(film(tmp_path, force=True)).status is Status.MADE


def test_ffmpeg_is_tried_out_before_a_model_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(session, "load_backend", never)
    with pytest.raises(UsageError, match="ffmpeg cannot encode with"):
        Session().make(stage.job(tmp_path, SHORT, codec="nope", preset=None), Progress(), Interruption())


@pytest.mark.parametrize("threads", [1, 3])
def test_a_small_model_is_loaded_with_one_thread(threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, seen, before = session.load_backend, [], torch.get_num_threads()
    monkeypatch.setattr(session, "load_backend",
                        lambda *given: (seen.append(torch.get_num_threads()), load(*given))[1])
    try:
        torch.set_num_threads(threads)
        assert made(film(tmp_path)).status is Status.MADE
        assert (seen, torch.get_num_threads()) == ([1], threads)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("error", [OutputError("full"), torch.OutOfMemoryError("small"), RuntimeError("odd")])
def test_what_may_pass_is_tried_again(error: Exception, tmp_path: Path, failing: Callable) -> None:
    attempts = failing(error, error)
    outcome = made(film(tmp_path), retries=2)
    assert (outcome.status, outcome.attempts, attempts) == (Status.MADE, 3, [1, 2, 3])


@pytest.mark.parametrize(
    ("error", "retries", "attempts"),
    [
        (UsageError("never"), 5, 1),
        (MissingError("no device"), 5, 1),
        (Interrupted("stopped"), 5, 1),
        (OutputError("full"), 0, 1),
        (OutputError("full"), 2, 3),
    ],
)
def test_what_will_not_pass_is_not_and_retries_end(error: EchoError, retries: int, attempts: int, tmp_path: Path,
                                                   failing: Callable) -> None:
    failing(*[error] * 9)
    outcome = made(film(tmp_path), retries=retries)
    assert (outcome.exit_code, outcome.message, outcome.attempts) == (error.exit_code, error.message, attempts)
    assert outcome.status is (Status.INTERRUPTED if isinstance(error, Interrupted) else Status.FAILED)


def test_an_output_that_is_somebody_elses_is_not_tried_again(tmp_path: Path, failing: Callable) -> None:
    attempts = failing()
    (tmp_path / "1.mp4").write_text("mine")
    outcome = made(film(tmp_path), retries=3)
    assert (outcome.exit_code, outcome.attempts, attempts) == (Exit.OUTPUT, 1, []) and "exists" in outcome.message
    assert (tmp_path / "1.mp4").read_text() == "mine"


def test_a_writer_that_was_lost_with_its_machine_is_outwaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = film(tmp_path)
    elsewhere = replace(lock.Holder.here(), host="gone", machine="another boot")
    Work(one.job.outputs).lock.write_text(json.dumps(asdict(elsewhere)))
    impatient = made(one)
    assert (impatient.status, impatient.exit_code) == (Status.HELD, 75) and "on gone" in impatient.message
    monkeypatch.setattr(lock, "STALE", 0.5)
    assert make_film(Session(), one.waited(30.0), 0, Progress(), Interruption()).status is Status.MADE


def test_a_fault_of_ours_is_told_with_its_traceback(tmp_path: Path, failing: Callable) -> None:
    failing(ZeroDivisionError("by zero"))
    outcome = made(film(tmp_path))
    assert (outcome.exit_code, outcome.message) == (Exit.FAULT, "1.yaml: ZeroDivisionError: by zero")
    assert "Traceback" in outcome.fault and "in _attempt" in outcome.fault


def test_a_device_that_is_not_here_fails_the_films_and_nothing_else(tmp_path: Path) -> None:
    outcome = made(film(tmp_path, device="cuda:99"))
    assert (outcome.exit_code, outcome.status) == (Exit.MISSING, Status.FAILED) and "cuda:99" in outcome.message


def run(films: list[Film], interruption: Interruption | None = None, **options) -> list[Outcome]:
    tally = Tally(films, len(films), Progress())
    return list(local.make_films(films, BatchRequest(**options), tally, interruption or Interruption()))


def test_each_model_is_loaded_once_and_even_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[str] = []

    def load(model: str, runtime: object, running: object, generator: Path | None) -> object:
        loaded.append(model)
        if model == "broken":
            raise MissingError("no weights")
        return stage.backend()

    monkeypatch.setattr(session, "load_backend", load)
    monkeypatch.setattr(session, "known_digest", lambda model, generator: None)
    monkeypatch.setattr("echo_cli.render.job.spec_named", lambda model, generator: stage.SPEC)
    monkeypatch.setattr(budget, "choose", lambda job, spec, runtime, running: (running, None))
    films = [film(tmp_path, number) for number in range(1, 7)]
    films = [replace(one, job=replace(one.job, model=model))
             for one, model in zip(films, ["one", "broken", "one", "two", "broken", "two"], strict=True)]
    outcomes = run(films)
    assert loaded == ["one", "broken", "two"]
    assert [(outcome.number, outcome.exit_code) for outcome in outcomes] == [
        (1, 0),
        (3, 0),
        (2, 3),
        (5, 3),
        (4, 0),
        (6, 0),
    ]


def test_larger_pictures_come_first_so_that_room_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    choose = budget.choose
    monkeypatch.setattr(budget, "choose", lambda job, *rest: asked.append(job.size) or choose(job, *rest))
    sizes = [(64, 32), (96, 64), (64, 64), (96, 64)]
    films = [Film(number, f"{number}.yaml", stage.job(tmp_path, SHORT, f"{number}.mp4", size=size))
             for number, size in enumerate(sizes, 1)]
    assert [outcome.number for outcome in run(films)] == [2, 4, 3, 1] and asked == [(96, 64)]
    once, again = Session(), [replace(one, job=replace(one.job, request=replace(one.job.request, force=True)))
                             for one in films[:3]]
    assert [make_film(once, one, 0, Progress(), Interruption()).exit_code for one in again] == [0, 0, 0]
    assert asked[1:] == [(64, 32), (96, 64)]


def test_a_film_too_large_for_the_machine_does_not_fail_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(job: Job, spec: object, runtime: object, running: Running) -> tuple[Running, str]:
        if job.size == (96, 64):
            raise OutOfMemory("too large")
        return running, "just enough"

    monkeypatch.setattr(budget, "choose", choose)
    films = [Film(number, f"{number}.yaml", stage.job(tmp_path, SHORT, f"{number}.mp4", size=size))
             for number, size in ((1, (64, 64)), (2, (96, 64)))]
    assert [(outcome.number, outcome.exit_code) for outcome in run(films)] == [(2, Exit.MEMORY), (1, Exit.DONE)]


def test_one_failure_stops_the_rest_only_when_asked(tmp_path: Path, failing: Callable) -> None:
    films = [film(tmp_path, number) for number in (1, 2, 3)]
    failing(OutputError("full"))
    assert [outcome.status for outcome in run(films)] == [Status.FAILED, Status.MADE, Status.MADE]
    failing(UsageError("wrong"))
    again = [film(tmp_path, number, force=True) for number in (1, 2, 3)]
    assert [outcome.status for outcome in run(again, fail_fast=True)] == [
        Status.FAILED,
        Status.LEFT,
        Status.LEFT,
    ]
    assert [outcome.status for outcome in run(films, fail_fast=True)] == [Status.MADE, Status.SKIPPED, Status.SKIPPED]


def test_a_signal_leaves_the_rest(tmp_path: Path) -> None:
    films = [film(tmp_path, number) for number in (1, 2)]
    interruption = Interruption()
    interruption.by = "SIGTERM"
    outcomes = run(films, interruption)
    assert [outcome.status for outcome in outcomes] == [Status.INTERRUPTED, Status.LEFT]
    assert exit_code(outcomes) is Exit.INTERRUPTED and not list(tmp_path.iterdir())


def test_the_exit_code_is_what_a_farm_should_answer_first(tmp_path: Path) -> None:
    class Of(EchoError):
        def __init__(self, code: Exit) -> None:
            super().__init__("failed")
            self.exit_code = code

    assert set(WORST_FIRST) == set(Exit) - {Exit.DONE, Exit.READER_GONE}  # no film of a batch goes into a pipe
    all_failures = [failed(number, "", Of(code)) for number, code in enumerate(reversed(WORST_FIRST))]
    for worst in WORST_FIRST:
        assert exit_code([left(film(tmp_path)), *all_failures]) is worst
        all_failures.pop()
    assert exit_code([left(film(tmp_path))]) is Exit.DONE and exit_code([]) is Exit.DONE


def test_an_outcome_says_only_what_there_is() -> None:
    assert failed(2, "a.yaml", UsageError("wrong", "mend it")).plain(5) == {
        "job": 2,
        "jobs": 5,
        "storyboard": "a.yaml",
        "status": "failed",
        "exit_code": 2,
        "message": "wrong",
        "hint": "mend it",
    }


@pytest.mark.parametrize("patience", [0.0, 60.0])
@pytest.mark.parametrize("while_loading", [False, True])
def test_a_film_that_another_process_makes_is_waited_for_or_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patience: float, while_loading: bool
) -> None:
    """Whether the other has begun before, or while this one loads the model."""
    waited = film(tmp_path, wait=patience)
    work = Work(waited.job.outputs)
    other, load = OneWriter(work.lock, work.film), Session.load
    begins = iter([other.__enter__])
    if while_loading:
        monkeypatch.setattr(Session, "load", lambda *given: (next(begins, lambda: None)(), load(*given))[1])
    else:
        next(begins)()
    monkeypatch.setattr(session, "wait", lambda seconds, interruption: other.__exit__())  # it ends while we wait
    with Interruption() as interruption:
        outcome = attempts.make_film(Session(), waited, 0, Progress(), interruption)
    if patience:
        assert (outcome.status, outcome.exit_code) == (Status.MADE, 0)
    else:
        assert (outcome.status, outcome.exit_code) == (Status.HELD, 75) and "--wait" in outcome.hint
        other.__exit__()


def test_what_is_told_before_the_first_block_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited, told = film(tmp_path, wait=60.0), []
    work = Work(waited.job.outputs)
    other = OneWriter(work.lock, work.film)

    def ready(loaded: Loaded) -> None:
        told.append(loaded)
        other.__enter__()

    monkeypatch.setattr(session, "wait", lambda seconds, interruption: other.__exit__())
    with Interruption() as interruption:
        assert Session().make(waited.job, Progress(), interruption, ready)
    assert len(told) == 1
