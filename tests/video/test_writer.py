"""The film writer against the real ffmpeg: what comes back from the file, and what is left when it breaks."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echo_cli.errors import OutputError, UsageError
from echo_cli.files import partial, sha256
from echo_cli.video import read
from echo_cli.video.encoding import Encoding
from echo_cli.video.subtitles import Caption
from echo_cli.video.target import Images, Movie
from echo_cli.video.writer import WAITING, FilmWriter

from .pictures import HEIGHT, WIDTH, number_of, picture, pictures


def film(path: Path, count: int, **options) -> Path:
    with FilmWriter(Movie(path), WIDTH, HEIGHT, 16, **options) as writer:
        for start in range(0, count, 12):
            writer.write(pictures(start, min(start + 12, count)))
        output = writer.close()
    assert output.sha256 == sha256(path) and output.bytes == path.stat().st_size
    return path


@pytest.mark.parametrize("count", [1, 2, 12, 53])
def test_every_picture_comes_back_in_order_and_none_besides(tmp_path: Path, count: int) -> None:
    path = film(tmp_path / "film.mp4", count)
    assert [number_of(seen) for seen in read.pictures(path)] == list(range(count))
    facts = read.facts(path)
    assert (facts.codec, facts.pixel_format, facts.width, facts.height, facts.fps) == (
        "h264",
        "yuv420p",
        WIDTH,
        HEIGHT,
        16,
    )
    assert facts.seconds == pytest.approx(count / 16, abs=0.01)
    assert sorted(tmp_path.iterdir()) == [path]


def test_the_index_stands_before_the_pictures(tmp_path: Path) -> None:
    content = film(tmp_path / "film.mp4", 12).read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_scale_enlarges_and_keeps_colours(tmp_path: Path) -> None:
    flat = np.zeros((4, HEIGHT, WIDTH, 3), np.uint8)
    flat[:, :, :WIDTH // 2] = (200, 30, 30)
    flat[:, :, WIDTH // 2:] = (30, 60, 190)
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16, scale=3) as writer:
        writer.write(flat)
        writer.close()
    seen = next(read.pictures(tmp_path / "film.mp4")).astype(int)
    assert seen.shape == (HEIGHT * 3, WIDTH * 3, 3)
    assert np.abs(seen[90, 40] - (200, 30, 30)).max() <= 4 and np.abs(seen[90, 240] - (30, 60, 190)).max() <= 4


def test_the_same_pictures_make_the_same_file(tmp_path: Path) -> None:
    assert sha256(film(tmp_path / "a.mp4", 40)) == sha256(film(tmp_path / "b.mp4", 40))


def test_a_film_does_not_depend_on_the_number_of_cores(tmp_path: Path) -> None:
    cores = os.sched_getaffinity(0)
    hashes = set()
    try:
        for count in (1, len(cores)):
            os.sched_setaffinity(0, set(sorted(cores)[:count]))
            with FilmWriter(Movie(tmp_path / f"{count}.mp4"), WIDTH, HEIGHT, 16, scale=8) as writer:
                writer.write(noise(0))
                hashes.add(writer.close().sha256)
            # x264 cuts its work by threads, and notes in the film how many there were
            assert b" threads=4 " in (tmp_path / f"{count}.mp4").read_bytes()
    finally:
        os.sched_setaffinity(0, cores)
    assert len(hashes) == 1


def test_awkward_names_are_names(tmp_path: Path) -> None:
    for name in ("-film.mp4", "a b'c\"%d:é\n.mp4", "pipe:1.mp4"):
        assert film(tmp_path / name, 3).exists()


def test_burned_captions_cover_exactly_their_pictures(tmp_path: Path) -> None:
    still = np.stack([picture(0)] * 24)
    cut = 11 / 16  # 687.5 ms: between two milliseconds
    burn = [Caption(cut, 1.25, "it's: 100 % \\N")]
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16, scale=4, burn=burn) as writer:
        writer.write(still)
        writer.close()
    lower = [int(seen[HEIGHT * 2:].min(-1).max()) for seen in read.pictures(tmp_path / "film.mp4")]
    assert [number for number, brightest in enumerate(lower) if brightest > 200] == list(range(11, 20))


@pytest.mark.parametrize("encoding", [Encoding(codec="nope"), Encoding(preset="warp")])
def test_a_wrong_encoder_is_told_before_anything_is_made(encoding: Encoding) -> None:
    with pytest.raises(UsageError, match="ffmpeg cannot encode .*(nope|warp)"):
        encoding.check(WIDTH, HEIGHT)
    Encoding(crf=23.5, preset="ultrafast").check(WIDTH, HEIGHT)


def test_crf_reaches_the_encoder(tmp_path: Path) -> None:
    sizes = []
    for crf in (5, 45):
        with FilmWriter(Movie(tmp_path / f"{crf}.mp4"), WIDTH, HEIGHT, 16, Encoding(crf=crf)) as writer:
            writer.write(noise(0))
            sizes.append(writer.close().bytes)
    assert sizes[0] > 5 * sizes[1]


def broken(writer: FilmWriter) -> OutputError:
    with pytest.raises(OutputError) as caught:
        for start in range(0, 4000, 12):
            writer.write(noise(start))
        writer.close()
    return caught.value


def noise(seed: int) -> np.ndarray:
    """A block that does not compress."""
    return np.random.default_rng(seed).integers(0, 255, (12, HEIGHT, WIDTH, 3), dtype=np.uint8)


def until(true: Callable[[], bool]) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    pytest.fail("waited for 20 seconds")


def test_a_killed_encoder_leaves_nothing(tmp_path: Path) -> None:
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        writer.write(noise(0))
        until(partial(tmp_path / "film.mp4").exists)
        os.kill(writer.process, signal.SIGKILL)
        assert "killed (signal 9)" in broken(writer).message
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_killed_after_the_last_picture_leaves_nothing(tmp_path: Path) -> None:
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        writer.write(noise(0))
        os.kill(writer.process, signal.SIGKILL)
        with pytest.raises(OutputError):
            writer.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", [1, 5_000, 100_000, 400_000])
def test_a_limit_on_file_size_leaves_nothing(tmp_path: Path, room: int) -> None:
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        resource.prlimit(writer.process, resource.RLIMIT_FSIZE, (room, room))
        error = broken(writer)
    assert "larger than this account may write" in error.message and "ulimit" in error.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["film.mp4", "%04d.png"])
def test_a_full_disk_is_named(small_disk: Path, kind: str) -> None:
    target = Movie(small_disk / kind) if kind.endswith("mp4") else Images(small_disk / kind)
    with FilmWriter(target, WIDTH, HEIGHT, 16) as writer:
        error = broken(writer)
    assert "the disk is full" in error.message and str(small_disk) in error.message and "Free some space" in error.hint
    if kind == "film.mp4":
        assert list(small_disk.iterdir()) == []
    for path in small_disk.iterdir():  # pictures that have a name are whole
        assert np.asarray(Image.open(path)).shape == (HEIGHT, WIDTH, 3)


def test_a_slow_encoder_holds_the_generator_back(tmp_path: Path) -> None:
    """Memory does not grow: with the encoder asleep, only a few writes are taken."""
    taken = []
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        os.kill(writer.process, signal.SIGSTOP)

        def generate() -> None:
            for start in range(50):
                writer.write(noise(start))
                taken.append(start)

        thread = threading.Thread(target=generate, daemon=True)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive() and 0 < len(taken) <= WAITING + 2
        os.kill(writer.process, signal.SIGCONT)
        thread.join(20)
        assert len(taken) == 50
        writer.close()
    assert sum(1 for _ in read.pictures(tmp_path / "film.mp4")) == 600


def test_a_ctrl_c_in_the_terminal_does_not_reach_the_encoder(tmp_path: Path) -> None:
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        assert os.getsid(writer.process) != os.getsid(0)


def test_a_film_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        writer.write(noise(0))
        until(partial(tmp_path / "film.mp4").exists)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [] and not Path(f"/proc/{writer.process}").exists()


def test_no_encoder_outlives_a_killed_writer(tmp_path: Path) -> None:
    program = ("import os, signal, sys; from tests.video.test_writer import *\n"
               f"w = FilmWriter(Movie(Path({str(tmp_path / 'film.mp4')!r})), WIDTH, HEIGHT, 16); w.write(noise(0))\n"
               "print(w.process, flush=True); os.kill(os.getpid(), signal.SIGKILL)")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    encoder = int(run.stdout)
    until(lambda: not Path(f"/proc/{encoder}").exists())
    assert [path.name for path in tmp_path.iterdir()] == [partial(Path("film.mp4")).name]


def test_wrong_pictures_are_the_callers_mistake(tmp_path: Path) -> None:
    with FilmWriter(Movie(tmp_path / "film.mp4"), WIDTH, HEIGHT, 16) as writer:
        with pytest.raises(ValueError, match="float64"):
            writer.write(np.zeros((1, HEIGHT, WIDTH, 3)))
        with pytest.raises(ValueError, match="96, 64"):
            writer.write(np.zeros((1, WIDTH, HEIGHT, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []
