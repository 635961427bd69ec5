"""What is written is read back: by ourselves, and by the libraries that editors use."""

import itertools
import json
import sys
import types
from dataclasses import replace
from fractions import Fraction
from importlib.metadata import EntryPoint

import pytest

from echo_cli import plugins
from echo_cli.formats import edl
from echo_cli.formats.cut import Cut, Shot
from echo_cli.formats.longlive import switch_frames
from echo_cli.formats.storyboard import cut_of, written
from echo_cli.formats.table import FORMATS, Format, Options, Source, exported_by
from echo_cli.storyboard.canonical import canonical
from echo_cli.storyboard.nouns import Geometry
from echo_cli.storyboard.parse import parse
from echo_cli.storyboard.timeline import timeline
from echo_cli.video.subtitles import Caption, srt

FILM = parse("""
version: 1
title: A day & a night
seed: 7
size: 192x128
fps: 16
scenes:
  - {id: rooftop, prompt: "A <rooftop> garden, \\"at\\" sunset — & more", duration: 10s, subtitle: Rooftop}
  - {id: subway_2, transition: hard cut, prompt: "The same woman: a dim subway platform", duration: 5.25s}
  - {id: walk, transition: smooth, prompt: "She walks on", duration: 3s}
  - {id: back, transition: "recall:rooftop", prompt: "Back on the rooftop", duration: 7s, subtitle: Home}
  - {id: end, transition: "recall:auto", prompt: "The platform once more", duration: 2s}
""")


CUT = cut_of(FILM)


def written_as(name: str, cut: Cut = CUT) -> str:
    row = FORMATS[name]
    assert row.write
    return row.write(cut)[0]


def read_back(name: str, text: str) -> Cut:
    row = FORMATS[name]
    assert row.read
    (cut,) = row.read(Source(text, "file"), Options())
    return cut


@pytest.mark.parametrize("name", ["otio", "edl", "fcpxml"])
def test_an_editors_timeline_comes_back_as_the_same_storyboard(name: str) -> None:
    back = canonical(parse(written(read_back(name, written_as(name)))))
    wanted = canonical(FILM)
    for key in {"otio": (), "edl": ("seed", "size", "fps"), "fcpxml": ("seed", "size", "fps")}[name]:
        back.pop(key, None)
        wanted.pop(key)
    assert back == wanted


@pytest.mark.parametrize("name", ["echo-forcing", "scope", "longlive", "srt", "vtt"])
def test_prompts_or_subtitles_and_times_come_back(name: str) -> None:
    cut = cut_of(FILM)
    back = read_back(name, written_as(name, cut))
    if name in ("srt", "vtt"):
        assert [shot.prompt for shot in back.shots] == ["Rooftop", "Home"]
    else:
        assert [shot.prompt for shot in back.shots] == [shot.prompt for shot in cut.shots]
    if name in ("echo-forcing", "scope"):
        assert [shot.seconds for shot in back.shots] == [shot.seconds for shot in cut.shots]
    if name == "echo-forcing":
        assert [(shot.kind, shot.subtitle) for shot in back.shots] == [(shot.kind, shot.subtitle) for shot in cut.shots]


MARKED = Cut((Shot("one", Fraction(33, 16), subtitle="Tom & Jerry <3 &amp; <b>bold</b>"),
              Shot("two", Fraction(2), subtitle="here --> there; 1 < 2 > 0")), ids=("one", "two"))


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_what_looks_like_markup_in_a_subtitle_comes_back(name: str) -> None:
    text = written_as(name, MARKED)
    assert [shot.prompt for shot in read_back(name, text).shots] == [shot.subtitle for shot in MARKED.shots]
    assert text.count("-->") == 2 and "<b>" not in text  # players see two times and no tag


def test_webvtt_escapes_what_it_reserves() -> None:
    lines = written_as("vtt", MARKED).splitlines()
    assert lines[:3] == ["WEBVTT", "", "00:00:00.000 --> 00:00:02.062"]
    assert lines[3] == "Tom &amp; Jerry &lt;3 &amp;amp; &lt;b&gt;bold&lt;/b&gt;"
    assert lines[6] == "here --&gt; there; 1 &lt; 2 &gt; 0"


def test_subrip_is_written_as_beside_a_film() -> None:
    assert written_as("srt", MARKED) == srt([Caption(0, 33 / 16, MARKED.shots[0].subtitle or ""),
                                             Caption(33 / 16, 65 / 16, MARKED.shots[1].subtitle or "")])


def test_longlive_has_its_times_in_a_file_beside_it() -> None:
    cut = cut_of(FILM)
    row = FORMATS["longlive"]
    assert row.read
    (back,) = row.read(Source(written_as("longlive"), "file"), Options(times=switch_frames(cut)))
    assert all(abs(there.seconds - here.seconds) < 0.75 for there, here in zip(back.shots, cut.shots, strict=True))
    assert switch_frames(back) == switch_frames(cut)


