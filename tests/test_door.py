"""The library: what `import echo_cli` gives to a program, with the small random model and once with the real one."""

import inspect
import io
import json
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

import echo_cli
from echo_cli.render.request import PictureOptions, Request
from echo_cli.video import read
from tests.formats import files
from tests.render import stage

QUICK = {"scale": 1, "preset": "ultrafast"}
BOARD = echo_cli.Storyboard(
    scenes=[
        echo_cli.Scene("meadow", "a red ball rolls left across a green meadow", 1.5),
        echo_cli.Scene("desert", "a blue star in the desert", 1, echo_cli.Kind.HARD_CUT),
        echo_cli.Scene("again", "the red ball in the meadow at night", 1.6, "recall:meadow"),
    ],
    seed=5,
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a storyboard in it, and the small model under the name `tiny`."""
    stage.settle(tmp_path / "here", monkeypatch)
    return tmp_path / "here"


def test_the_import_is_light() -> None:
    program = ("import sys; before = set(sys.modules); import echo_cli; echo_cli.EchoError; echo_cli.Storyboard;"
               "print(sorted(set(sys.modules) & {'torch', 'numpy', 'yaml', 'typer', 'rich'}))")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
    program = "import sys, echo_cli; echo_cli.generate; echo_cli.load_storyboard; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_a_film_and_what_there_is_to_know_of_it(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film = echo_cli.generate("story.yaml", "film.mp4", memory="sink", settings={"anchor_frames": 6}, seed=3, **QUICK)
    assert (film.path, film.trace, film.manifest) == (
        Path("film.mp4"), Path("film.trace.json"), Path("film.manifest.json"))
    assert film.subtitles == Path("film.srt") and film.subtitles.exists()
    assert (film.size, film.fps, film.seconds, film.was_there) == ((96, 64), 16.0, 66 / 16, False)
    pictures = list(film.pictures)
    assert len(film.pictures) == len(pictures) == 66
    assert pictures[0].shape == (64, 96, 3) and pictures[0].dtype == np.uint8
    identity = json.loads(film.manifest.read_text())["identity"]
    assert identity["seed"] == 3 and identity["settings"]["memory"]["anchor_frames"] == 6
    assert echo_cli.read_trace(film.trace).header.policy.name == "sink"
    assert capfd.readouterr() == ("", ""), "a library says nothing by itself"

    before = film.path.stat().st_mtime_ns
    again = echo_cli.generate("story.yaml", film.path, memory="sink", settings=["memory.anchor_frames=6"], seed=3,
                              **QUICK)
    assert again.was_there and again.sha256 == film.sha256 and film.path.stat().st_mtime_ns == before


def test_a_timeline_of_another_tool_is_read_as_a_storyboard(tmp_path: Path) -> None:
    (tmp_path / "cut.otio").write_text(files.OTIO)
    board = echo_cli.load_storyboard(tmp_path / "cut.otio")
    assert [(scene.id, scene.prompt) for scene in board.scenes] == [
        ("roof", "A rooftop at sunset"), ("street", "street")]


def test_a_sequence_is_read_back_too(small: Path) -> None:
    film = echo_cli.generate("story.yaml", "frames/%04d.png", **QUICK)
    assert len(film.pictures) == len(list(film.pictures)) == 66 and film.path == Path("frames/%04d.png")


def test_blocks_are_the_films_pictures_and_leave_nothing(small: Path) -> None:
    rendered = list(echo_cli.blocks("story.yaml"))
    assert [block.index for block in rendered] == list(range(6)) and {block.blocks for block in rendered} == {6}
    assert [block.scene for block in rendered] == ["meadow", "meadow", "desert", "again", "again", "again"] or [
        block.scene for block in rendered if block.opens] == ["meadow", "desert", "again"]
    assert rendered[1].frames == range(3, 6) and rendered[1].layout.tokens and rendered[1].memory_bytes
    assert {path.name for path in small.iterdir()} == {"story.yaml"}
    pictures = np.concatenate([block.pictures for block in rendered])
    assert pictures.shape == (66, 128, 192, 3) and pictures.dtype == np.uint8  # as large as the decoder draws
    film = echo_cli.generate("story.yaml", "frames/%04d.png", **QUICK | {"scale": 2})
    assert np.array_equal(pictures, np.stack(list(film.pictures)))


def test_help_offers_nothing_that_the_function_refuses(small: Path) -> None:
    text = str(echo_cli.generate.__doc__)
    assert "    output: film.mp4, " in text and "standard output" not in text
    with pytest.raises(echo_cli.EchoError, match="standard output"):
        echo_cli.generate("story.yaml", "-")


def test_a_storyboard_made_in_python_is_the_same_film(small: Path) -> None:
    written = echo_cli.load_storyboard("story.yaml")
    first = echo_cli.generate(written, "a.mp4", **QUICK)
    assert echo_cli.generate("story.yaml", "a.mp4", **QUICK).was_there, "loaded or named, it is one storyboard"
    assert not first.was_there
    made = next(echo_cli.blocks(pickle.loads(pickle.dumps(BOARD))))
    assert made.scene == "meadow" and made.pictures.shape == (9, 128, 192, 3)
    assert len(echo_cli.generate(BOARD, "b.mp4", subtitles="none", **QUICK).pictures) == 66


def test_what_this_machine_lacks_is_known_before_the_first_block(small: Path) -> None:
    for options in ({"model": "wan2.1-t2v-1.3b"}, {"device": "cuda:7"}):
        for make in (echo_cli.blocks, echo_cli.generate):
            with pytest.raises(echo_cli.EchoError) as caught:
                make("story.yaml", **options)
            assert caught.value.exit_code == 3
    assert {path.name for path in small.iterdir()} == {"story.yaml"}


def test_a_film_says_what_may_disappoint(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("odd.yaml").write_text(stage.STORY.replace("a red ball", "a crimson dragon"))
    film = echo_cli.generate("odd.yaml", memory="window", progress="plain", **QUICK)
    recalls, words = film.warnings
    assert "keeps no scenes, so nothing is recalled in 'again'" in recalls
    assert words.startswith("tiny does not know these words and will not show them: ") and "dragon" in words
    assert f"warning: {recalls}" in capfd.readouterr().err
    assert echo_cli.generate("odd.yaml", memory="window", **QUICK).warnings == film.warnings
    assert capfd.readouterr() == ("", "")


def test_mistakes_are_errors_with_a_hint(small: Path) -> None:
    for call in (
        lambda: echo_cli.generate("nothing.yaml"),
        lambda: echo_cli.generate("story.yaml", seed=-1),
        lambda: echo_cli.generate("story.yaml", memory="sinc"),
        lambda: echo_cli.generate("story.yaml", "-"),
        lambda: echo_cli.blocks("story.yaml", size="big"),
        lambda: echo_cli.blocks(echo_cli.Storyboard(scenes=[echo_cli.Scene("a", "", -1)])),
        lambda: echo_cli.blocks(echo_cli.Storyboard(scenes=[echo_cli.Scene("a", object(), 1)])),
        lambda: echo_cli.load_storyboard("nothing.yaml"),
        lambda: echo_cli.read_trace("story.yaml"),
    ):
        with pytest.raises(echo_cli.EchoError) as caught:
            call()
        assert caught.value.exit_code == 2 and caught.value.message
    twice = echo_cli.Storyboard(scenes=[echo_cli.Scene("a", "a red ball", 1)] * 2, size="96x64")  # as a file says it
    with pytest.raises(echo_cli.EchoError, match="id 'a' belongs to another scene already; give each"):
        echo_cli.generate(twice, "twice.mp4")
    with pytest.raises(TypeError, match=r"^generate\(\) got an unexpected keyword argument 'sede'$"):
        echo_cli.generate("story.yaml", sede=3)
    with pytest.raises(TypeError, match=r"^blocks\(\) missing a required argument: 'storyboard'$"):
        echo_cli.blocks()
    with pytest.raises(AttributeError, match="no attribute 'film'"):
        echo_cli.film  # noqa: B018
    Path("film.mp4").write_text("mine")
    with pytest.raises(echo_cli.EchoError) as caught:
        echo_cli.generate("story.yaml", "film.mp4", **QUICK)
    assert caught.value.exit_code == 5 and Path("film.mp4").read_text() == "mine"


@pytest.mark.parametrize(("options", "message", "hint"), [
    ({"seed": -1}, "seed must lie between", "Give a whole number"),
    ({"keep_room": "much"}, "keep_room much: not a size", "Write a size"),
    ({"settings": [3]}, "settings 3: must be NAME=VALUE", "Write NAME=VALUE"),
    ({"output": "film.xyz"}, "film.xyz", " `-o - | ffmpeg -i - film.xyz`."),  # a command is for a shell
    ({"sign_cert": "story.yaml"}, "sign_cert and sign_key need each other", ""),
    ({"output": "there.mp4"}, "there.mp4 exists", "Use force=True to overwrite it, or write elsewhere with output."),
])
def test_errors_name_options_as_python_does(small: Path, options: dict[str, Any], message: str, hint: str) -> None:
    Path("there.mp4").touch()
    with pytest.raises(echo_cli.EchoError) as caught:
        echo_cli.generate("story.yaml", **QUICK | options)
    assert message in caught.value.message and hint in (caught.value.hint or "")
    assert str(caught.value) == caught.value.message


def test_progress_and_a_log_are_there_on_request(small: Path, capfd: pytest.CaptureFixture[str]) -> None:
    echo_cli.generate("story.yaml", "film.mp4", progress="plain", log_file="film.log", **QUICK)
    out, err = capfd.readouterr()
    assert out == "" and "Progress: 100.0%" in err
    assert "seed: 5" in Path("film.log").read_text()


def test_ctrl_c_is_a_keyboard_interrupt_and_the_same_call_resumes(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from echo_cli.render.keeper import Keeper

    whole = echo_cli.generate("story.yaml", "whole.mp4", **QUICK)
    due, calls = Keeper.due, []

    def struck(keeper: Keeper) -> bool:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return due(keeper)

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "due", struck)
        with pytest.raises(KeyboardInterrupt):
            echo_cli.generate("story.yaml", "film.mp4", checkpoint_every=1e-9, **QUICK)
    assert not Path("film.mp4").exists() and Path("film.resume").exists()
    film = echo_cli.generate("story.yaml", "film.mp4", **QUICK)
    assert film.sha256 == whole.sha256 and not Path("film.resume").exists()


def test_options_are_those_of_the_request_and_help_lists_them() -> None:
    shown, asked = inspect.signature(echo_cli.generate), inspect.signature(Request)
    assert list(shown.parameters) == list(asked.parameters)
    assert shown.parameters["progress"].default == "none" and shown.parameters["seed"].annotation == int | None
    assert "bar" in get_args(shown.parameters["progress"].annotation)
    assert list(inspect.signature(echo_cli.blocks).parameters) == [
        "storyboard", *inspect.signature(PictureOptions).parameters]
    assert "crf: Encoding quality" in (echo_cli.generate.__doc__ or "")
    assert set(echo_cli.__all__) <= set(dir(echo_cli))
    for make, answer in ((echo_cli.generate, echo_cli.Film), (echo_cli.blocks, Iterator[echo_cli.RenderedBlock])):
        hints = get_type_hints(make)
        assert hints["seed"] == int | None and hints["return"] == answer
        assert inspect.signature(make).return_annotation == answer
        assert "storyboard: A Storyboard, or" in make.__doc__ and "may be repeated" not in make.__doc__


TYPED = '''
import echo_cli

film = echo_cli.generate("a.yaml", "a.mp4", seed=3, size=(832, 480), progress="bar", settings={"window": 21})
reveal_type(film)
for block in echo_cli.blocks("a.yaml", model="tiny"):
    reveal_type(block.index)
echo_cli.generate("a.yaml", sede=3)
echo_cli.generate("a.yaml", decoder="fats")
echo_cli.blocks("a.yaml", output="a.mp4")
'''


@pytest.mark.slow
def test_type_checkers_see_the_options(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(TYPED)
    search_path = {**os.environ, "MYPYPATH": str(Path(__file__).parents[1])}  # mypy does not follow editable installs
    report = subprocess.run([sys.executable, "-m", "mypy", "--strict", "user.py"], cwd=tmp_path, capture_output=True,
                            text=True, env=search_path).stdout
    assert 'Revealed type is "echo_cli.render.api.Film"' in report and 'int"' in report
    wrong = [line for line in report.splitlines() if line.startswith("user.py") and ": error:" in line]
    assert len(wrong) == 3 and "sede" in wrong[0] and "decoder" in wrong[1] and "output" in wrong[2]


def test_what_the_readme_shows_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    shown = re.findall(r"^```python\n(.*?)^```", readme, re.MULTILINE | re.DOTALL)
    assert shown
    monkeypatch.chdir(tmp_path)
    Path("story.yaml").write_text("scenes: [{id: a, prompt: a red ball, duration: 0.5s}]")
    for number, program in enumerate(shown):
        exec(compile(program, f"README.md, program {number}", "exec"), {})
    assert Path("film.mp4").exists()


def test_a_real_film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    board = echo_cli.Storyboard(scenes=[echo_cli.Scene("a", "a red ball in a green meadow", 0.5)], model="tiny")
    film = echo_cli.generate(board, tmp_path / "film.mp4")
    assert film.size == (832, 480) or min(film.size) >= 480
    assert sum(1 for _ in read.pictures(film.path)) == len(film.pictures) == 8
    assert time.time() - film.path.stat().st_mtime < 600
