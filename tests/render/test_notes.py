"""Small files that a film's run reads before it begins, when something else stands in their place."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from echo_cli.errors import Damaged, MissingError, OutputError
from echo_cli.models.tiny.parts import index
from echo_cli.render import manifest
from echo_cli.render.lock import check_free
from echo_cli.render.outputs import outputs_of
from echo_cli.render.resume import Work


def deep(path: Path) -> None:
    path.write_text("[" * 50_000)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


each = pytest.mark.parametrize("put", [deep, pipe, device])


@each
def test_a_manifest_is_somebody_elses(put: Callable[[Path], None], tmp_path: Path) -> None:
    put(tmp_path / "film.manifest.json")
    assert manifest.read(tmp_path / "film.manifest.json") is None


@each
def test_a_checkpoint_is_damaged(put: Callable[[Path], None], tmp_path: Path) -> None:
    work = Work(outputs_of(str(tmp_path / "film.mp4"), "film"))
    work.folder.mkdir()
    put(work.note)
    with pytest.raises(Damaged, match=r"checkpoint.json"):
        work.read()


@each
def test_a_lock_is_no_lock(put: Callable[[Path], None], tmp_path: Path) -> None:
    put(tmp_path / "film.lock")
    with pytest.raises(OutputError, match="film.mp4"):
        check_free(tmp_path / "film.lock", tmp_path / "film.mp4")
    assert os.path.lexists(tmp_path / "film.lock")


@each
def test_an_index_is_damaged(put: Callable[[Path], None], tmp_path: Path) -> None:
    put(tmp_path / "index.json")
    with pytest.raises(MissingError, match=r"index.json"):
        index(tmp_path)