def test_prompts_change_under_longlive_where_they_change_here() -> None:
    film = timeline(FILM, Geometry())
    edges = [film.frames_of(scene).stop for scene in range(len(film.spans))]
    assert switch_frames(CUT) == (
        f"switch_frame_indices: {', '.join(map(str, edges[:-1]))}\nnum_output_frames: {edges[-1]}\n")
    short = replace(CUT, shots=tuple(replace(shot, seconds=Fraction(1, 16)) for shot in CUT.shots[:3]))
    assert switch_frames(short) == "switch_frame_indices: 3, 6\nnum_output_frames: 9\n", "each has a block"


@pytest.mark.parametrize(("fps", "whole"), [(29.97, 30), (30000 / 1001, 30), (59.94, 60), (24000 / 1001, 24), (25, 25)])
def test_timecodes_count_the_pictures_of_the_film(fps: float, whole: int) -> None:
    edges = [Fraction(pictures) / Fraction(repr(fps)) for pictures in (0, 33, 69)]
    shots = tuple(replace(shot, seconds=ends - begins)
                  for shot, (begins, ends) in zip(CUT.shots, itertools.pairwise(edges), strict=False))
    text = written_as("edl", replace(CUT, fps=fps, shots=shots, ids=CUT.ids[:2], film="file:///film.mp4"))
    assert f"{edl.code(33, whole)} {edl.code(69, whole)}" in text
    assert [round(shot.seconds * Fraction(repr(fps))) for shot in read_back("edl", text).shots] == [33, 36]


def test_chapters_begin_at_zero() -> None:
    assert written_as("chapters").splitlines() == [
        "0:00 Rooftop",
        "0:10 subway_2",
        "0:15 walk",
        "0:18 Home",
        "0:25 end",
    ]


def test_what_a_format_cannot_say_is_noted() -> None:
    row = FORMATS["scope"]
    assert row.write
    left = [f"{note.place} {note.what}" for note in row.write(cut_of(FILM))[1]]
    assert "scene 'subway_2' its hard cut" in left and "scene 'back' its subtitle" in left


@pytest.mark.parametrize("name", ["otio", "edl", "echo-forcing", "longlive", "scope"])
def test_what_is_lost_of_the_film_is_listed(name: str) -> None:
    row = FORMATS[name]
    assert row.write and row.read
    cut = replace(CUT, fps=24.0)
    text, left = row.write(cut)
    (back,) = row.read(Source(text, "file"), Options(times=switch_frames(cut)))
    words = {"title": "its title", "fps": "its frame rate", "seed": "its seed", "size": "its size"}
    lost = {word for fact, word in words.items() if getattr(back, fact) != getattr(cut, fact)}
    assert lost == {note.what for note in left if note.place == "the film"}


def test_a_size_that_nobody_gave_is_not_made_up() -> None:
    assert 'width="192" height="128"' in written_as("fcpxml")
    assert "width" not in written_as("fcpxml", replace(CUT, size=None))


def test_the_library_reads_our_timelines() -> None:
    otio = pytest.importorskip("opentimelineio")
    timeline = otio.adapters.read_from_string(written_as("otio"), "otio_json")
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == ["rooftop", "subway_2", "walk", "back", "end"]
    assert [clip.duration().to_seconds() for clip in clips] == [10, 5.25, 3, 7, 2]
    assert [marker.name for clip in clips for marker in clip.markers] == ["recall:rooftop", "recall:auto"]
    assert json.loads(timeline.to_json_string())["OTIO_SCHEMA"].startswith("Timeline")


def test_the_librarys_adapters_read_our_edl_and_fcpxml() -> None:
    otio = pytest.importorskip("opentimelineio")
    pytest.importorskip("otio_cmx3600_adapter")
    edl = otio.adapters.read_from_string(written_as("edl"), "cmx_3600", rate=24)
    assert sum(Fraction(clip.duration().to_seconds()) for clip in edl.find_clips()) == Fraction(109, 4)
    assert [marker.name for clip in edl.find_clips() for marker in clip.markers] == ["recall:rooftop", "recall:auto"]
    pytest.importorskip("otio_fcpx_xml_adapter")
    fcpx = otio.adapters.read_from_string(written_as("fcpxml"), "fcpx_xml")
    assert fcpx is not None


def test_a_format_of_another_package_is_found_by_its_suffix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "elsewhere", types.SimpleNamespace(
        ROW=Format("cards", "A format of another package", ".cards", write=lambda cut: ("cards", []))))
    entries = [EntryPoint("cards", "elsewhere:ROW", "echo_cli.formats"),
               EntryPoint("odd", "no_such_package:ROW", "echo_cli.formats")]
    monkeypatch.setattr(plugins, "_offered", lambda group: {entry.name: (entry,) for entry in entries})
    assert (exported_by(".cards"), exported_by(".otio"), exported_by(".odd")) == (["cards"], ["otio"], [])
