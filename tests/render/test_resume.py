"""What an interrupted run leaves: noted whole or not at all, believed only to the letter, and never taken for another
film's."""

import errno
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from echo_cli.errors import Damaged, EchoError, Interrupted, OutOfMemory, OutputError, UsageError
from echo_cli.files import sha256
from echo_cli.render import resume
from echo_cli.render.decide import KnownWeights, needed
from echo_cli.render.film import make
from echo_cli.render.job import Job
from echo_cli.render.keeper import Keeper
from echo_cli.render.lock import OneWriter
from echo_cli.render.made import Made
from echo_cli.render.progress import Progress, Step
from echo_cli.render.resume import Cadence, Work
from echo_cli.render.signals import Interruption
from echo_cli.runtime import Runtime
from echo_cli.trace.reader import read_trace
from echo_cli.video import segments

from .stage import WEIGHTS, backend, job

CPU = Runtime(torch.device("cpu"), torch.float32)


class Keeping(NamedTuple):
    """How the runs of a test keep what they make."""

    every: float | None = 0
    restart: bool = False
    tell: Callable[[str], None] = lambda text: None

    def asked(self, task: Job) -> Job:
        return replace(task, request=replace(task.request, checkpoint_every=self.every, resume=not self.restart))


NEVER = Keeping()


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LENGTH", 20)


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The film waits until it is kept, as one whose memory is too large to be held twice."""
    monkeypatch.setattr("echo_cli.render.keeper.TWICE", -1)


class Stopping(Progress):
    """Does something when so many blocks have been written."""

    def __init__(self, block: int, then) -> None:
        super().__init__()
        self.block, self.then, self.blocks = block, then, []

    def step(self, step: Step) -> None:
        self.blocks.append(step.block)
        if len(self.blocks) == self.block:
            self.then()


def made(task: Job, keeping: Keeping = NEVER, progress: Progress | None = None, model=None) -> Made:
    progress = progress or Progress()
    progress.say = keeping.tell
    with Interruption(lambda text: None) as interruption:
        return make(keeping.asked(task), model or backend(), CPU, progress, interruption)


def stopped(task: Job, block: int, keeping: Keeping = NEVER) -> Interrupted:
    """A run that a signal stops when it has written so many blocks, one block later."""
    with Interruption(lambda text: None) as interruption, pytest.raises(Interrupted) as caught:
        stopping = Stopping(block, lambda: setattr(interruption, "by", "SIGTERM"))
        stopping.say = keeping.tell
        make(keeping.asked(task), backend(), CPU, stopping, interruption)
    return caught.value


def failed(task: Job, block: int, error: Exception, keeping: Keeping) -> EchoError:
    def fail() -> None:
        raise error

    return failed_by(task, block, fail, keeping)


def failed_by(task: Job, block: int, then: Callable[[], None], keeping: Keeping) -> EchoError:
    with pytest.raises(EchoError) as caught:
        made(task, keeping, Stopping(block, then))
    return caught.value


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.fixture
def unstruck(tmp_path: Path) -> str:
    (tmp_path / "unstruck").mkdir()
    return made(job(tmp_path / "unstruck")).outputs["film"].sha256


def folder(tmp_path: Path) -> Path:
    place = tmp_path / "film"
    place.mkdir(exist_ok=True)
    return place


@pytest.mark.parametrize("choices", [
    {}, {"memory": "recache"}, {"memory": "scene-queries", "settings": {"trained": False}},
], ids=str)
def test_a_film_that_was_stopped_three_times_is_the_film(tmp_path: Path, choices: dict) -> None:
    whole, messages = tmp_path / "whole", []
    whole.mkdir()
    place, keeping = folder(tmp_path), Keeping(every=0, tell=messages.append)
    for block in (2, 4, 6):
        error = stopped(job(place, **choices), 1, keeping)
        assert re.search(
            rf"after block {block} of 6; kept [1-9][\d.]* kB in .*film.resume \(never more than", error.message
        )
        assert "the same command again" in error.hint
        assert (
            files(place) >= {"film.resume/checkpoint.json", "film.trace.json.partial"}
            and not (place / "film.mp4").exists()
        )
    done = made(job(place, **choices), keeping)
    assert done.outputs["film"].sha256 == made(job(whole, **choices)).outputs["film"].sha256
    assert done.sittings == 4 and done.pictures == 66 and files(place) == files(whole)
    assert messages == [f"{place / 'film.mp4'}: resuming after block {block} of 6" for block in (2, 4, 6)]
    trace, other = (read_trace(each / "film.trace.json") for each in (place, whole))
    trace.check()
    assert trace.totals.blocks == 6 and trace.totals.scenes == 3 and len(trace) == 6
    for row, wanted in zip(trace.rows(), other.rows(), strict=True):
        row["measured"].pop("times"), wanted["measured"].pop("times")
        assert row == wanted
    assert json.loads((place / "film.manifest.json").read_text())["timings"]["sittings"] == 4


def test_a_sequence_goes_on_too(tmp_path: Path) -> None:
    whole, place = tmp_path / "whole" / "film", folder(tmp_path)
    stopped(job(place, name="%03d.png"), 3)
    assert (
        made(job(place, name="%03d.png")).outputs["film"].sha256
        == made(job(whole, name="%03d.png")).outputs["film"].sha256
    )
    assert files(place) == files(whole)


def test_captions_that_are_drawn_go_on_too(tmp_path: Path) -> None:
    from echo_cli.video.subtitles import Subtitles

    drawn = {"name": "%03d.png", "scale": 4, "subtitles": Subtitles.BURN}
    stopped(job(folder(tmp_path), **drawn), 3)
    actual, wanted = (made(job(place, **drawn)).outputs["film"] for place in (folder(tmp_path), tmp_path / "whole"))
    assert actual.sha256 == wanted.sha256


def test_what_was_made_is_not_made_again(tmp_path: Path) -> None:
    stopped(job(folder(tmp_path)), 3)
    watch = Stopping(0, None)
    made(job(folder(tmp_path)), progress=watch)
    assert watch.blocks == [5, 6]


def test_it_is_kept_as_often_as_asked(tmp_path: Path, unstruck: str, waiting: None) -> None:
    """And a run that fails between goes on from the last time, also over what came after it."""
    place = folder(tmp_path)
    done = made(job(place), Keeping(every=1e-9))
    assert done.kept.checkpoints == 6 and 0 < done.kept.bytes <= done.kept.bound and done.kept.seconds > 0
    (place / "film.mp4").unlink()
    for block in (1, 2, 3):
        error = failed(job(place), 2, OutputError("the disk is full", "Free some space."), Keeping(every=1e-9))
        assert error.hint == (
            f"Free some space. Everything up to block {block} of 6 is kept in {place}/film.resume. "
            "Run the same command again to resume."
        )
        assert len(list(place.glob("film.resume/state-*"))) == 1
    assert made(job(place)).outputs["film"].sha256 == unstruck


def test_out_of_memory_tells_what_to_lower_and_what_is_kept(tmp_path: Path, waiting: None) -> None:
    error = failed(job(folder(tmp_path)), 3, MemoryError(), Keeping(every=1e-9))
    assert (
        isinstance(error, OutOfMemory)
        and "--size" in error.hint
        and "--dtype" in error.hint
        and "memory.window" in error.hint
    )
    assert "up to block 2 of 6 is kept" in error.hint


def test_before_anything_is_kept_a_failure_leaves_the_trace_alone(tmp_path: Path) -> None:
    error = failed(job(folder(tmp_path)), 3, OutputError("the disk is full", "Free some space."), NEVER)
    assert error.hint == "Free some space." and files(folder(tmp_path)) == {"film.trace.json.partial"}


def test_what_is_noted_stays_also_when_a_second_signal_stops_at_once(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unstruck: str) -> None:
    """It comes when the very first note is whole, and before anybody has heard that."""
    def hurried(called) -> object:
        def both(*given: object) -> object:
            called(*given)
            raise Interrupted("stopped at once by SIGINT, after SIGTERM")
        return both

    with monkeypatch.context() as patch:
        patch.setattr(Work, "write", hurried(Work.write))
        error = stopped(job(folder(tmp_path)), 2)
    assert error.message.startswith("stopped at once") and "up to block 3 of 6 is kept" in error.hint
    done = made(job(folder(tmp_path)))
    assert done.sittings == 2 and done.outputs["film"].sha256 == unstruck


@pytest.mark.parametrize("message", ["stopped at once by SIGINT, after SIGINT", "stopped by SIGTERM in the middle"])
def test_a_signal_that_stops_before_anything_is_kept_says_so(tmp_path: Path, message: str) -> None:
    error = failed(job(folder(tmp_path)), 2, Interrupted(message), NEVER)
    assert error.hint == "Nothing is kept, since no checkpoint had been written."
    assert files(folder(tmp_path)) == {"film.trace.json.partial"}


def test_a_checkpoint_is_bounded(tmp_path: Path, waiting: None) -> None:
    """The longer film has no larger one."""
    scenes = "scenes: [{id: a, prompt: a red ball, duration: %ds}]"
    kept = [made(job(tmp_path, scenes % seconds, f"{seconds}.mp4"), Keeping(every=1e-9)).kept for seconds in (3, 6)]
    assert max(each.bytes for each in kept) <= kept[0].bound and kept[1].bound <= kept[0].bound * 1.01
    assert kept[1].checkpoints == 9


def test_a_note_that_cannot_be_written_meanwhile_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("the disk is full", "Free some space.")

    monkeypatch.setattr("echo_cli.render.keeper.write_state", full)
    with pytest.raises(OutputError, match="the disk is full"):
        made(job(folder(tmp_path)), Keeping(every=1e-9))
    assert files(folder(tmp_path)) == {"film.trace.json.partial"}


def test_a_note_that_cannot_be_written_while_the_film_waits_ends_the_run_too(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: None) -> None:
    """With what was kept before it, and without waiting for anything that never comes."""
    def full(*_: object) -> None:
        raise OutputError("the disk is full", "Free some space.")

    def fill() -> None:
        monkeypatch.setattr("echo_cli.render.keeper.write_state", full)

    ended: list[EchoError] = []

    def run() -> None:
        with pytest.raises(OutputError, match="the disk is full") as caught:
            made(job(folder(tmp_path)), Keeping(every=1e-9), Stopping(3, fill))
        ended.append(caught.value)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(30)
    assert ended and "up to block 2 of 6 is kept" in ended[0].hint


# Not of this film


@pytest.mark.parametrize(("choices", "why"), [
    ({"seed": 9}, "seed was 5, now 9"), ({"memory": "window"}, "memory was echo, now window"),
    ({"scale": 2}, "scale was 1, now 2"), ({"size": (64, 64)}, "size was"),
    ({"story": "scenes: [{id: a, prompt: a red ball, duration: 9s}]"}, "another storyboard"),
])
def test_another_film_is_refused_with_its_reason(tmp_path: Path, choices: dict, why: str) -> None:
    place = folder(tmp_path)
    stopped(job(place), 3)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    other = job(place, **choices)
    for attempt in (lambda: needed(other, KnownWeights(WEIGHTS)), lambda: made(other)):
        with pytest.raises(
            UsageError, match="was begun with other settings, and interrupted after block 4 of 6"
        ) as caught:
            attempt()
        assert ("another storyboard" in caught.value.message) is ("story" in choices)
        assert why in caught.value.message and "--restart" in caught.value.hint and caught.value.exit_code == 2
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert needed(Keeping(restart=True).asked(other), KnownWeights(WEIGHTS))
    assert made(other, Keeping(restart=True)).sittings == 1 and not (place / "film.resume").exists()


def test_other_weights_of_the_decoder_are_refused(tmp_path: Path) -> None:
    place = folder(tmp_path)
    task = replace(job(place), request=replace(job(place).request, decoder="light"))
    with Interruption(lambda text: None) as interruption, pytest.raises(Interrupted):
        stopping = Stopping(3, lambda: setattr(interruption, "by", "SIGTERM"))
        make(NEVER.asked(task), replace(backend(), decoder_hash="a" * 64), CPU, stopping, interruption)
    note = (place / "film.resume" / "checkpoint.json").read_bytes()
    other = KnownWeights(WEIGHTS, "b" * 64)
    for attempt in (lambda: needed(task, other), lambda: made(task, model=replace(backend(), decoder_hash="b" * 64))):
        with pytest.raises(UsageError, match="other weights of the decoder"):
            attempt()
    assert (place / "film.resume" / "checkpoint.json").read_bytes() == note
    assert made(task, model=replace(backend(), decoder_hash="a" * 64)).sittings == 2


def test_other_weights_version_device_or_shape_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = folder(tmp_path)
    stopped(job(place), 3)
    with pytest.raises(UsageError, match="other weights"):
        needed(job(place), KnownWeights("1" * 64))
    with pytest.raises(UsageError, match="other weights"):
        made(job(place), model=replace(backend(), weights_hash="1" * 64))
    with pytest.raises(UsageError, match=r"it was film.mp4, now film_%d.png"):
        needed(job(place, name="film_%d.png"), KnownWeights(WEIGHTS))
    for fact, value, why in (
        ("torch", "9.9", "torch was 9.9, now"),
        ("dtype", "bfloat16", "dtype was bfloat16, now float32"),
        ("device", "cuda", "device was cuda, now cpu"),
        ("compiled", True, "compiled was True, now False"),
        ("attention", "FlashAttention 3", "attention was FlashAttention 3, now torch"),
    ):
        rewrite(place, lambda note, change={fact: value}: note["machine"].update(change))
        with pytest.raises(UsageError, match=why):
            made(job(place))
    monkeypatch.setattr("echo_cli.render.job.__version__", "0.9.9")
    with pytest.raises(UsageError, match=r"version was .*, now 0.9.9"):
        needed(job(place), KnownWeights(WEIGHTS))


def rewrite(place: Path, change) -> None:
    """Another note, sealed as if a run had written it."""
    path = place / "film.resume" / "checkpoint.json"
    note = json.loads(path.read_text())
    kind = {name: note.pop(name) for name in ("format", "version", "sha256")}
    change(note)
    path.write_text(json.dumps({**kind, "sha256": resume._seal(note), **note}))


def test_another_processor_is_told_and_its_threads_are_taken_over(tmp_path: Path, unstruck: str) -> None:
    place, messages, seen = folder(tmp_path), [], []
    stopped(job(place), 2)
    here = torch.get_num_threads()
    rewrite(place, lambda note: note["machine"].update({"threads": here + 2, "processor": "AVX9"}))
    watch = Stopping(2, lambda: seen.append(torch.get_num_threads()))
    made(job(place), Keeping(every=0, tell=messages.append), watch)
    assert seen == [here + 2] and torch.get_num_threads() == here
    assert "begun on AVX9" in messages[0] and "last bits" in messages[0]


# Not whole


def harmed(content: bytes, every: int) -> Iterator[bytes]:
    yield from (content[:length] for length in range(0, len(content), every))
    for at in range(3, len(content), every // 2 + 1):
        yield content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1:]


@contextmanager
def refused(place: Path) -> Iterator[None]:
    with pytest.raises(Damaged) as caught:
        yield
    assert str(place) in caught.value.message
    assert caught.value.hint == "Use --restart to discard the checkpoint and start again."


def test_a_note_that_was_cut_or_changed_anywhere_is_refused(tmp_path: Path) -> None:
    place = folder(tmp_path)
    stopped(job(place), 3)
    note = place / "film.resume" / "checkpoint.json"
    content = note.read_bytes()
    for each in harmed(content, 100):
        note.write_bytes(each)
        with refused(place):
            needed(job(place), KnownWeights(WEIGHTS))
    other = content.replace(b'"version": 1', b'"version": 2')
    spelled = content.replace(b": ", b":  ", 1)  # the same values
    for each in (b"[]", b"null", b"{}", b'{"sha256": 1}', b"\xff\xfe", b"[" * 100_000, other, spelled):
        note.write_bytes(each)
        with refused(place):
            needed(job(place), KnownWeights(WEIGHTS))
    assert needed(Keeping(restart=True).asked(job(place)), KnownWeights(WEIGHTS))
    for each, why in ((b"[]", "it is not a JSON object"), (b"{}", "it does not give 'sha256'"), (b"\xff", "not UTF-8"),
                      (b"{", "not valid JSON at line 1, column 2"), (spelled, "its hash differs")):
        note.write_bytes(each)
        with pytest.raises(Damaged) as caught:
            Work(job(place).outputs).read()
        assert caught.value.message == f"{note} is damaged: {why}"


@pytest.mark.parametrize(
    "name",
    [
        "film.resume/state-*",
        "film.resume/segment-000001.mp4",
        "film.resume/pictures-000002.raw",
        "film.trace.json.partial",
    ],
)
def test_whatever_else_was_cut_or_changed_is_refused_and_nothing_is_spoiled(
    tmp_path: Path, unstruck: str, name: str
) -> None:
    place = folder(tmp_path)
    stopped(job(place), 3)
    path, = place.glob(name)
    content = path.read_bytes()
    cases = list(harmed(content, max(1000, len(content) // 6)))
    for each in cases:
        path.write_bytes(each)
        with refused(place):
            made(job(place))
    path.unlink()
    with refused(place):
        made(job(place))
    path.write_bytes(content)
    assert made(job(place)).outputs["film"].sha256 == unstruck


def test_a_damaged_one_can_be_discarded(tmp_path: Path, unstruck: str) -> None:
    place = folder(tmp_path)
    stopped(job(place), 3)
    (place / "film.resume" / "checkpoint.json").write_bytes(b"{")
    assert made(job(place), Keeping(restart=True)).outputs["film"].sha256 == unstruck
    assert "film.resume" not in files(place)


def test_what_no_run_noted_is_in_nobodys_way(tmp_path: Path, unstruck: str) -> None:
    place = folder(tmp_path)
    (place / "film.resume").mkdir()
    (place / "film.resume" / "segment-000000-abcd.mp4").write_bytes(b"left by a kill")
    assert needed(job(place), KnownWeights(WEIGHTS)) and made(job(place)).outputs["film"].sha256 == unstruck


# Beside other films and other processes


def test_a_film_that_is_made_anew_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    place = folder(tmp_path)
    made(job(place, seed=9))
    before = {name: (place / name).read_bytes() for name in files(place)}
    stopped(job(place), 3)
    assert {name: (place / name).read_bytes() for name in before} == before
    with pytest.raises(OutputError, match="seed was 9, now 5"):
        needed(job(place), KnownWeights(WEIGHTS))
    # it is there; what was begun over it is of another film and stays
    assert not needed(job(place, seed=9), KnownWeights(WEIGHTS))
    assert (place / "film.resume").exists()
    assert needed(job(place, force=True), KnownWeights(WEIGHTS)) and made(job(place)).sittings == 2
    assert files(place) == set(before) and not needed(job(place), KnownWeights(WEIGHTS))


NAMING = [
    "echo_cli.video.segments.SegmentedFilm.publish",
    "echo_cli.trace.writer.TraceWriter.publish",
    "echo_cli.render.film.publish",
    "echo_cli.render.keeper.settle",
    "echo_cli.render.resume.Work.discard",
    "echo_cli.render.lock._is",
]


@pytest.mark.parametrize("name", ["film.mp4", "%d.png"])
@pytest.mark.parametrize(("keeping", "moment"), [
    *((NEVER, moment) for moment in NAMING),
    *((Keeping(every=1e-9), moment) for moment in (*NAMING, "echo_cli.render.states.remove")),
], ids=lambda value: value.removeprefix("echo_cli.") if isinstance(value, str) else f"every {value.every}")
def test_a_run_killed_as_it_ended_is_finished_when_it_is_asked_for_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, keeping: Keeping, moment: str) -> None:
    """Before the film's name, before the trace's, before the subtitles', before and amid the naming of states for an
    edit, before the tidying up, and before the lock's end."""
    whole, place = tmp_path / "whole" / "film", folder(tmp_path)
    options = {"name": name, "keep_states": "none" if keeping is NEVER else "all"}
    made(job(whole, **options))

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # a killed process tidies nothing up
        patch.setattr("echo_cli.render.resume.Work.discard", lambda work: None)
        raise Killed

    with monkeypatch.context() as patch:
        first = [True]

        def later(keeper: Keeper) -> None:  # what is named here is also called as a run begins
            if first.pop() if first else False:
                patch.setattr(moment, kill)

        patch.setattr("echo_cli.render.keeper.Keeper.settle", also(Keeper.settle, later))
        with pytest.raises(Killed):
            made(job(place, **options), keeping)
    (place / "film.lock").write_text(json.dumps({**json.loads((place / "film.lock").read_text()), "born": "1"}))
    if needed(job(place, **options, force=True), KnownWeights(WEIGHTS)):
        made(job(place, **options))
    assert not needed(job(place, **options), KnownWeights(WEIGHTS))
    assert files(place) == files(whole)
    assert all(
        sha256(place / each) == sha256(whole / each) for each in files(whole) if each.endswith((".png", ".mp4", ".srt"))
    )


