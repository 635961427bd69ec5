"""Every kind of film, decoded again: its pictures, its length, its chapters, and the same bytes however it was made."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from echo_cli.errors import UsageError
from echo_cli.video import encoding, ffmpeg, read, segments
from echo_cli.video.encoding import CONTAINERS, Encoding, codec_named
from echo_cli.video.segments import SegmentedFilm, Written
from echo_cli.video.sound import Part, Sound
from echo_cli.video.sound import check as check_sound
from echo_cli.video.tags import Chapter, Tags
from echo_cli.video.target import Movie
from tests.video.sounds import tone

from .pictures import HEIGHT, WIDTH, number_of, pictures

COUNT = 50
TAGS = Tags("Day & night", (Chapter("Day", 0, 20), Chapter("Night", 20, COUNT)), "deu")
KINDS = {  # suffix and codec → what ffmpeg says of the stream
    (".mp4", "libx264"): ("h264", "yuv420p"), (".mp4", "libx265"): ("hevc", "yuv420p"),
    (".mp4", "libsvtav1"): ("av1", "yuv420p"), (".webm", "libvpx-vp9"): ("vp9", "yuv420p"),
    (".webm", "libsvtav1"): ("av1", "yuv420p"), (".mov", "prores"): ("prores", "yuv422p10le"),
    (".mov", "prores-4444"): ("prores", "yuv444p1"), (".mkv", "libx264"): ("h264", "yuv420p"),
    (".mkv", "libvpx-vp9"): ("vp9", "yuv420p"), (".gif", "gif"): ("gif", "bgra"),
}
PRESETS = {"libx264": "ultrafast", "libx265": "ultrafast", "libsvtav1": "12", "libvpx-vp9": "8"}


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LENGTH", 20)


def opened(place: Path, suffix: str, codec: str, written: Written | None = None, fps: float = 16.0,
           sound: Sound | None = None) -> SegmentedFilm:
    place.mkdir(exist_ok=True)
    encoding = Encoding(codec, preset=PRESETS.get(codec), suffix=suffix)
    return SegmentedFilm(Movie(place / f"film{suffix}"), place / "film.resume", WIDTH, HEIGHT, fps, encoding,
                         tags=TAGS, written=written, sound=sound)


def made(place: Path, suffix: str, codec: str, fps: float = 16.0) -> Path:
    with opened(place, suffix, codec, fps=fps) as film:
        film.write(pictures(0, COUNT))
        film.finish()
        film.publish()
    return place / f"film{suffix}"


def described(path: Path) -> str:
    return subprocess.run([ffmpeg.executable(), "-hide_banner", "-i", path], capture_output=True, text=True).stderr


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_a_film_of_every_kind_has_its_pictures_and_its_length(suffix: str, codec: str, tmp_path: Path) -> None:
    path = made(tmp_path, suffix, codec)
    facts = read.facts(path)
    wanted, pixels = KINDS[suffix, codec]
    assert (facts.codec, facts.width) == (wanted, WIDTH) and facts.pixel_format.startswith(pixels)
    assert facts.fps == pytest.approx(16, abs=0.7 if suffix == ".gif" else 0), "a GIF has hundredths of a second"
    assert facts.seconds == pytest.approx(COUNT / 16, abs=0.021)
    seen = list(read.pictures(path))
    assert len(seen) == COUNT
    assert [number_of(picture) for picture in seen] == pytest.approx(range(COUNT), abs=1)


@pytest.mark.parametrize(("suffix", "codec"), KINDS)
def test_an_interrupted_film_of_every_kind_comes_out_the_same(suffix: str, codec: str, tmp_path: Path) -> None:
    whole = made(tmp_path / "a", suffix, codec)
    with opened(tmp_path / "b", suffix, codec) as film:
        film.write(pictures(0, 27))
        written = film.mark().written()
        film.rely()
        film.write(pictures(27, 45))
    with opened(tmp_path / "b", suffix, codec, written) as film:
        film.write(pictures(27, COUNT))
        film.finish()
        film.publish()
    assert (tmp_path / "b" / whole.name).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm", ".mkv"])
def test_chapters_title_and_comment_are_in_every_kind_that_has_them(suffix: str, tmp_path: Path) -> None:
    said = described(made(tmp_path, suffix, CONTAINERS[suffix].codecs[0]))
    assert re.search(r"title +: Day & night", said, re.I) and "trainedAlgorithmicMedia" in said
    assert suffix == ".mov" or re.search(r"Stream #0:0\S*\(deu\): Video", said), "MOV has codes of its own"
    assert re.findall(r"Chapter #\S+ start ([\d.]+), end ([\d.]+)", said) == [
        ("0.000000", "1.250000"), ("1.250000", "3.125000")]


def test_a_rate_that_milliseconds_cannot_say_does_not_drift(tmp_path: Path) -> None:
    path = made(tmp_path, ".mkv", "libx264", fps=24000 / 1001)
    report = subprocess.run([ffmpeg.executable(), *ffmpeg.QUIET, "-i", path, "-c", "copy", "-f", "framecrc", "-"],
                          capture_output=True, text=True).stdout.splitlines()
    times = sorted(int(line.split(",")[2]) for line in report if not line.startswith("#"))
    assert times == pytest.approx([number * 1001 / 24 for number in range(COUNT)], abs=0.51)


@pytest.mark.parametrize(("encoding", "report"), [
    (Encoding("libx264", suffix=".webm"), "a .webm film cannot hold h264"),
    (Encoding("prores"), "a .mp4 film cannot hold prores"),
    (Encoding("libx264", suffix=".gif"), "a .gif film cannot hold h264"),
    (Encoding("libvpx-vp9", crf=64, suffix=".webm"), "--crf 64: libvpx-vp9 takes 0 to 63"),
    (Encoding("libx264", preset="fsat"), "--preset fsat: not one of libx264's (did you mean 'fast'?)"),
    (Encoding("libsvtav1", preset="fast", suffix=".webm"), "--preset fast: not one of libsvtav1's"),
    (Encoding("prores", crf=3, suffix=".mov"), "--crf 3: prores has no such setting"),
    (Encoding("gif", preset="fast", suffix=".gif"), "--preset fast: gif has no such setting"),
])
def test_what_a_kind_or_a_codec_does_not_have_is_refused(encoding: Encoding, report: str) -> None:
    with pytest.raises(UsageError) as caught:
        encoding.check_choices()
    assert report in caught.value.message


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_default_passes_its_own_trial(suffix: str) -> None:
    encoding = Encoding(CONTAINERS[suffix].codecs[0], suffix=suffix)
    encoding.check_choices()
    encoding.check(WIDTH, HEIGHT)


def test_an_encoder_that_a_kind_cannot_hold_is_found_out_before_anything_is_rendered() -> None:
    with pytest.raises(UsageError, match="ffmpeg cannot encode with .*mpeg4.*webm"):
        Encoding("mpeg4", suffix=".webm").check(WIDTH, HEIGHT)


def test_an_encoder_is_tried_once_and_again_after_it_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding._try.cache_clear()
    tried, run = [], ffmpeg.run
    monkeypatch.setattr(ffmpeg, "run", lambda arguments: tried.append(arguments) or run(arguments))
    for _ in range(2):
        Encoding(crf=31.5).check(WIDTH, HEIGHT)
    assert len(tried) == 1
    for _ in range(2):
        with pytest.raises(UsageError):
            Encoding("nonsense").check(WIDTH, HEIGHT)
    Encoding(crf=31.5).check(WIDTH, 2 * HEIGHT)
    assert len(tried) == 4


def test_codecs_have_short_names() -> None:
    profiles = [Encoding(codec_named(name), suffix=".mov").arguments()
                for name in ("prores-422", "prores-422-hq", "prores")]
    assert [words[words.index("-profile:v") + 1] for words in profiles] == ["2", "3", "3"]
    assert [codec_named(name) for name in ("h264", "HEVC", "av1", "vp9", "prores", "libx264", "h264_nvenc")] == [
        "libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores", "libx264", "h264_nvenc"]


@pytest.mark.parametrize(("suffix", "seconds"), [(".mp4", 1), (".mp4", 9), (".webm", 1), (".mov", 9), (".mkv", 1)])
def test_a_sound_track_is_cut_or_padded_to_the_films_length(suffix: str, seconds: float, tmp_path: Path) -> None:
    sound = Sound((Part(tone(tmp_path / "a tone.wav", 440, seconds), 0.0, COUNT / 16),), COUNT / 16)
    files = []
    for place in (tmp_path / "a", tmp_path / "b"):
        codec = CONTAINERS[suffix].codecs[0]
        with opened(place, suffix, codec, sound=sound) as film:
            film.write(pictures(0, COUNT))
            film.finish()
            film.publish()
        files.append(place / f"film{suffix}")
    assert files[0].read_bytes() == files[1].read_bytes()
    said = described(files[0])
    wanted = {".webm": "Audio: opus", ".mov": "Audio: pcm_s16le"}.get(suffix, "Audio: aac")
    assert wanted in said and said.count("Chapter #") == 2
    assert read.facts(files[0]).seconds == pytest.approx(COUNT / 16, abs=0.03)
    assert len(list(read.pictures(files[0]))) == COUNT
    heard = ffmpeg.run(["-i", str(files[0]), "-map", "0:a", "-ac", "1", "-ar", "8000", "-f", "s16le", "-"]).stdout
    wave = np.frombuffer(heard, np.int16).astype(float)
    assert len(wave) / 8000 == pytest.approx(COUNT / 16, abs=0.05)
    loud = np.abs(wave[8000 * 2:8000 * 3]).max()
    assert loud > 1000 if seconds > 3 else loud < 50, "silence after the end of a short sound"


def test_a_file_without_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("la la la")
    with pytest.raises(UsageError, match="--audio .*notes.txt: no sound that ffmpeg can read"):
        check_sound(tmp_path / "notes.txt")
    with pytest.raises(UsageError, match="no sound"):
        check_sound(made(tmp_path, ".mp4", "libx264"))
