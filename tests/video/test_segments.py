"""A film in segments: the same file however often it was interrupted, with every picture at its own time."""

import base64
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echo_cli.errors import Damaged, OutputError
from echo_cli.files import sha256
from echo_cli.video import ffmpeg, read, segments
from echo_cli.video.encoding import Encoding
from echo_cli.video.segments import SegmentedFilm, Written
from echo_cli.video.subtitles import Caption
from echo_cli.video.tags import Tags
from echo_cli.video.target import Images, Movie
from tests.trace.browser import Browser, find_browser

from .pictures import HEIGHT, WIDTH, number_of, picture, pictures

FAST = Encoding(preset="ultrafast")
COUNT = 90


@pytest.fixture(autouse=True)
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "LENGTH", 20)


def opened(place: Path, written: Written | None = None, *, images: bool = False, encoding: Encoding = FAST,
           **options) -> SegmentedFilm:
    place.mkdir(exist_ok=True)
    target = Images(place / "%03d.png") if images else Movie(place / "film.mp4")
    return SegmentedFilm(target, place / "film.resume", WIDTH, HEIGHT, 16, encoding, written=written, **options)


def blocks(start: int, stop: int) -> Iterator[np.ndarray]:
    for at in range(start, stop, 12):
        yield pictures(at, min(at + 12, stop))


def whole(place: Path, **options) -> str:
    with opened(place, **options) as film:
        return ended(film, 0)


def ended(film: SegmentedFilm, start: int) -> str:
    for block in blocks(start, COUNT):
        film.write(block)
    output = film.finish()
    film.publish()
    return output.sha256


def interrupted(place: Path, stop: int, beyond: int = 0, **options) -> Written:
    """A film that was given `beyond` more pictures after what it said of itself was noted."""
    with opened(place, **options) as film:
        for block in blocks(0, stop):
            film.write(block)
        written = film.mark().written()
        film.rely()
        for block in blocks(stop, stop + beyond):
            film.write(block)
    return written


def packets(path: Path) -> list[tuple[int, int, int]]:
    """Decoding time, time and duration of every packet, in pictures."""
    table = subprocess.run([ffmpeg.executable(), *ffmpeg.QUIET, "-i", str(path), "-c", "copy", "-f", "framecrc", "-"],
                          capture_output=True, text=True).stdout.splitlines()
    rate = next(int(line.split("/")[1]) for line in table if line.startswith("#tb"))
    return [tuple(int(part) * 16 / rate for part in line.split(",")[1:4]) for line in table if not line.startswith("#")]


@pytest.mark.parametrize(("codec", "preset"), [
    ("libx264", "veryfast"), ("mpeg4", None),
    *(pytest.param(*other, marks=pytest.mark.slow) for other in (("libx265", "ultrafast"), ("libsvtav1", "12")))])
def test_segments_join_without_a_gap(tmp_path: Path, codec: str, preset: str | None) -> None:
    encoding = Encoding(codec, preset=preset)
    made = {whole(tmp_path / "a", encoding=encoding)}
    written = interrupted(tmp_path / "b", 50, 35, encoding=encoding)
    with opened(tmp_path / "b", written, encoding=encoding) as film:
        made.add(ended(film, 50))
    assert len(made) == 1
    path = tmp_path / "a" / "film.mp4"
    assert [number_of(seen) for seen in read.pictures(path)] == list(range(COUNT))
    decoding, times, durations = zip(*packets(path), strict=True)
    assert sorted(times) == list(range(COUNT)) and set(durations) == {1}
    assert list(decoding) == [decoding[0] + step for step in range(COUNT)] and decoding[0] <= 0
    assert read.facts(path).seconds == pytest.approx(COUNT / 16, abs=0.01)
    assert 0 < path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")


def test_hevc_has_the_tag_that_players_want(tmp_path: Path) -> None:
    with opened(tmp_path / "a", encoding=Encoding("libx265", preset="ultrafast")) as film:
        film.write(pictures(0, 25))
        film.finish()
        film.publish()
    content = (tmp_path / "a" / "film.mp4").read_bytes()
    assert b"hvc1" in content and b"hev1" not in content


