"""A film that continues another with its memory: both are the film in one, to the last bit."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import echo_cli
from echo_cli.cli.app import run
from echo_cli.errors import OutputError
from echo_cli.files import sha256
from echo_cli.memory.table import POLICIES, settings_type
from echo_cli.render.keeper import Keeper
from echo_cli.render.resume import Checkpoint
from echo_cli.rollout.rollout import BlockResult
from echo_cli.storyboard.ends import read_end
from echo_cli.trace.reader import read_trace
from tests.render import stage

SCENES = [
    {"id": "meadow", "prompt": "a red ball rolls left across a green meadow", "duration": 2.2},
    {"id": "desert", "prompt": "a blue star in the desert", "duration": 4.0, "transition": "hard cut"},
    {"id": "dusk", "prompt": "the blue star in the desert at dusk", "duration": 1.5},
    {"id": "night", "prompt": "the blue star in the desert at night", "duration": 2.0},
    {"id": "back", "prompt": "the red ball in the meadow at night", "duration": 5.0, "transition": "recall:meadow"},
    {"id": "sands", "prompt": "the desert again", "duration": 2.3, "transition": "recall:auto"},
]


AFTER = {"continue": "half/half.end"}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.settle(tmp_path / "here", monkeypatch)


def board(scenes: Sequence[dict], **top: object) -> str:
    """A storyboard; one that continues a film leaves the seed to that one."""
    return yaml.safe_dump({**({} if "continue" in top else {"seed": 5}), "scenes": list(scenes), **top})


def film(name: str, scenes: Sequence[dict], *arguments: str, more: Sequence[str] = ("--scale", "1"),
         **top: object) -> np.ndarray:
    """The pictures of a storyboard, as they lie in files without loss."""
    Path(f"{name}.yaml").write_text(board(scenes, **top))
    assert run(["generate", f"{name}.yaml", "-o", f"{name}/%04d.png", *more, *arguments]) == 0
    return pictures(name)


def pictures(name: str) -> np.ndarray:
    return stage.pictures_in(Path(name))


UNTRAINED = ("--set", "memory.trained=false")


@pytest.mark.parametrize("policy", POLICIES)
def test_two_halves_are_one_film(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the second does not say is as in the first, and scenes of both can be recalled."""
    more = ("--memory", policy, *(UNTRAINED if settings_type(policy)().needs_queries else ()))
    one = film("one", SCENES, *more)
    half = film("half", SCENES[:2], *more, "--keep-end")
    rest = film("rest", SCENES[2:], **AFTER)
    assert len(half) == 99 and np.array_equal(np.concatenate((half, rest)), one)