def also(called, then):
    def both(self) -> None:
        called(self)
        then(self)
    return both


def test_somebody_elses_film_is_not_taken_for_a_half_named_one(tmp_path: Path) -> None:
    place = folder(tmp_path)
    made(job(place))
    (place / "film.manifest.json").rename(place / "film.manifest.json.partial")
    (place / "film.mp4").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        needed(job(place), KnownWeights(WEIGHTS))


def test_what_is_still_being_written_to_is_discarded_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an encoder that outlives its killed run."""
    work, removed = Work(job(tmp_path, name="%d.png").outputs), shutil.rmtree
    (work.folder / "segment-000000-abcd").mkdir(parents=True)

    def disturbed(folder: Path, ignore_errors: bool = False) -> None:
        times.append(1)
        if len(times) > 3:
            removed(folder)
        elif not ignore_errors:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(folder / "7.png.tmp"))

    times: list[int] = []
    monkeypatch.setattr(shutil, "rmtree", disturbed)
    work.discard()
    assert files(tmp_path) == set()


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    task = job(folder(tmp_path))
    work = Work(task.outputs)
    with OneWriter(work.lock, work.film):
        for attempt in (lambda: needed(task, KnownWeights(WEIGHTS)), lambda: made(task)):
            with pytest.raises(OutputError, match="is being rendered by process"):
                attempt()
    assert made(task).sittings == 1


@pytest.mark.parametrize("name", ["film.mp4", "%d.png"])
@pytest.mark.parametrize("keeping", [NEVER, Keeping(every=1e-9)], ids=["nothing kept", "kept"])
def test_who_was_counted_as_dead_touches_nothing_of_his_successor(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waiting: None, name: str, keeping: Keeping) -> None:
    """A machine that stood still for too long goes on when another one makes the film already."""
    place = folder(tmp_path)
    theirs = {
        "film.lock",
        "film.resume/checkpoint.json",
        "film.resume/state-000001-9.safetensors",
        "film.trace.json.partial",
    }

    def take_over() -> None:
        monkeypatch.setattr("echo_cli.render.lock.STALE", 0)  # as if it had stood still just now
        Work(job(place, name=name).outputs).discard()
        (place / "film.resume").mkdir()
        (place / "film.trace.json.partial").unlink()
        for each in theirs:
            (place / each).write_text("theirs")

    error = failed_by(job(place, name=name), 4, take_over, keeping)
    assert isinstance(error, OutputError) and "belongs to somebody else" in error.message and "kept" not in error.hint
    assert all((place / each).read_text() == "theirs" for each in theirs)
    # a segment that an encoder has just ended may appear: it is to the byte the one that the successor makes
    assert not {
        each for each in files(place) - theirs if "state-" in each or each.endswith(("film.mp4", ".json", ".partial"))
    }


def test_a_trace_that_is_gone_on_with_is_out_of_its_former_writers_reach(tmp_path: Path, unstruck: str) -> None:
    place = folder(tmp_path)
    stopped(job(place), 3)
    with (place / "film.trace.json.partial").open("ab") as former:
        late = Stopping(1, lambda: former.write(b"late" * 10_000) and former.flush())
        assert made(job(place), progress=late).outputs["film"].sha256 == unstruck
    assert json.loads((place / "film.trace.json").read_text())["totals"]["blocks"] == 6


def test_a_folder_that_vanishes_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echo_cli.render.lock.BEAT", 0.01)
    story = "scenes: [{id: a, prompt: a red ball, duration: 10m}]"
    with pytest.raises(OutputError) as caught:
        made(job(folder(tmp_path), story), NEVER, Stopping(3, lambda: folder(tmp_path).rename(tmp_path / "moved")))
    assert "is gone" in caught.value.message or "does not exist any more" in caught.value.message


def test_a_clock_that_goes_backwards_is_nobodys_clock(
    tmp_path: Path, unstruck: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [2e9]

    def back() -> float:
        now[0] -= 100
        return now[0]

    monkeypatch.setattr("time.time", back)
    assert stopped(job(folder(tmp_path)), 3, Keeping(every=1e-9)).exit_code == 75
    done = made(job(folder(tmp_path)), Keeping(every=1e-9))
    assert done.outputs["film"].sha256 == unstruck and done.wall_seconds > 0


def test_the_cadence(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    usual, asked, never = Cadence(None), Cadence(5.0), Cadence(0)
    now[0] = 59.0
    assert not usual.due and asked.due and not never.due
    now[0] = 61.0
    assert usual.due
    usual.saved(2.0)  # a large one: a fiftieth of the time is 100 seconds
    asked.saved(2.0)
    now[0] = 125.0
    assert not usual.due and asked.due
    now[0] = 162.0
    assert usual.due and not never.due
