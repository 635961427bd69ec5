"""What -o means, and what may not be written."""

import os
from pathlib import Path

import pytest

from echo_cli.errors import OutputError, UsageError
from echo_cli.files import partial
from echo_cli.render.outputs import outputs_of
from echo_cli.video.target import Images, Movie, Stdout


@pytest.mark.parametrize(("given", "film", "trace"), [
    (None, "story.mp4", "story.trace.json"),
    ("film.mp4", "film.mp4", "film.trace.json"),
    ("film", "film.mp4", "film.trace.json"),
    ("out/v1.2", "out/v1.2.mp4", "out/v1.2.trace.json"),
    ("A.MP4", "A.MP4", "A.trace.json"),
    ("new/", "new/story.mp4", "new/story.trace.json"),
    ("50%d.mp4", "50%d.mp4", "50%d.trace.json"),
    ("frames/%06d.png", "frames/%06d.png", "frames/frames.trace.json"),
    ("shots/a_%d.jpg", "shots/a_%d.jpg", "shots/a.trace.json"),
    ("shots/a_%d.webp", "shots/a_%d.webp", "shots/a.trace.json"),
    ("film.webm", "film.webm", "film.trace.json"),
    ("film.MOV", "film.MOV", "film.trace.json"),
    ("film.mkv", "film.mkv", "film.trace.json"),
    ("film.gif", "film.gif", "film.trace.json"),
    ("shots/%04d-b.png", "shots/%04d-b.png", "shots/b.trace.json"),
])
def test_names(given: str | None, film: str, trace: str) -> None:
    outputs = outputs_of(given, "story")
    assert (str(outputs.film.path), str(outputs.trace)) == (film, trace)
    assert isinstance(outputs.film, Images if film.endswith(("png", "jpg", "webp")) else Movie)


def test_a_folder_that_exists_and_standard_output(tmp_path: Path) -> None:
    assert outputs_of(str(tmp_path), "story").film.path == tmp_path / "story.mp4"
    assert isinstance(outputs_of("-", "story").film, Stdout) and outputs_of("-", "story").companions == ()


@pytest.mark.parametrize("given", ["film.avi", "film.ogv", "one.png", "%d_%d.png", "%s.png", "%06d.exr", "x.mxf",
                                   "x.mpg", "x.apng", "take.2.MPEG"])
def test_names_that_cannot_be_written(given: str) -> None:
    with pytest.raises(UsageError) as caught:
        outputs_of(given, "story")
    assert given in caught.value.message and "%06d" in caught.value.hint


@pytest.mark.parametrize(("given", "better"), [
    ("f/%d%d.png", "f/%06d.png"), ("f/shot-%03d-%d.jpg", "f/shot_%06d.jpg"), ("one.png", "one_%06d.png")])
def test_a_better_name_for_a_sequence_is_shown(given: str, better: str) -> None:
    with pytest.raises(UsageError) as caught:
        outputs_of(given, "story")
    assert caught.value.hint == f"Write {better}."


def test_other_kinds_of_film_are_made_of_the_stream() -> None:
    with pytest.raises(UsageError) as caught:
        outputs_of("my film.mxf", "story")
    assert caught.value.hint.endswith(" `-o - | ffmpeg -i - 'my film.mxf'`.")


def test_a_device_and_a_pipe_have_no_room_for_companions(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/null", str(tmp_path / "pipe")):
        with pytest.raises(UsageError, match="is a device or a pipe") as caught:
            outputs_of(path, "story")
        assert caught.value.hint.endswith(f"`-o - > {path}`.")


def test_existing_files_are_found(tmp_path: Path) -> None:
    outputs = outputs_of(str(tmp_path / "film.mp4"), "")
    assert list(outputs.existing()) == []
    (tmp_path / "film.srt").touch()
    (tmp_path / "film.mp4").symlink_to(tmp_path / "nowhere")
    assert list(outputs.existing()) == [tmp_path / "film.mp4", tmp_path / "film.srt"]


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "ф" * 125 + ".mp4", "🎬" * 60 + "%03d.png"])
def test_names_as_long_as_they_may_be_leave_room_for_the_rest(tmp_path: Path, name: str) -> None:
    outputs = outputs_of(str(tmp_path / name), "")
    outputs.check_writable()
    named = [*outputs.companions, *map(partial, outputs.companions)]
    assert len({path.name for path in named}) == 6 and max(len(os.fsencode(path.name)) for path in named) <= 255
    assert [path.suffixes[-1] for path in outputs.companions] == [".json", ".srt", ".json"]
    other = outputs_of(str(tmp_path / (name[:20] + name[21:])), "")
    assert not {path.name for path in other.companions} & {path.name for path in outputs.companions}


def test_writability_is_tried_and_leaves_nothing(tmp_path: Path, locked_disk: Path) -> None:
    outputs_of(str(tmp_path / "a" / "b" / "film.mp4"), "").check_writable()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    cases = {locked_disk / "film.mp4": "read-only", tmp_path / ("x" * 252): "too long"}
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4" / "inside").mkdir(parents=True)
    cases |= {tmp_path / "file" / "film.mp4": "not a folder", tmp_path / ("x" * 246 + "%03d.png"): "too long"}
    for path, why in cases.items():
        with pytest.raises(OutputError, match=why):
            outputs_of(str(path), "").check_writable()
    outputs = outputs_of(str(tmp_path / "x"), "")
    (tmp_path / "x.mp4").mkdir()
    with pytest.raises(OutputError, match="it is a folder"):
        outputs.check_writable()