def test_three_parts_are_one_film_and_each_resumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after every block, and with lengths that are no whole number of pictures."""
    odd = [{**scene, "duration": scene["duration"] + 0.03} for scene in SCENES]
    odd[3]["duration"] = 2.43  # so that less than half of the block before the second seam is cut off
    one = film("one", odd)
    write = Keeper._write

    def cut_off(self: Keeper, checkpoint: Checkpoint, *arguments: Any) -> int:
        written = write(self, checkpoint, *arguments)
        if checkpoint.block % 2 or checkpoint.block == checkpoint.blocks:
            raise KeyboardInterrupt
        return written

    monkeypatch.setattr(Keeper, "due", lambda self: True)
    monkeypatch.setattr(Keeper, "_write", cut_off)
    parts = []
    for name, scenes, top in (("half", odd[:2], {}), ("rest", odd[2:4], AFTER),
                              ("last", odd[4:], {"continue": "rest/rest.end"})):
        Path(f"{name}.yaml").write_text(board(scenes, **top))
        command = ["generate", f"{name}.yaml", "-o", f"{name}/%04d.png", "--scale", "1", "--keep-end"]
        codes = [75]
        while codes[-1] == 75 and len(codes) < 30:
            codes.append(run(command))
        assert codes.count(75) > 2 and codes[-1] == 0
        parts.append(pictures(name))
    assert np.array_equal(np.concatenate(parts), one)


def test_a_film_after_one_that_was_cut_short_in_its_last_block_shows_the_rest_of_it_first() -> None:
    """3 s are 4.25 blocks: the fifth goes on, and the next scene begins after it."""
    whole = [{**SCENES[0], "duration": 57 / 16}, *SCENES[1:3]]
    half = film("half", [{**SCENES[0], "duration": 3}], "--keep-end")
    rest = film("rest", SCENES[1:3], **AFTER)
    one = film("one", whole)
    assert len(half) == 48 and np.array_equal(np.concatenate((half, rest)), one[:48 + len(rest)])
    assert read_trace(Path("rest/rest.trace.json")).header.timeline[0].pictures[0] == 9


def test_the_trace_counts_from_the_second_film_and_names_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2], "--keep-end", "--memory", "echo-forcing")
    film("rest", SCENES[2:], **AFTER)
    trace = read_trace(Path("rest/rest.trace.json"))
    trace.check()
    records = [trace.block(index) for index in range(len(trace))]
    assert [record.block for record in records] == list(range(14)) and records[0].pictures == (6, 18)
    assert records[0].frames == (0, 3) and records[-1].pictures[1] == trace.header.film.pictures == 173
    assert [past.name for past in trace.header.past] == ["half/meadow", "half/desert"]
    remembered = {trace.header.name_of(segment.scene) for segment in records[0].layout.segments}
    assert remembered == {"dusk", "half/desert"}
    assert [trace.header.name_of(scene.recalled) for scene in trace.scenes if scene.recalled is not None][2:] == [
        "half/meadow", "half/desert"]
    for view in ([], ["--json"], ["--html", "report.html"], ["--at", "0s"], ["--block", "0"]):
        assert run(["inspect-cache", "rest/rest.trace.json", *view]) == 0
    assert "half/desert" in Path("report.html").read_text()
    capsys.readouterr()
    assert run(["validate", "rest.yaml"]) == 0
    out = capsys.readouterr().out
    assert "continues half/half.end from its memory's state" in out and "back recalls meadow" in out


def test_validate_names_the_file_that_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2], "--keep-end")
    for named, read in (("half/half.scenes", " in half/half.end\n"), ("half/half.end", "\n")):
        Path("rest.yaml").write_text(board(SCENES[2:3], **{"continue": named}))
        capsys.readouterr()
        assert run(["validate", "rest.yaml"]) == 0
        assert f"continues {named} from its memory's state{read}" in capsys.readouterr().out


def test_the_state_is_part_of_the_films_identity(capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2], "--keep-end")
    film("rest", SCENES[2:4], **AFTER)
    found = json.loads(Path("rest/rest.manifest.json").read_text())["identity"]
    assert found["settings"]["inputs"] == {"half/half.end": sha256(Path("half/half.end"))} and found["seed"] == 5
    film("rest", SCENES[2:4], **AFTER)
    assert "skipped" in capsys.readouterr().err
    film("half", SCENES[:2], "--keep-end", "--seed", "6", "--force")
    Path("rest.yaml").write_text(board(SCENES[2:4], **AFTER))
    assert run(["generate", "rest.yaml", "-o", "rest/%04d.png", "--scale", "1"]) == 5
    assert "another half/half.end" in capsys.readouterr().err


def test_an_end_is_made_of_a_film_that_is_there_and_may_be_gone_again(capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2])
    made = pictures("half")
    assert np.array_equal(film("half", SCENES[:2], "--keep-end"), made) and Path("half/half.end").exists()
    capsys.readouterr()
    film("half", SCENES[:2], "--keep-end")
    assert "skipped" in capsys.readouterr().err
    Path("half/half.end").unlink()
    film("half", SCENES[:2])
    assert "skipped" in capsys.readouterr().err
    film("half", SCENES[:2], "--keep-end")
    assert Path("half/half.end").exists()


def interrupted(command: list[str], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends after so many blocks, all of which are kept."""
    keep = Keeper.keep

    def cut_off(self: Keeper, result: BlockResult, *arguments: Any, **options: Any) -> None:
        keep(self, result, *arguments, wait=True)
        if result.block.index + 1 == block:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "due", lambda self: True)
        patch.setattr(Keeper, "keep", cut_off)
        assert run(command) == 75