@pytest.mark.parametrize(("stop", "beyond", "images"), [
    (0, 30, False), (7, 0, False), (20, 25, False), (33, 60, False), (79, 11, False), (90, 0, False),
    (20, 0, True), (33, 60, True)])
def test_however_it_was_interrupted_it_comes_out_the_same(tmp_path: Path, stop: int, beyond: int, images: bool) -> None:
    written = interrupted(tmp_path / "a", stop, min(beyond, COUNT - stop), images=images)
    assert written.pictures == stop and written.segments == stop // 20
    with opened(tmp_path / "a", written, images=images) as film:
        assert film.pictures == stop
        made = ended(film, stop)
    assert made == whole(tmp_path / "b", images=images)


def test_interrupted_again_and_again(tmp_path: Path) -> None:
    """Also before anything new was noted: what was relied on last time is still there."""
    written = interrupted(tmp_path / "a", 27, 50)
    for stop in (35, 64):
        with opened(tmp_path / "a", written) as film:
            film.write(pictures(27, 80))
        with opened(tmp_path / "a", written) as film:
            for block in blocks(written.pictures, stop):
                film.write(block)
            written = film.mark().written()
            film.rely()
    with opened(tmp_path / "a", written) as film:
        made = ended(film, 64)
    assert made == whole(tmp_path / "b")


@pytest.mark.parametrize("images", [False, True])
def test_an_encoder_that_outlives_its_killed_run_spoils_nothing(tmp_path: Path, images: bool) -> None:
    """Neither a picture of the film that is made in the same place after it, nor that film's end."""
    orphan = opened(tmp_path / "a", images=images)
    orphan.write(pictures(60, 61))
    encoder = orphan._current.writer
    os.kill(encoder.process, signal.SIGSTOP)
    encoder.write(pictures(61, 72))
    shutil.rmtree(tmp_path / "a" / "film.resume")
    with opened(tmp_path / "a", images=images) as film:
        film.write(pictures(0, 50))
        os.kill(encoder.process, signal.SIGCONT)
        with suppress(OutputError):
            encoder.finish()
        for block in blocks(50, COUNT):
            film.write(block)
        made = film.finish().sha256
        film.publish()
    assert made == whole(tmp_path / "b", images=images) == sha256(*film.target.existing())
    orphan.abort()


def test_a_killed_run_leaves_nothing_among_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    killed = opened(tmp_path / "a")
    killed.write(pictures(0, 12))
    assert list((tmp_path / "temporary").iterdir()) == []
    with opened(tmp_path / "a"):
        assert list((tmp_path / "a" / "film.resume").iterdir()) == []
    killed.abort()


def test_what_is_kept_of_pictures_is_bounded(tmp_path: Path) -> None:
    size = WIDTH * HEIGHT * 3
    with opened(tmp_path / "a") as film:
        for count, block in enumerate(blocks(0, COUNT)):
            film.write(block)
            if count == 3:
                film.mark().written()
                film.rely()
            raw = sum(path.stat().st_size for path in tmp_path.rglob("*.raw"))
            assert raw <= (3 if count < 3 else 4) * 20 * size


def test_a_film_shorter_than_a_segment_and_one_of_exactly_one(tmp_path: Path) -> None:
    for count in (1, 20):
        with opened(tmp_path / str(count), tags=Tags("One, 'two' = three")) as film:
            film.write(pictures(0, count))
            film.finish()
            film.publish()
        assert [number_of(seen) for seen in read.pictures(tmp_path / str(count) / "film.mp4")] == list(range(count))
        assert b"One, 'two' = three" in (tmp_path / str(count) / "film.mp4").read_bytes()


def test_captions_keep_their_time_across_segments(tmp_path: Path) -> None:
    captions = [Caption(18 / 16, 23 / 16, "one"), Caption(41 / 16, 42 / 16, "two")]
    with opened(tmp_path / "a", scale=4, burn=captions, images=True) as film:
        film.write(np.stack([picture(0)] * 45))
        film.finish()
    seen = [np.asarray(Image.open(tmp_path / "a" / f"{number:03d}.png")) for number in range(45)]
    assert [number for number, each in enumerate(seen) if (each != seen[0]).any()] == [18, 19, 20, 21, 22, 41]


