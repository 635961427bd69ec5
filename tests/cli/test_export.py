"""`export` of a film that is made: its real times, and clips that are parts of it, as editors' libraries read them."""

import io
import itertools
import re
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest

from echo_cli.cli.app import run
from echo_cli.storyboard.parse import load
from echo_cli.trace.reader import read_trace
from tests.render import stage
from tests.video.sounds import tone


@pytest.fixture(autouse=True)
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Fraction]:
    """A film in a folder with a space in its name; the seconds at which its scenes begin, and its end."""
    stage.settle(tmp_path / "a film", monkeypatch)
    assert run(["generate", "story.yaml", "--scale", "1", "--preset", "ultrafast", "--quiet"]) == 0
    header = read_trace(Path("story.trace.json")).header
    return [Fraction(pictures, 16) for pictures in (*(scene.pictures[0] for scene in header.timeline),
                                                    header.film.pictures)]


def test_a_timeline_has_the_times_of_the_film_and_names_it(film: list[Fraction]) -> None:
    otio = pytest.importorskip("opentimelineio")
    spans = [(begins, ends - begins) for begins, ends in itertools.pairwise(film)]
    for source in ("story.trace.json", "story.manifest.json", "story.mp4"):
        assert run(["export", source, "-o", "cut.otio", "--force"]) == 0
        clips = list(otio.adapters.read_from_file("cut.otio").find_clips())
        assert [clip.name for clip in clips] == ["meadow", "desert", "again"]
        assert [(Fraction(clip.source_range.start_time.to_seconds()), Fraction(clip.duration().to_seconds()))
                for clip in clips] == spans
        assert {clip.media_reference.target_url for clip in clips} == {Path("story.mp4").absolute().as_uri()}
        assert [marker.name for clip in clips for marker in clip.markers] == ["recall:meadow"]
    pytest.importorskip("otio_fcpx_xml_adapter")
    assert run(["export", "story.trace.json", "-o", "cut.fcpxml"]) == 0
    clips = list(otio.adapters.read_from_string(Path("cut.fcpxml").read_text(), "fcpx_xml").find_clips())
    assert [(Fraction(clip.source_range.start_time.to_seconds()), Fraction(clip.duration().to_seconds()))
            for clip in clips] == spans
    pytest.importorskip("otio_cmx3600_adapter")
    assert run(["export", "story.trace.json", "-o", "cut.edl"]) == 0
    clips = list(otio.adapters.read_from_file("cut.edl", rate=24).find_clips())
    assert [clip.source_range.start_time.value for clip in clips] == [round(begins * 24) for begins in film[:-1]]
    assert "* SOURCE FILE: story.mp4" in Path("cut.edl").read_text()


@pytest.mark.parametrize("heard", [True, False])
def test_the_sound_of_a_film_is_in_its_timeline(heard: bool) -> None:
    if heard:
        tone(Path("a.wav"), 440, 3)
        assert run(["generate", "story.yaml", "--scale", "1", "--quiet", "--force", "--audio", "a.wav"]) == 0
    for name in ("cut.otio", "cut.fcpxml", "cut.edl"):
        assert run(["export", "story.trace.json", "-o", name]) == 0
    assert ('"kind": "Audio"' in Path("cut.otio").read_text()) is heard
    assert ('hasAudio="1"' in Path("cut.fcpxml").read_text()) is heard
    assert (" AX       B " in Path("cut.edl").read_text()) is heard
    for name in ("cut.otio", "cut.fcpxml", "cut.edl"):
        assert run(["import", name, "-o", "again.yaml", "--force"]) == 0
        assert len(load("again.yaml").scenes) == 3


def test_a_film_that_is_gone_leaves_its_times(film: list[Fraction]) -> None:
    Path("story.mp4").unlink()
    assert run(["export", "story.manifest.json", "-o", "cut.otio"]) == 0
    assert "MissingReference" in Path("cut.otio").read_text()
    assert run(["import", "cut.otio", "-o", "again.yaml"]) == 0
    board = load("again.yaml")
    assert [scene.seconds for scene in board.scenes] == [
        float(ends - begins) for begins, ends in itertools.pairwise(film)]
    assert [scene.prompt for scene in board.scenes] == [scene.prompt for scene in load("story.yaml").scenes]


def test_what_only_a_storyboard_says_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("more.yaml").write_text(stage.STORY.replace("title: A test", "language: deu\nkeep_scenes: true\nmodel: tiny"))
    assert run(["export", "more.yaml", "--to", "otio", "-o", "more.otio"]) == 0
    left = capsys.readouterr().err
    assert [f"left out: storyboard: {what}" in left for what in ("language", "keep_scenes", "model")] == [True] * 3


def exported(source: str, to: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    capsys.readouterr()
    assert run(["export", source, "--to", to]) == 0
    return capsys.readouterr()


def test_subtitles_of_a_film_have_the_times_of_the_film(
        film: list[Fraction], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "story.yaml", "--scale", "1", "--preset", "ultrafast", "--subtitles", "srt", "--quiet",
                "--force"]) == 0
    for source in ("story.trace.json", "story.manifest.json"):
        out, err = exported(source, "srt", capsys)
        assert out == Path("story.srt").read_text() and "Meadow" in out
        assert "left out: every scene: its prompt; the film has subtitles" in err
    chapters = exported("story.trace.json", "chapters", capsys)[0].splitlines()
    assert chapters == ["0:00 Meadow", f"0:0{int(film[1])} desert", f"0:0{int(film[2])} Again"]


def test_subtitles_that_an_older_trace_does_not_hold_are_listed_as_left_out(
        capsys: pytest.CaptureFixture[str]) -> None:
    words = "left out: the film: its subtitles, which the trace of an earlier version does not hold"
    assert words not in exported("story.trace.json", "srt", capsys)[1]
    trace = Path("story.trace.json")
    older = re.sub(r',"subtitle":"\w+"', "", trace.read_text())
    trace.write_text(older)
    for source in ("story.trace.json", "story.manifest.json"):
        out, err = exported(source, "srt", capsys)
        assert words in err and "a red ball rolls left" in out
    Path("plain.yaml").write_text(re.sub(r",? +subtitle: \w+", "", stage.STORY))
    assert run(["generate", "plain.yaml", "--scale", "1", "--preset", "ultrafast", "--quiet"]) == 0
    assert words not in exported("plain.trace.json", "srt", capsys)[1]


@pytest.mark.parametrize("to", ["srt", "chapters", "otio"])
def test_a_storyboard_a_trace_and_a_manifest_are_told_apart_by_their_content(
        to: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for source in ("story.yaml", "story.trace.json", "story.manifest.json"):
        wanted = exported(source, to, capsys)
        content = Path(source).read_bytes()
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        assert exported("-", to, capsys) == wanted
        Path("another").write_bytes(content)
        assert exported("another", to, capsys) == wanted


def test_a_manifest_without_its_trace_is_refused(
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    content = Path("story.manifest.json").read_bytes()
    Path("story.trace.json").unlink()
    for data, words in ((content, "story.trace.json: there is no such file"),
                        (content.replace(b'"trace": {', b'"other": {'), "names no trace")):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        assert run(["export", "-", "--to", "srt"]) == 2
        assert words in capsys.readouterr().err


def test_another_subtitle_is_the_one_that_is_exported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(stage.STORY.replace("subtitle: Again", "subtitle: Home"))
    assert run(["generate", "story.yaml", "--scale", "1", "--preset", "ultrafast", "--quiet", "--force"]) == 0
    assert "Home" in exported("story.trace.json", "vtt", capsys)[0]