@pytest.mark.parametrize(("block", "lacks"), [(5, "the keyframes of scene 'meadow'"), (9, "its end")])
def test_a_film_that_was_begun_without_its_end_is_not_resumed_with_it(
        block: int, lacks: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("half.yaml").write_text(board(SCENES[:2]))
    command = ["generate", "half.yaml", "-o", "half/%04d.png", "--scale", "1", "--keep-states", "none"]
    interrupted(command, block, monkeypatch)
    capsys.readouterr()
    assert run([*command, "--keep-end"]) == 2
    err = capsys.readouterr().err
    assert f"interrupted after block {block} of 9" in err and lacks in err and "--restart" in err
    assert run(command) == 0 and "resuming after" in capsys.readouterr().err


def test_an_end_survives_a_run_that_fails_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("half.yaml").write_text(board(SCENES[:2]))
    command = ["generate", "half.yaml", "--scale", "1", "--preset", "ultrafast", "--keep-end"]
    assert run([*command, "-o", "whole"]) == 0
    interrupted([*command, "-o", "half"], 9, monkeypatch)

    def fails(*arguments: Any) -> None:
        raise OutputError("the disk is full")

    for name, kept in (("half", True), ("other", False)):
        with monkeypatch.context() as patch:
            patch.setattr("echo_cli.render.manifest.prepare", fails)
            assert run([*command, "-o", name, "--checkpoint-every", "0"]) == 5
        assert (Path(f"{name}.resume").exists(), Path(f"{name}.end.partial").exists()) == (kept, kept)
    assert run([*command, "-o", "half"]) == 0
    assert not list(Path(".").glob("half*.partial"))
    assert read_end(Path("half.end")).digest == read_end(Path("whole.end")).digest


def test_an_edit_of_a_continuation_reuses_it(capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2], "--keep-end")
    film("rest", SCENES[2:5], **AFTER)
    longer = [*SCENES[2:5], {"id": "dawn", "prompt": "the red ball in the meadow at dawn", "duration": 1.5}]
    film("rest", longer, **AFTER)
    assert "reusing" in capsys.readouterr().err
    assert np.array_equal(pictures("rest"), film("again", longer, **AFTER))


def test_blocks_from_python_and_a_batch_are_the_same_film() -> None:
    film("half", SCENES[:2], "--keep-end")
    rest = film("rest", SCENES[2:4], **AFTER, more=("--scale", "2"))
    assert np.array_equal(np.concatenate([block.pictures for block in echo_cli.blocks("rest.yaml")]), rest)
    assert run(["batch", "rest.yaml", "--out-dir", "films", "--scale", "2", "--keep-end", "--preset", "ultrafast"]) == 0
    assert read_end(Path("films/rest.end")).earlier.counts == (3, 6, 2, 3)


def test_scenes_of_other_films_come_into_a_continuation() -> None:
    """From a file of scenes that the one film would read too."""
    film("other", [{"id": "town", "prompt": "a blue star in the desert town", "duration": 2}], "--scenes", "o.scenes")
    more = [*SCENES[:3], {"id": "t", "prompt": "the town", "duration": 2, "transition": "recall:o/town"}]
    for policy in ("echo", "echo-forcing", "scene-queries"):
        own = ("--memory", policy, "--force", *(UNTRAINED if policy == "scene-queries" else ()))
        one = film("one", more, *own, series="o.scenes")
        half = film("half", more[:2], *own, "--keep-end", series="o.scenes")
        rest = film("rest", more[2:], "--force", **AFTER, series="o.scenes")
        assert np.array_equal(np.concatenate((half, rest)), one)


