"""Small files that a film's run reads before it begins, when something else stands in their place."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from echo_cli.errors import Damaged, Held, MissingError, OutputError
from echo_cli.models.tiny.parts import index
from echo_cli.render import manifest
from echo_cli.render.lock import OneWriter, check_free
from echo_cli.render.outputs import outputs_of, readable_name
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


def test_another_process_holds_a_film(tmp_path: Path) -> None:
    lock, film = tmp_path / "film.lock", tmp_path / "film.mp4"
    with OneWriter(lock, film), pytest.raises(Held, match="is being rendered by") as caught:
        check_free(lock, film)
    assert caught.value.exit_code == 75 and "Run this again later" in caught.value.hint


@pytest.mark.parametrize("name", ["film.manifest.json", "film.trace.json", "film.srt"])
def test_no_pipe_is_overwritten(name: str, tmp_path: Path) -> None:
    outputs = outputs_of(str(tmp_path / "film.mp4"), "film")
    os.mkfifo(tmp_path / name)
    with pytest.raises(OutputError, match=f"cannot write .*{name}: it is a device or a pipe") as caught:
        outputs.check_writable()
    assert caught.value.exit_code == 5 and os.listdir(tmp_path) == [name]


def test_a_path_through_links_that_lead_nowhere_is_about_the_output(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OutputError, match="links that lead back to themselves") as caught:
        Work(outputs_of(str(tmp_path / "loop" / "film.mp4"), "film")).read()
    assert caught.value.exit_code == 5 and "--restart" not in caught.value.hint


def test_a_name_is_the_locales_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a locale of one byte a character, what that byte means is the name."""
    monkeypatch.setattr(os, "fsencode", lambda name: os.fspath(name).encode("latin-1"))
    assert readable_name("hällo.mp4") == "hällo.mp4"
    assert readable_name("a\udcffb") == "a\\xffb"
