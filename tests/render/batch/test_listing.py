"""Which storyboards are named, each once, in an order that depends on their paths alone."""

import io
import os
import random
import sys
from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.render.batch.listing import storyboards


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "b.YML", "night/c.yaml", "night/deep/d.yml", "night/.hidden.yaml", "night/.git/e.yaml",
                 "night/c.manifest.json", "night/notes.txt", "[1].yaml"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("scenes: []")


def given(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_files_folders_and_globs() -> None:
    assert storyboards(["a.yaml", "night/notes.txt"]) == ["a.yaml", "night/notes.txt"]
    assert storyboards(["night"]) == ["night/c.yaml", "night/deep/d.yml"]
    assert storyboards(["*"]) == ["[1].yaml", "a.yaml", "b.YML", "night/c.yaml", "night/deep/d.yml"]
    assert storyboards(["night/*"]) == ["night/c.yaml", "night/deep/d.yml"]
    assert storyboards(["**/*.yml"]) == ["night/deep/d.yml"]
    assert storyboards(["[1].yaml"]) == ["[1].yaml"]  # a name that exists is no pattern


def test_each_once_and_in_the_same_order_however_they_are_named() -> None:
    ways = ["night", "a.yaml", "./a.yaml", "night/../b.YML", "night/c.yaml", "*.YML"]
    wanted = [os.path.abspath(path) for path in storyboards(ways)]
    assert len(wanted) == 4
    for seed in range(10):
        random.Random(seed).shuffle(ways)
        assert [os.path.abspath(path) for path in storyboards(ways)] == wanted


def test_a_list_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, b"a.yaml\n\nnight\r\n* missing [x].yaml\n-\n")
    assert storyboards(["-"]) == ["* missing [x].yaml", "./-", "a.yaml", "night/c.yaml", "night/deep/d.yml"]
    given(monkeypatch, b"two\nlines.yaml\0\xff.yaml\0")
    assert storyboards(["-"]) == ["two\nlines.yaml", os.fsdecode(b"\xff.yaml")]


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([], "no storyboard to render"),
        (["*.yaaml"], "no storyboard matches"),
        (["night/.git"], None),
        (["empty"], "this folder holds no storyboard"),
        (["empty/*"], "no storyboard matches"),
    ],
)
def test_naming_none_is_a_mistake(paths: list[str], said: str | None) -> None:
    Path("empty").mkdir()
    if said is None:
        assert storyboards(paths) == ["night/.git/e.yaml"]  # a hidden folder that is named is meant
        return
    with pytest.raises(UsageError, match=said):
        storyboards(paths)


def test_a_file_that_is_absent_is_found_out_when_it_is_read() -> None:
    assert storyboards(["nothing.yaml"]) == ["nothing.yaml"]