def test_a_film_without_its_state_gives_its_pictures_and_its_scenes() -> None:
    Path("half.yaml").write_text(board(SCENES[:2]))
    assert run(["generate", "half.yaml", "--scale", "1", "--scenes", "half.scenes", "--preset", "ultrafast"]) == 0
    later = [{"id": "on", "prompt": "the desert", "duration": 2},
             {"id": "back", "prompt": "the meadow", "duration": 2, "transition": "recall:half/meadow"}]
    assert len(film("rest", later, **{"continue": "half.mp4"})) == 64
    trace = read_trace(Path("rest/rest.trace.json"))
    assert trace.header.name_of(trace.scenes[1].recalled) == "half/meadow" and trace.block(0).given == 3


@pytest.mark.parametrize(("top", "message"), [
    ({"memory": "window"}, "half.end cannot be continued by this film: memory was echo, now window"),
    ({"memory": {"keyframes": 3}}, "memory.keyframes was 6, now 3"),
    ({"size": "64x64"}, "size was 96x64, now 64x64"),
    ({"fps": 8}, "fps was 16.0, now 8.0"),
])
def test_the_state_of_another_film_is_refused(top: dict, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2], "--keep-end")
    Path("rest.yaml").write_text(board(SCENES[2:4], **AFTER, **top))
    assert run(["generate", "rest.yaml", "-o", "rest/%04d.png"]) == 2
    assert message in capsys.readouterr().err and not Path("rest").exists()


