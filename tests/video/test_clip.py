"""Pictures of clips from anywhere: the right ones, at the film's rate and in its shape, or a reason."""

import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echo_cli.storyboard.nouns import Fit
from echo_cli.video import ffmpeg
from echo_cli.video.clip import check, excerpt, look
from echo_cli.video.still import Unusable

from .clips import numbers, write_clip

SIZE = (96, 64)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "film.mkv")


def test_the_end_of_a_clip_and_any_part_of_it(film: Path) -> None:
    assert look(film).seconds == 3.0
    assert numbers(excerpt(film, 9, 16, SIZE)) == list(range(39, 48))
    assert numbers(excerpt(film, 5, 16, SIZE, begins=1.0)) == list(range(16, 21))
    assert numbers(excerpt(film, 100, 16, SIZE, begins=2.5)) == list(range(40, 48)), "a clip that is shorter ends there"
    assert numbers(excerpt(film, 100, 16, SIZE)) == list(range(48))


@pytest.mark.parametrize("fps", [8, 12, 24, 30])
def test_any_rate_becomes_the_films(tmp_path: Path, fps: int) -> None:
    path = write_clip(tmp_path / "film.mkv", pictures=2 * fps, fps=fps)
    made = numbers(excerpt(path, 16, 16, SIZE))
    assert len(made) == 16 and made == sorted(made)
    assert abs(made[-1] - (2 * fps - 1)) <= 1 and abs(made[0] - fps) <= 1 + fps / 16


@pytest.mark.parametrize(("name", "codec"), [
    ("film.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p")), 
    ("film.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime")),
    ("film.avi", ("-c:v", "mpeg4", "-q:v", "2")), ("film.mov", ("-c:v", "prores_ks")), ("film.gif", ())])
def test_every_container_is_read(tmp_path: Path, name: str, codec: tuple[str, ...]) -> None:
    path = write_clip(tmp_path / name, 32, 16, SIZE, *(codec or ("-f", "gif")))
    check(path)
    made = excerpt(path, 9, 16, SIZE)
    off = 40 if name == "film.gif" else 3  # a GIF has few shades
    assert made.shape == (9, 64, 96, 3) and abs(np.diff(made[:, 32, 48, 0].astype(int)) - 4).max() <= off


def test_shapes_are_fitted_as_pictures_are(tmp_path: Path) -> None:
    wide = write_clip(tmp_path / "wide.mkv", 4, 16, (256, 64))
    cover, contain, stretch = (excerpt(wide, 1, 16, SIZE, fit=fit)[0, 32] for fit in Fit)
    assert cover[2, 0] == cover[93, 0], "the edges are cut off"
    assert contain[1, 0] < 9 and contain[94, 0] > 200 and excerpt(wide, 1, 16, SIZE, fit=Fit.CONTAIN)[0, 2].max() < 3
    assert stretch[0, 0] == 0 and stretch[95, 0] > 200
    assert excerpt(wide, 1, 16, SIZE, focus=(0.0, 0.5))[0, 32, 2, 0] == 0, "or one of them is kept"


