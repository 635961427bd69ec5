"""An edited film is the film that is rendered from nothing, and what is the same is not rendered again."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from echo_cli.errors import OutputError, UsageError
from echo_cli.memory.scene_files import read_entry
from echo_cli.memory.table import POLICIES
from echo_cli.render import snapshots, states
from echo_cli.render.decide import KnownWeights, needed
from echo_cli.render.job import Job
from echo_cli.render.keeper import Keeper
from echo_cli.render.made import Made
from echo_cli.render.progress import Progress, Step
from echo_cli.render.resume import Checkpoint, Work
from echo_cli.state import Nest
from echo_cli.state_files import Stored
from echo_cli.storyboard.series import read_scenes
from echo_cli.trace.reader import read_trace
from echo_cli.video import read, segments

from .stage import WEIGHTS, backend, job
from .test_resume import Keeping, Stopping, made, stopped

SCENES = """
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 2.3s, subtitle: Meadow}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 1.5s}
  - {id: forest, prompt: a blue star in the forest, duration: 1.5s}
  - {id: again, transition: "recall:meadow", prompt: the red ball in the meadow at night, duration: 1.6s}
"""
MORE = '  - {id: city, transition: smooth, prompt: a red ball in the city, duration: 1.5s, subtitle: City}\n'
UNTRAINED = {"settings": {"trained": False}}
OURS = {name: UNTRAINED if hasattr(row.settings(), "trained") else {} for name, row in POLICIES.items()}


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LENGTH", 50)


def film(folder: Path, scenes: str, keep: str = "all", **options) -> Job:
    folder.mkdir(exist_ok=True)
    return job(folder, f"title: A test\nseed: 5\nscenes:{scenes}", **{"keep_states": keep, **options})


def test_rendering_continues_while_a_state_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = film(tmp_path, """
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 1.5s}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 6s}
""", "last")
    begins, later, waited = task.timeline.spans[1].blocks.start, threading.Event(), []
    write = snapshots.write_state

    def slow(path: Path, state: Nest) -> Stored:
        waited.append(later.wait(30))
        return write(path, state)

    class Watch(Progress):
        def step(self, step: Step) -> None:
            if step.block == begins + 2:
                later.set()

    monkeypatch.setattr(snapshots, "write_state", slow)
    made(task, progress=Watch())
    assert waited == [True, True]
    assert [kept.blocks for kept in states.snapshots(Work(task.outputs).states)] == sorted(
        states.moments(task.timeline, "last"))


def digests(task: Job, done: Made) -> tuple[str, int]:
    """Of the file; and of all its pictures, decoded."""
    content = b"".join(part.tobytes() for part in read.pictures(task.outputs.film.path))
    return done.outputs["film"].sha256, hash(content)


def edited(tmp_path: Path, before: str, after: str, keep: str = "all", **options) -> Made:
    """The film after an edit, which must equal the film that is rendered from the beginning."""
    made(film(tmp_path / "edited", before, keep, **options))
    task, watch = film(tmp_path / "edited", after, keep, **options), Stopping(0, None)
    assert needed(task, KnownWeights(WEIGHTS))
    done, fresh = made(task, progress=watch), film(tmp_path / "fresh", after, "none", **options)
    assert digests(task, done) == digests(fresh, made(fresh))
    assert watch.blocks == list(range(done.reused + 1, len(task.timeline.blocks) + 1))
    assert not needed(task, KnownWeights(WEIGHTS))
    same_trace(tmp_path / "edited", tmp_path / "fresh")
    return done


def same_trace(one: Path, other: Path) -> None:
    actual, wanted = (read_trace(folder / "film.trace.json") for folder in (one, other))
    actual.check()
    assert actual.header == wanted.header and actual.scenes == wanted.scenes
    for row, expected in zip(actual.rows(), wanted.rows(), strict=True):
        for each in (row, expected):
            each["measured"].pop("times"), each.pop("bytes")
        assert row == expected


@pytest.mark.parametrize("policy", [
    name if name in ("window", "recache", "echo-forcing", "scene-queries") else pytest.param(
        name, marks=pytest.mark.slow) for name in OURS])
@pytest.mark.parametrize(("before", "after", "blocks"), [
    (SCENES, SCENES.replace("at night", "in the rain"), 7),  # the last scene's prompt
    (SCENES, SCENES + MORE, 8),  # another scene at the end
    (SCENES, SCENES.replace("1.6s", "3s"), 8),  # a longer last scene
], ids=["prompt", "appended", "longer"])
def test_an_edited_film_is_the_film(tmp_path: Path, policy: str, before: str, after: str, blocks: int) -> None:
    done = edited(tmp_path, before, after, "last", memory=policy, **OURS[policy])
    assert done.reused == blocks and done.sittings == 1


@pytest.mark.parametrize(("before", "after", "blocks"), [
    (SCENES, SCENES.replace("a blue star in the forest", "a green star in the forest"), 5),
    (SCENES, SCENES.replace("1.5s", "2.25s", 1), 3),
    (SCENES, SCENES.replace("recall:meadow", "hard cut"), 7),  # less is needed than was kept
    (SCENES.replace("recall:meadow", "hard cut"), SCENES, 3),  # nobody knew that the meadow would be recalled
    (SCENES, SCENES + MORE.replace("smooth", "recall:meadow"), 7),  # the meadow is forgotten once it was recalled
    (SCENES, SCENES.replace("Meadow", "Another"), 8),
], ids=["middle", "longer", "recalled no more", "recalled now", "recalled again", "subtitle"])
def test_what_later_scenes_need_decides_what_is_reused(tmp_path: Path, before: str, after: str, blocks: int) -> None:
    assert edited(tmp_path, before, after, memory="echo-forcing").reused == blocks


def test_an_image_sequence_is_edited_too(tmp_path: Path) -> None:
    task = film(tmp_path / "edited", SCENES, name="%03d.png")
    made(task)
    after = SCENES.replace("at night", "in the rain")
    done = made(film(tmp_path / "edited", after, name="%03d.png"))
    assert done.reused == 7
    assert done.outputs["film"].sha256 == made(
        film(tmp_path / "fresh", after, "none", name="%03d.png")).outputs["film"].sha256


def test_captions_that_are_drawn_count(tmp_path: Path) -> None:
    drawn = {"scale": 4, "subtitles": "burn"}
    made(film(tmp_path, SCENES, **drawn))
    assert made(film(tmp_path, SCENES.replace("Meadow", "Elsewhere"), force=True, **drawn)).reused == 0
    done = made(film(tmp_path, SCENES.replace("Meadow", "Elsewhere") + MORE, **drawn))
    assert done.reused == 8
    assert done.outputs["film"].sha256 == made(
        film(tmp_path / "fresh", SCENES.replace("Meadow", "Elsewhere") + MORE, "none", **drawn)).outputs["film"].sha256


@pytest.mark.parametrize("choices", [{"seed": 6}, {"memory": "window"}, {"size": (64, 64)}, {"scale": 2}, {"crf": 30}],
                         ids=str)
def test_another_film_reuses_nothing_and_is_refused(tmp_path: Path, choices: dict) -> None:
    made(film(tmp_path, SCENES))
    other = film(tmp_path, SCENES, **choices)
    with pytest.raises(OutputError, match="was made from something else"):
        needed(other, KnownWeights(WEIGHTS))
    assert made(replace(other, request=replace(other.request, force=True))).reused == 0


def test_a_film_of_other_decoder_weights_reuses_nothing_and_is_refused(tmp_path: Path) -> None:
    def lightly(scenes: str) -> Job:
        job = film(tmp_path, scenes)
        return replace(job, request=replace(job.request, decoder="light"))

    light, other = (replace(backend(), decoder_hash=letter * 64) for letter in "ab")
    made(lightly(SCENES), model=light)
    task = lightly(SCENES + MORE)
    with pytest.raises(OutputError, match="other weights of the decoder"):
        needed(task, other)
    assert made(replace(task, request=replace(task.request, force=True)), model=other).reused == 0
    assert made(lightly(SCENES + MORE + MORE.replace("city", "town")), model=other).reused > 0


def test_a_film_that_opens_otherwise_is_refused(tmp_path: Path) -> None:
    made(film(tmp_path, SCENES))
    with pytest.raises(OutputError, match="another storyboard"):
        needed(film(tmp_path, SCENES.replace("a red ball rolls", "a blue ball rolls")), KnownWeights(WEIGHTS))


def test_somebody_elses_film_is_not_taken_for_an_earlier_version(tmp_path: Path) -> None:
    made(film(tmp_path, SCENES))
    (tmp_path / "film.mp4").write_bytes(b"mine")
    with pytest.raises(OutputError, match="another storyboard"):
        needed(film(tmp_path, SCENES + MORE), KnownWeights(WEIGHTS))


def test_force_makes_all_anew(tmp_path: Path) -> None:
    made(film(tmp_path, SCENES))
    assert made(film(tmp_path, SCENES + MORE, force=True)).reused == 0


def test_an_edit_that_was_stopped_goes_on(tmp_path: Path) -> None:
    whole = made(film(tmp_path / "whole", SCENES + MORE, "none"))
    made(film(tmp_path / "film", SCENES))
    for block in (9, 10):
        assert f"after block {block} of 12" in stopped(film(tmp_path / "film", SCENES + MORE), 1).message
        assert needed(film(tmp_path / "film", SCENES + MORE), KnownWeights(WEIGHTS))
    done = made(film(tmp_path / "film", SCENES + MORE))
    assert done.outputs["film"].sha256 == whole.outputs["film"].sha256 and done.reused == 8 and done.sittings == 3
    again = made(film(tmp_path / "film", SCENES + MORE.replace("in the city", "in the forest")))
    assert again.reused == 9  # what was kept before the interruption is kept


def keeping(folder: Path) -> list[int]:
    return [snapshot.blocks for snapshot in states.snapshots(folder / "film.states")]


@pytest.mark.parametrize(("began", "block", "lacks"), [("none", 5, True), ("none", 4, False), ("all", 5, False)])
def test_a_film_is_resumed_to_keep_states_only_if_its_checkpoint_has_them(
        tmp_path: Path, began: str, block: int, lacks: bool) -> None:
    scenes = SCENES.replace("recall:meadow", "hard cut")
    stopped(film(tmp_path, scenes, began), block)
    task = film(tmp_path, scenes, "all" if began == "none" else "last")
    if lacks:
        with pytest.raises(UsageError, match="another --keep-states.* lacks the first frame of scene 'desert'"):
            made(task)
        task = film(tmp_path, scenes, began)
    assert made(task).sittings == 2


def test_states_are_kept_as_asked(tmp_path: Path) -> None:
    for keep, blocks in (("none", []), ("last", [7, 8]), ("all", [3, 5, 7, 8]), ("none", [])):
        made(film(tmp_path, SCENES, keep, force=True))
        assert keeping(tmp_path) == blocks and (tmp_path / "film.states").exists() == bool(blocks)


def test_room_is_a_bound(tmp_path: Path) -> None:
    """The last state stays longest."""
    made(film(tmp_path, SCENES))
    whole = bytes_in(tmp_path / "film.states")
    for share, least, most in ((1.01, 4, 4), (0.8, 1, 3), (0.5, 0, 2), (0.01, 0, 0)):
        room = int(whole * share)
        made(film(tmp_path, SCENES, force=True, keep_room=str(room)))
        kept = keeping(tmp_path)
        assert least <= len(kept) <= most and kept[-1:] in ([], [8])
        assert bytes_in(tmp_path / "film.states") <= room


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir()) if folder.exists() else 0


def test_what_gives_way_to_others() -> None:
    def of(*blocks: int) -> list[states.Snapshot]:
        written = segments.Written(0, 0, "", "")
        return [states.Snapshot(block, True, (), {}, written, 0.0) for block in blocks]

    assert states.superfluous(of(5)).blocks == 5
    assert states.superfluous(of(5, 9)).blocks == 5
    assert states.superfluous(of(50, 60, 100, 101)).blocks == 100


@pytest.mark.parametrize("name", ["snapshot-000003.safetensors", "rest-000000.h264", "snapshot-000003.json"])
def test_a_state_that_is_gone_costs_no_film(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(keeper: Keeper, blocks: int) -> bool:
        if blocks == 4:  # after the first state
            keeper.settle()
            (keeper.work.folder / name).unlink()
        return keeps(keeper, blocks)

    keeps, task = Keeper.keeps, film(tmp_path, SCENES)
    monkeypatch.setattr(Keeper, "keeps", gone)
    made(task)
    assert [kept.blocks for kept in states.snapshots(Work(task.outputs).states)] == [5, 7, 8]


def test_a_checkpoint_that_is_gone_is_an_output_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(work: Work, checkpoint: Checkpoint) -> int:
        written = write(work, checkpoint)
        work.note.unlink()
        return written

    write = Work.write
    monkeypatch.setattr(Work, "write", gone)
    with pytest.raises(OutputError, match="cannot write"):
        made(film(tmp_path, SCENES, "none"), Keeping(every=1e-9))


def test_a_disk_without_room_costs_no_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OutputError("cannot write it: the disk is full")

    monkeypatch.setattr("echo_cli.render.snapshots.write_state", full)
    messages: list[str] = []
    done = made(film(tmp_path, SCENES), Keeping(tell=messages.append))
    assert done.pictures == 110 and not (tmp_path / "film.states").exists()
    assert messages == [f"no state is kept after block {block}: cannot write it: the disk is full"
                    for block in (3, 5, 7, 8)]


@pytest.mark.parametrize(("name", "blocks"), [
    ("snapshot-000008.safetensors", 7), ("rest-000001.h264", 7), ("snapshot-000008.json", 7),
    ("segment-000000.mp4", 3), ("trace.json", 0), ("states.json", 0),
])
def test_what_was_changed_is_not_used(tmp_path: Path, name: str, blocks: int) -> None:
    made(film(tmp_path / "film", SCENES))
    (tmp_path / "film" / "film.mp4").unlink()
    path = tmp_path / "film" / "film.states" / name
    content = path.read_bytes()
    path.write_bytes(content[:-40] + bytes([content[-40] ^ 1]) + content[-39:])
    done = made(film(tmp_path / "film", SCENES + MORE))
    assert done.reused == blocks
    assert done.outputs["film"].sha256 == made(film(tmp_path / "whole", SCENES + MORE)).outputs["film"].sha256


def test_states_of_another_machine_are_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last bits may differ, and the film must be the one that is rendered here."""
    made(film(tmp_path, SCENES))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX9")
    messages: list[str] = []
    assert made(film(tmp_path, SCENES + MORE), Keeping(tell=messages.append)).reused == 0
    assert "kept on another machine (processor was" in messages[0] and "from its beginning" in messages[0]


