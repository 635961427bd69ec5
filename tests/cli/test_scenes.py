"""`scenes`, and `inspect-cache` of a file of scenes: shown, merged and pruned, and hostile ones refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from echo_cli.cli import app
from echo_cli.memory.scene_files import read_entry, read_thumbnail
from echo_cli.models.registry import MODELS
from echo_cli.storyboard.series import read_scenes
from tests.memory.test_scene_files import hostile
from tests.render import stage
from tests.render.test_keepsakes import FIRST, SECOND


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film that kept its scenes."""
    folder = tmp_path_factory.mktemp("first")
    threads, tiny = torch.get_num_threads(), MODELS.own["tiny"]
    MODELS.own["tiny"] = stage.ROW
    try:
        (folder / "first.yaml").write_text(FIRST)
        assert app.run(["generate", str(folder / "first.yaml"), "-o", str(folder / "first.mp4"), "-q"]) == 0
    finally:
        MODELS.own["tiny"] = tiny
        torch.set_num_threads(threads)
    return folder / "first.scenes"


@pytest.fixture(autouse=True)
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    Path("first.scenes").write_bytes(made.read_bytes())
    yield


def ran(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capfd.readouterr()
    code = app.run(list(arguments))
    said = capfd.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("command", [("scenes", "show"), ("inspect-cache",)])
def test_scenes_are_listed(command: tuple[str, ...], capfd: pytest.CaptureFixture[str],
                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    code, out, _ = ran(capfd, *command, "first.scenes")
    assert code == 0
    assert all(words in out for words in ("first  2 scenes", "recall:first/meadow", "a blue star in the desert"))
    code, out, _ = ran(capfd, *command, "first.scenes", "--json")
    rows = json.loads(out)
    assert [scene["recall"] for scene in rows["scenes"]] == ["recall:first/meadow", "recall:first/desert"]
    assert rows["bytes"] == Path("first.scenes").stat().st_size > sum(scene["bytes"] for scene in rows["scenes"])


def test_a_page_shows_a_picture_of_each_scene(capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(capfd, "inspect-cache", "first.scenes", "--html", "page.html")[:2] == (0, "page.html\n")
    page = Path("page.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 2 and "recall:first/meadow" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")


def test_a_question_about_a_trace_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    code, _, shown = ran(capfd, "inspect-cache", "first.scenes", "--block", "3")
    assert code == 2 and "--block asks about a trace" in shown


def test_files_are_merged_and_pruned(capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(capfd, "scenes", "merge", "first.scenes", "-o", "new/er/all.scenes")[0] == 0
    assert len(read_scenes(Path("new/er/all.scenes")).description.scenes) == 2
    code, out, _ = ran(capfd, "scenes", "merge", "first.scenes", "first.scenes", "-o", "all.scenes")
    assert code == 0 and out.startswith("all.scenes: 4 scenes, ")
    ids = [scene.id for scene in read_scenes(Path("all.scenes")).description.scenes]
    assert ids == ["meadow", "desert", "meadow-2", "desert-2"]
    assert ran(capfd, "scenes", "prune", "all.scenes", "--drop", "meadow", "--drop", "desert")[0] == 0
    first, pruned = read_scenes(Path("first.scenes")), read_scenes(Path("all.scenes"))
    for index in range(2):
        one, other = read_entry(first, index), read_entry(pruned, index)
        assert all(torch.equal(*pair) for part in one.parts for pair in zip(one.parts[part], other.parts[part],
                                                                            strict=True))
        assert torch.equal(read_thumbnail(first, index), read_thumbnail(pruned, index))
    assert ran(capfd, "scenes", "prune", "all.scenes", "--keep", "meadow-2", "-o", "one.scenes")[0] == 0
    assert len(read_scenes(Path("one.scenes")).past) == 1 and len(read_scenes(Path("all.scenes")).past) == 2
    assert not list(Path().glob("*.partial"))


@pytest.mark.parametrize(("arguments", "code", "said"), [
    (["merge", "first.scenes", "-o", "first.scenes"], 5, "first.scenes exists"),
    (["merge", "first.scenes", "-o", "x.json"], 2, "does not end in .scenes"),
    (["merge", "first.scenes", "none.scenes", "-o", "x.scenes"], 2, "no such file of scenes"),
    (["prune", "first.scenes"], 2, "which scenes?"),
    (["prune", "first.scenes", "--keep", "medow"], 2, "did you mean 'meadow'?"),
    (["prune", "first.scenes", "--drop", "meadow", "--drop", "desert"], 2, "no scene of first.scenes would be left"),
    (["show", "first.scenes", "--html", "x.txt"], 2, "does not end in .html"),
])
def test_what_cannot_be_done_is_told(arguments: list[str], code: int, said: str,
                                     capfd: pytest.CaptureFixture[str]) -> None:
    status, _, shown = ran(capfd, "scenes", *arguments)
    assert status == code and said in shown and "hint: " in shown
    assert sorted(path.name for path in Path().iterdir()) == ["first.scenes"]


def test_hostile_files_get_one_clear_error_each(made: Path, capfd: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file holds: exit code 2, one message with a hint, no traceback, and nothing is rendered."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    Path("story.yaml").write_text(SECOND)
    files = hostile(made.read_bytes())
    assert len(files) > 210
    for number, (name, data) in enumerate(files.items()):
        Path("first.scenes").write_bytes(data)
        command = [["validate", "story.yaml"], ["generate", "story.yaml"], ["scenes", "show", "first.scenes"],
                   ["scenes", "merge", "first.scenes", "-o", "x.scenes"]][number % 4]
        code, _, shown = ran(capfd, *command)
        assert code == 2 and "first.scenes" in shown and "Traceback" not in shown and len(shown) < 2000, (name, shown)
    assert not list(Path().glob("*.mp4")) and not Path("x.scenes").exists()


def test_the_small_picture_is_of_the_scene(capfd: pytest.CaptureFixture[str]) -> None:
    picture = read_thumbnail(read_scenes(Path("first.scenes")), 0)
    assert picture is not None and Image.fromarray(picture.numpy()).size == (160, 107)
