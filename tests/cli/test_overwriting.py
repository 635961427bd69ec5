"""No command overwrites what it did not make: every place where one writes holds something of the user's first."""

import os
import stat
from pathlib import Path

import pytest

from echo_cli.cli.app import run
from echo_cli.models.registry import MODELS
from tests.render import stage

MINE = "something of mine\n"
STORY = "scenes: [{id: a, prompt: a red ball, duration: 0.5s, subtitle: hello}]\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a storyboard and a film of it, and the small model under the name `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    monkeypatch.chdir(tmp_path)
    Path("story.yaml").write_text(STORY)
    return tmp_path


# a command, and where it would write
WRITERS = {
    "generate": (["generate", "story.yaml", "--scale", "1"], "story.mp4"),
    "generate, subtitles": (["generate", "story.yaml", "--scale", "1"], "story.srt"),
    "generate, trace": (["generate", "story.yaml", "--scale", "1"], "story.trace.json"),
    "generate, manifest": (["generate", "story.yaml", "--scale", "1"], "story.manifest.json"),
    "generate, checkpoint": (["generate", "story.yaml", "--scale", "1"], "story.resume/film-notes.txt"),
    "generate, no folder": (["generate", "story.yaml", "--scale", "1", "--force"], "story.resume"),
    "generate, states": (["generate", "story.yaml", "--scale", "1"], "story.states/mine.txt"),
    "generate, no states": (["generate", "story.yaml", "--scale", "1", "--keep-states", "none"], "story.states/mine"),
    "generate, log": (["generate", "story.yaml", "--scale", "1", "--log-file", "notes.json"], "notes.json"),
    "generate, storyboard as log": (["generate", "story.yaml", "--log-file", "other.yaml"], "other.yaml"),
    "batch": (["batch", "story.yaml", "--scale", "1", "--out-dir", "films"], "films/story.mp4"),
    "batch, states": (["batch", "story.yaml", "--scale", "1"], "story.states/mine.txt"),
    "init": (["init", "mine"], "mine.yaml"),
    "import": (["import", "cut.srt", "-o", "mine.yaml"], "mine.yaml"),
    "import, many": (["import", "prompts.txt"], "prompts/prompts-1.yaml"),
    "export": (["export", "story.yaml", "-o", "mine.vtt"], "mine.vtt"),
    "export, second file": (["export", "story.yaml", "--to", "longlive", "-o", "mine.jsonl"], "mine.yaml"),
    "bench memory, json": (["bench", "memory", "--quick", "--out", "results"], "results.json"),
    "bench memory, csv": (["bench", "memory", "--quick", "--out", "results"], "results.csv"),
    "bench memory, page": (["bench", "memory", "--quick", "--out", "results"], "results.html"),
    "bench memory, html": (["bench", "memory", "--quick", "--html", "mine.html"], "mine.html"),
    "bench card": (["bench", "card", "-o", "card.json"], "card.json"),
    "bench rehearsal": (["bench", "rehearsal", "weights"], "weights/transformer.safetensors"),
    "bench soak": (["bench", "soak", "--out", "soak", "--policy", "echo-forcing"], "soak/mine.txt"),
    "train": (["train", "--out", "training"], "training/mine.txt"),
}


@pytest.mark.parametrize("words", [
    ["bench", "memory", "--quick", "--out"], ["bench", "memory", "--quick", "--html"], ["bench", "card", "-o"],
], ids=" ".join)
def test_hours_are_not_spent_on_what_cannot_be_written(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*words, "story.yaml/report.html"]) == 5
    assert "a part of its path is a file" in capsys.readouterr().err


