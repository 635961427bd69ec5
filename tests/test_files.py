"""Files that appear whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from echo_cli.errors import OutputError
from echo_cli.files import (
    REASONS,
    output_error,
    output_errors,
    partial,
    publish,
    read_json,
    read_small,
    sha256,
    write_whole,
)


def test_publishing_renames_and_never_copies(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    path.write_text("old")
    partial(path).write_text("new")
    inode = partial(path).stat().st_ino
    publish(path)
    assert path.read_text() == "new" and path.stat().st_ino == inode and list(tmp_path.iterdir()) == [path]


def test_a_small_file_replaces_the_old_one_or_leaves_it(tmp_path: Path, small_disk: Path) -> None:
    for folder in (tmp_path, small_disk):
        write_whole(folder / "a.json", "old")
    write_whole(tmp_path / "a.json", "né\n")
    assert (tmp_path / "a.json").read_bytes() == "né\n".encode()
    with pytest.raises(OutputError, match="the disk is full"):
        write_whole(small_disk / "a.json", "x" * 1_000_000)
    assert [path.read_text() for path in small_disk.iterdir()] == ["old"]


@pytest.mark.parametrize("number", sorted(REASONS))
def test_every_reason_says_what_where_and_what_to_try(number: int) -> None:
    with pytest.raises(OutputError) as caught, output_errors(Path("/films/a.mp4")):
        raise OSError(number, "system's words")
    assert caught.value.message.startswith("cannot write /films/a.mp4: ") and caught.value.hint
    assert "system's words" not in caught.value.message


def test_an_unknown_reason_is_told_in_the_systems_words() -> None:
    assert "Too many open files" in output_error(OSError(errno.EMFILE, "Too many open files"), Path("a")).message


def test_one_hash_of_several_files_is_that_of_their_bytes(tmp_path: Path) -> None:
    for name, content in (("a", b"1" * 3_000_000), ("b", b"2"), ("ab", b"1" * 3_000_000 + b"2")):
        (tmp_path / name).write_bytes(content)
    assert sha256(tmp_path / "a", tmp_path / "b") == sha256(tmp_path / "ab") != sha256(tmp_path / "b", tmp_path / "a")


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError):
            read_json(path)
    (tmp_path / "large").write_bytes(b"1" * 11)
    assert read_small(tmp_path / "large", 11) == b"1" * 11
    with pytest.raises(OSError, match="larger than 10 bytes"):
        read_small(tmp_path / "large", 10)


def test_json_without_end_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "deep").write_text("[" * 50_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep")