def test_what_is_reused_is_told(tmp_path: Path) -> None:
    messages: list[str] = []
    made(film(tmp_path, SCENES, "last"))
    made(film(tmp_path, SCENES + MORE, "last"), Keeping(tell=messages.append))
    made(film(tmp_path, SCENES.replace("in the desert", "in the city") + MORE, "last"), Keeping(tell=messages.append))
    made(film(tmp_path, SCENES.replace("in the desert", "in the city"), "all", force=True))
    made(film(tmp_path, SCENES.replace("in the desert", "in the city").replace("at night", "now") + MORE, "last"),
         Keeping(tell=messages.append))
    name = tmp_path / "film.mp4"
    assert messages == [
        f"{name}: reusing 8 of 12 blocks (5.8125 s); rendering from within scene 'again'",
        f"{name}: the first 3 blocks could be reused, but no state was kept there that fits (--keep-states all keeps "
        "one for each scene): it is rendered from its beginning",
        f"{name}: reusing 7 of 12 blocks (5.0625 s); rendering from the beginning of scene 'again'",
    ]


def test_a_film_that_keeps_its_scenes_is_rendered_whole(tmp_path: Path) -> None:
    """A state would not have what the scenes before it left."""
    made(film(tmp_path, SCENES))
    assert (tmp_path / "film.states").exists()
    for board in (SCENES, SCENES.replace("at night", "in the rain")):
        done = made(film(tmp_path, board + "keep_scenes: true\n", force=True))
        assert done.reused == 0 and not list((tmp_path / "film.states").glob("*.safetensors"))
        file = read_scenes(tmp_path / "film.scenes")
        assert [scene.id for scene in file.past] == ["meadow", "desert", "forest", "again"]
        assert read_entry(file, 0).count("frames") == 9