def test_a_clip_that_crashes_ffmpeg_is_refused_in_words(film: Path, tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    (crash := tmp_path / "crash").write_text("#!/bin/sh\nkill -SEGV $$\n")
    crash.chmod(0o755)
    monkeypatch.setattr("echo_cli.video.ffmpeg.executable", lambda: str(crash))
    with pytest.raises(Unusable, match="^makes this ffmpeg crash"):
        check(film)


def test_a_clip_stands_as_its_camera_was_held(tmp_path: Path, film: Path) -> None:
    turned = tmp_path / "turned.mp4"
    plain = write_clip(tmp_path / "plain.mp4", 16, 16, SIZE, "-c:v", "libx264", "-pix_fmt", "yuv420p")
    done = ffmpeg.run(["-display_rotation", "90", "-i", str(plain), "-c", "copy", str(turned)])
    assert done.returncode == 0, done.stderr
    upright = excerpt(turned, 1, 16, (64, 96))[0]
    assert {int(upright[1, 32, 0] > 128), int(upright[94, 32, 0] > 128)} == {0, 1}, "the edges are above and below"


def remade(film: Path, to: Path, *how: str) -> Path:
    """The same pictures, not encoded again, in another file."""
    done = ffmpeg.run(["-i", str(film), *how, "-c:v", "copy", str(to)])
    assert done.returncode == 0, done.stderr
    return to


def with_sound(film: Path, to: Path, seconds: float) -> Path:
    return remade(film, to, "-f", "lavfi", "-i", f"sine=duration={seconds}", "-map", "0:v", "-map", "1:a")


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4", "film.ts"])
@pytest.mark.parametrize("seconds", [3.6, 4.3, 12])
def test_the_end_of_the_pictures_is_found_however_long_the_sound_is(film: Path, tmp_path: Path, name: str,
                                                                    seconds: float) -> None:
    path = with_sound(film, tmp_path / name, seconds)
    check(path)
    assert numbers(excerpt(path, 9, 16, SIZE)) == list(range(39, 48))
    assert numbers(excerpt(path, 100, 16, SIZE)) == list(range(48))
    with pytest.raises(Unusable, match="has no picture there"):
        check(path, 3.5)


def test_a_clip_whose_times_begin_late(film: Path, tmp_path: Path) -> None:
    path = remade(film, tmp_path / "late.mkv", "-output_ts_offset", "5")
    check(path)
    assert numbers(excerpt(path, 9, 16, SIZE)) == list(range(39, 48))
    assert numbers(excerpt(path, 5, 16, SIZE, begins=1.0)) == list(range(16, 21))


@pytest.mark.parametrize("keyframes", [20, 250])
def test_any_part_of_a_clip_whose_seeks_end_between_keyframes(tmp_path: Path, keyframes: int) -> None:
    path = write_clip(tmp_path / "film.ts", 48, 16, SIZE, "-c:v", "libx264rgb", "-qp", "0", "-g", str(keyframes))
    check(path)
    assert numbers(excerpt(path, 9, 16, SIZE)) == list(range(39, 48))
    for first in (8, 16, 40):
        check(path, first / 16)
        assert numbers(excerpt(path, 5, 16, SIZE, begins=first / 16)) == list(range(first, first + 5))


def test_the_end_of_a_long_film_is_all_that_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_clip(tmp_path / "long.mkv", 60 * 16)
    begun, popen = [], subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **more: begun.append(command) or popen(command, **more))
    check(path)
    assert len(excerpt(path, 9, 16, SIZE)) == 9
    decoding = [command for command in begun if "pipe:1" in command]
    assert len(decoding) == 2 and all(float(command[command.index("-ss") + 1]) > 58 for command in decoding)


def test_what_is_damaged_is_refused_with_ffmpegs_reason(film: Path, tmp_path: Path) -> None:
    path = remade(film, tmp_path / "film.mp4", "-movflags", "+faststart")
    facts, mark, data = path.read_bytes().partition(b"mdat")
    path.write_bytes(facts + mark + bytes(byte ^ 85 for byte in data))
    for begins in (None, 0.0, 1.0):
        with pytest.raises(Unusable, match="is damaged: [A-Z]"):
            check(path, begins)


def test_the_picture_on_a_sound_is_no_clip(film: Path, tmp_path: Path) -> None:
    cover = tmp_path / "cover.m4a"
    done = ffmpeg.run(["-f", "lavfi", "-i", "sine=duration=3", "-i", str(film), "-map", "0", "-map", "1", "-frames:v",
                       "1", "-c:v", "mjpeg", "-disposition:v", "attached_pic", str(cover)])
    assert done.returncode == 0, done.stderr
    for begins in (None, 0.0):
        with pytest.raises(Unusable, match="has a sound and no pictures"):
            check(cover, begins)


def playlist(film: Path) -> bytes:
    return f"ffconcat version 1.0\nfile '{film}'\n".encode()


def test_what_cannot_be_used_is_refused_with_its_reason(tmp_path: Path, film: Path) -> None:
    picture = io.BytesIO()
    Image.new("RGB", SIZE).save(picture, "PNG")
    sound = tmp_path / "sound.mp4"
    wrong = {
        "text.mp4": b"no clip at all", "empty.mp4": b"", "cut.mkv": film.read_bytes()[:200],
        "list.mp4": playlist(film), "hls.m3u8": f"#EXTM3U\n#EXTINF:3,\n{film}\n".encode(),
        "picture.png": picture.getvalue(),
    }
    for name, data in wrong.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Unusable):
            check(tmp_path / name)
    for path, reason in ((sound, "is not there"), (tmp_path, "is a folder"),
                         (write_clip(tmp_path / "dots.mkv", 2, 16, (8, 8)), "at least 16 pixels"),
                         (write_clip(tmp_path / "ribbon.mkv", 2, 16, (640, 16)), "times as long")):
        with pytest.raises(Unusable, match=reason):
            check(path)
    with pytest.raises(Unusable, match="lasts 3 seconds, so nothing of it begins at 3"):
        check(film, 3.0)