@pytest.mark.parametrize("name", ["segment-000001.mp4", "pictures-000002.raw"])
@pytest.mark.parametrize("harm", ["gone", "short", "flipped"])
def test_what_is_not_what_was_written_is_refused(tmp_path: Path, name: str, harm: str) -> None:
    written = interrupted(tmp_path / "a", 50)
    path = tmp_path / "a" / "film.resume" / name
    content = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "short" else content[:100] + bytes([content[100] ^ 4]) + content[101:])
    with pytest.raises(Damaged):
        opened(tmp_path / "a", written)
    if harm != "gone":  # nothing was spoiled by looking
        path.write_bytes(content)
        with opened(tmp_path / "a", written) as film:
            assert ended(film, 50) == whole(tmp_path / "b")


def test_a_picture_of_a_sequence_that_is_gone_is_missed(tmp_path: Path) -> None:
    written = interrupted(tmp_path / "a", 50, images=True)
    (tmp_path / "a" / "033.png").unlink()
    with pytest.raises(Damaged, match="033.png is gone"):
        opened(tmp_path / "a", written, images=True)


def test_a_folder_that_vanishes_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist any more"), opened(tmp_path / "a") as film:
        film.write(pictures(0, 15))
        (tmp_path / "a").rename(tmp_path / "b")
        film.write(pictures(15, COUNT))
        film.finish()


def test_any_name(tmp_path: Path) -> None:
    for name in ("it's \"one\"\n%d", "-фильм 🎬", "pipe:1", "x" * 255):
        made = {whole(tmp_path / name), whole(tmp_path / "plain")}
        assert len(made) == 1 and sha256(tmp_path / name / "film.mp4") in made


SEEN = """
new Promise(async done => {
  const video = document.createElement('video'), canvas = document.createElement('canvas');
  video.src = 'data:video/mp4;base64,%s';
  await new Promise((ready, failed) => {
    video.onloadeddata = ready;
    video.onerror = () => done(String(video.error.message));
  });
  canvas.width = %d; canvas.height = %d;
  const draw = canvas.getContext('2d'), bars = [];
  for (const number of %s) {
    const sought = new Promise(ready => video.onseeked = ready);
    video.currentTime = (number + 0.5) / 16;
    await sought;
    await new Promise(shown => setTimeout(shown, 100));  // a busy machine draws later than it says
    draw.drawImage(video, 0, 0);
    const row = draw.getImageData(0, 4, canvas.width, 1).data;
    bars.push(row.filter((value, place) => place %% 4 == 0 && value > 127).length);
  }
  const played = new Promise(ready => video.onended = ready);
  video.currentTime = 75 / 16;
  video.muted = true;
  await video.play();
  await played;
  done([video.duration, ...bars]);
})"""


@pytest.mark.browser
@pytest.mark.skipif(find_browser() is None, reason="no Chromium on this machine")
def test_a_browser_plays_it_and_finds_every_picture_at_its_time(tmp_path: Path) -> None:
    encoding = Encoding()  # with pictures that refer to later ones
    whole(tmp_path / "a", encoding=encoding)
    numbers = [0, 1, 19, 20, 21, 39, 40, 59, 60, 79, 80, 88]
    content = base64.b64encode((tmp_path / "a" / "film.mp4").read_bytes()).decode()
    with Browser(tmp_path / "profile") as browser:
        seen = browser.ask(SEEN % (content, WIDTH, HEIGHT, numbers))
    assert isinstance(seen, list), seen
    assert seen[0] == pytest.approx(COUNT / 16, abs=0.01) and seen[1:] == pytest.approx(numbers, abs=1)


def test_nothing_that_was_written_is_a_wrong_count(tmp_path: Path) -> None:
    written = interrupted(tmp_path / "a", 50)
    with pytest.raises(Damaged):
        opened(tmp_path / "a", replace(written, segments=1, pictures=30))


def test_the_pictures_of_a_copied_place_are_removed_with_their_segment(tmp_path: Path) -> None:
    with opened(tmp_path / "a") as film:
        film.write(pictures(0, 5))
        film.mark().written()
        film.write(pictures(5, 50))  # two segments are complete
        film.unmark()
        assert {path.name for path in (tmp_path / "a" / "film.resume").glob("*.raw")} == {
            "pictures-000001.raw", "pictures-000002.raw"}