@pytest.mark.parametrize("name", WRITERS)
def test_what_was_there_before_is_there_after(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, target = WRITERS[name]
    Path("cut.srt").write_text("1\n00:00:00,000 --> 00:00:04,000\nA cat\n")
    Path("prompts.txt").write_text("A cat sleeps[3s]\nA dog barks[2s]\n")
    Path(target).parent.mkdir(exist_ok=True)
    Path(target).write_text(MINE)
    assert run(arguments) == 5
    assert Path(target).name in capsys.readouterr().err
    assert Path(target).read_text() == MINE


@pytest.mark.parametrize("command", [["inspect-cache", "story.trace.json", "--html", "mine.html"], ["open", "mine"]])
def test_a_page_of_somebody_else_stays(command: list[str], place: Path) -> None:
    for name in ("story", "mine"):
        assert run(["generate", "story.yaml", "-o", f"{name}.mp4", "--scale", "1", "--quiet"]) == 0
    Path("mine.html").write_text(MINE)
    assert run(command) == 5
    assert Path("mine.html").read_text() == MINE


@pytest.mark.parametrize("command", [["export", "story.yaml", "--to", "vtt", "-o", "pipe", "--force"],
                                     ["init", "pipe.yaml", "--force"]])
def test_force_overwrites_files_and_nothing_else(command: list[str], place: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("pipe", "pipe.yaml"):
        os.mkfifo(name)
    assert run(command) == 5
    assert "is a device or a pipe" in capsys.readouterr().err
    assert all(stat.S_ISFIFO(Path(name).stat().st_mode) for name in ("pipe", "pipe.yaml"))


FOLDERS = ("story.resume", "story.states")


def keep_something() -> None:
    """Something of mine in each folder that a film has beside it."""
    for folder in FOLDERS:
        for path in (Path(folder, "segments", "mine.txt"), Path(folder, "film-notes.txt")):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(MINE)


def kept() -> bool:
    """Whether it is there, and nothing else."""
    return all({path.name for path in Path(folder).rglob("*")} == {"segments", "mine.txt", "film-notes.txt"}
               and Path(folder, "film-notes.txt").read_text() == MINE for folder in FOLDERS)


def test_force_removes_nothing_that_a_film_did_not_leave(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither where a film is begun anew nor where it finds its own."""
    generate = ["generate", "story.yaml", "--scale", "1"]
    Path("story.yaml").write_text(STORY.replace("0.5s", "3s"))
    assert run([*generate, "--quiet"]) == 0
    keep_something()
    assert run(generate) == 0 and "skipped" in capsys.readouterr().err
    assert any(path.name.startswith("snapshot-") for path in Path("story.states").iterdir())
    Path("story.resume", "pictures-000000.raw").write_bytes(b"left by a kill")
    assert run([*generate, "--force"]) == 0
    assert "no states are kept for an edit: story.resume holds something that no run wrote: film-notes.txt" \
        in capsys.readouterr().err
    assert kept()


@pytest.mark.parametrize("options", [[], ["--keep-states", "none"]])
def test_a_dry_run_says_what_would_be_refused(options: list[str], place: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:
    generate = ["generate", "story.yaml", "--scale", "1", *options]
    assert run([*generate, "--quiet"]) == 0
    Path("story.yaml").write_text(STORY.replace("0.5s", "1s"))
    keep_something()
    assert run(generate) == 5
    refusal, hint = capsys.readouterr().err.splitlines()[-2:]
    assert refusal == "story.resume holds something that no run wrote: film-notes.txt"
    assert run([*generate, "--dry-run"]) == 0
    assert f"already there: {refusal}. {hint.removeprefix('hint: ')}" in capsys.readouterr().out
    for folder in FOLDERS:
        Path(folder).rename(f"mine.{folder}")
    Path("story.manifest.json").write_text(MINE)
    assert run([*generate, "--dry-run"]) == 0
    assert "already there: story.manifest.json exists. Use --force" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "options", "seconds"), [("story.srt", [], 4), ("story.end", ["--keep-end"], 4),
                                                          ("story.end", ["--keep-end"], 3)])
def test_an_edit_overwrites_nothing_that_the_film_before_did_not_write(
        name: str, options: list[str], seconds: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate, mute = ["generate", "story.yaml", "--scale", "1", "--quiet"], STORY.replace(", subtitle: hello", "")
    Path("story.yaml").write_text(mute.replace("0.5s", "3s"))
    assert run(generate) == 0
    Path("story.yaml").write_text(mute.replace("0.5s", f"{seconds}s"))
    Path(name).write_text(MINE)
    assert run([*generate, *options]) == 5
    assert capsys.readouterr().err.startswith(f"{name} exists\nhint: Move it away")
    assert run([*generate[:-1], *options, "--dry-run"]) == 0
    assert f"already there: {name} exists. Move it away" in capsys.readouterr().out
    assert Path(name).read_text() == MINE
    Path(name).unlink()
    assert run([*generate, *options]) == 0


def test_the_end_of_an_earlier_version_is_replaced(place: Path) -> None:
    generate = ["generate", "story.yaml", "--scale", "1", "--quiet"]
    assert run([*generate, "--keep-end"]) == 0
    before = Path("story.end").read_bytes()
    Path("story.yaml").write_text(STORY.replace("0.5s", "3s"))
    assert run(generate) == 0 and Path("story.end").read_bytes() == before
    assert run([*generate, "--keep-end"]) == 0 and Path("story.end").read_bytes() != before


@pytest.mark.parametrize("name", ["story.trace.json", "story.manifest.json"])
def test_what_is_left_of_ours_may_be_overwritten(name: str, place: Path) -> None:
    generate = ["generate", "story.yaml", "--scale", "1", "--quiet"]
    assert run(generate) == 0
    whole = Path(name).read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        for path in place.glob("story.*[!l]"):
            if path.is_file():
                path.unlink()
        Path(name).write_bytes(whole[:length])
        assert run(generate) == 0


def test_a_log_goes_on_and_a_text_file_takes_one(place: Path) -> None:
    Path("night.log").write_text("the farm began\n")
    for _ in range(2):
        assert run(["generate", "story.yaml", "--scale", "1", "--quiet", "--log-file", "night.log"]) == 0
    assert Path("night.log").read_text().startswith("the farm began\n")
    assert run(["generate", "story.yaml", "--scale", "1", "--log-file", "story.mp4"]) == 5