def test_other_weights_are_refused_and_pictures_alone_are_another_way(capsys: pytest.CaptureFixture[str],
                                                                     monkeypatch: pytest.MonkeyPatch) -> None:
    Path("half.yaml").write_text(board(SCENES[:2]))
    assert run(["generate", "half.yaml", "--scale", "1", "--keep-end", "--preset", "ultrafast"]) == 0
    Path("rest.yaml").write_text(board(SCENES[2:4], **{"continue": "half.mp4"}))
    monkeypatch.setattr("echo_cli.models.loaders.known_digest", lambda *given: "0" * 64)
    assert run(["validate", "rest.yaml"]) == 2
    err = capsys.readouterr().err
    assert "now model random-small with weights 000000000000" in err and "state: false" in err
    Path("rest.yaml").write_text(board(SCENES[2:4], **{"continue": {"film": "half.mp4", "state": False}}))
    assert run(["validate", "rest.yaml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["canonical"]["continue"] == {"film": "half.mp4", "state": False}
    assert told["continues_from"] == "its last pictures"


def test_a_recall_of_a_film_that_lacks_its_end_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    Path("half.yaml").write_text(board(SCENES[:1]))
    assert run(["generate", "half.yaml", "--scale", "1", "--preset", "ultrafast"]) == 0
    lost = "half.end is missing, which --keep-end writes beside half.mp4"
    for continued, said in (("half.mp4", True), ({"film": "half.mp4", "state": False}, False)):
        Path("rest.yaml").write_text(board(SCENES[3:5], **{"continue": continued}))
        capsys.readouterr()
        assert run(["validate", "rest.yaml"]) == 2
        reply = capsys.readouterr().err
        assert "recall of 'meadow', but no earlier scene has that id" in reply and (lost in reply) is said


def test_an_end_of_another_version_of_the_film_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for more in (("--keep-end",), ("--seed", "6", "--force")):
        Path("half.yaml").write_text(board(SCENES[:2]))
        assert run(["generate", "half.yaml", "--scale", "1", "--preset", "ultrafast", *more]) == 0
    Path("rest.yaml").write_text(board(SCENES[2:4], **{"continue": "half.mp4"}))
    capsys.readouterr()
    assert run(["validate", "rest.yaml"]) == 2
    err = capsys.readouterr().err
    assert "half.end: is the end of another version of half.mp4: seed was 5, now 6\n" in err


@pytest.mark.parametrize(("scene", "message"), [
    ({"id": "meadow"}, "id 'meadow' belongs to a scene of half/half.end already; give each scene its own"),
    ({"transition": "recall:half/nowhere"}, "recall of 'half/nowhere', but"),
    ({"transition": "recall:desert"}, "recall of 'desert', but half/half.end does not keep that scene"),
])
def test_mistakes_about_scenes_of_the_film_before(scene: dict, message: str,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2], "--keep-end", keep_scenes=["meadow"])
    Path("rest.yaml").write_text(board([{"id": "x", "prompt": "y", "duration": 2, **scene}], **AFTER))
    assert run(["validate", "rest.yaml"]) == 2
    assert message in capsys.readouterr().err


def test_what_only_a_damaged_end_could_tell_is_not_held_against_a_storyboard(
        capsys: pytest.CaptureFixture[str]) -> None:
    Path("half.yaml").write_text(board(SCENES[:2]))
    assert run(["generate", "half.yaml", "--scale", "1", "--keep-end", "--preset", "ultrafast"]) == 0
    Path("half.end").write_bytes(Path("half.end").read_bytes()[:-7])
    begins = ({"transition": "recall:meadow", "memory": {"decay": 0.5}}, {"transition": "recall:half/desert"},
              {"transition": "recall:before/sea"}, {"duration": 0.05}, {"transition": "recall:c"})
    scenes = [{"id": name, "prompt": "a red ball", "duration": 2, **more}
              for name, more in zip("abcde", begins, strict=True)]
    for continued in ("half.mp4", "half.end", "gone.mp4"):
        Path("rest.yaml").write_text(board(scenes, **{"continue": continued}))
        capsys.readouterr()
        assert run(["validate", "rest.yaml"]) == 2
        reply = capsys.readouterr().err.splitlines()
        assert len(reply) == 1 and reply[0].startswith(f"rest.yaml:1:1: continue {continued[:4]}"), reply
    Path("rest.yaml").write_text(board([*scenes, {**scenes[0], "id": "f", "transition": "recall:f"}],
                                       **{"continue": "half.mp4"}))
    assert run(["validate", "rest.yaml"]) == 2
    assert "recall of itself" in capsys.readouterr().err  # which no film before could change


def test_a_film_does_not_overwrite_the_one_that_it_continues(capsys: pytest.CaptureFixture[str]) -> None:
    Path("half.yaml").write_text(board(SCENES[:1]))
    assert run(["generate", "half.yaml", "--scale", "1", "--keep-end", "--preset", "ultrafast"]) == 0
    Path("rest.yaml").write_text(board(SCENES[1:2], **{"continue": "half.mp4"}))
    assert run(["generate", "rest.yaml", "-o", "half.mp4", "--force"]) == 2
    assert "half.mp4: the film would overwrite the one that it continues" in capsys.readouterr().err
    Path("link.mp4").symlink_to("half.mp4")
    scene = {name: value for name, value in SCENES[1].items() if name != "transition"}
    Path("rest.yaml").write_text(board([scene], **{"continue": "link.mp4"}))
    assert run(["generate", "rest.yaml", "-o", "half.mp4", "--force"]) == 2
    assert "half.mp4: the film would overwrite the one that it continues" in capsys.readouterr().err
    assert run(["generate", "rest.yaml", "-o", "-", "--keep-end"]) == 2


def test_a_mutated_end_is_one_clear_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    film("half", SCENES[:2], "--keep-end", "--memory", "window")
    whole, dice = Path("half/half.end").read_bytes(), random.Random(1)
    Path("rest.yaml").write_text(board(SCENES[2:3], **AFTER))
    head = 8 + int.from_bytes(whole[:8], "little")
    capsys.readouterr()
    for number in range(60):
        data = bytearray(whole)
        match number % 4:
            case 0:
                data = data[:dice.randrange(len(data))]
            case 1:
                data[dice.randrange(8)] ^= 1 << dice.randrange(8)
            case 2:
                data[dice.randrange(8, head)] ^= 1 << dice.randrange(7)
            case 3:
                data[dice.randrange(head, len(data))] ^= 1 << dice.randrange(8)
        Path("half/half.end").write_bytes(data)
        code = run(["generate", "rest.yaml", "-o", f"out{number}/%04d.png", "--scale", "1", "--quiet"])
        err = capsys.readouterr().err
        assert code == 2 and "half.end" in err and "Traceback" not in err and len(err.splitlines()) <= 2, (number, err)
