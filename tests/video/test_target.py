"""Image sequences and standard output; the MP4 target is met in test_writer."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echo_cli.video import ffmpeg, read
from echo_cli.video.target import Images
from echo_cli.video.writer import FilmWriter

from .pictures import HEIGHT, WIDTH, picture, pictures
from .sounds import tone


def sequence(path: Path, count: int):
    with FilmWriter(Images(path), WIDTH, HEIGHT, 16) as writer:
        writer.write(pictures(0, count))
        return writer.close()


def test_png_pictures_are_exact_and_numbered_as_the_trace_numbers_them(tmp_path: Path) -> None:
    folder = tmp_path / "100%d shots"
    output = sequence(folder / "shot_%04d.png", 5)
    assert sorted(path.name for path in folder.iterdir()) == [f"shot_000{number}.png" for number in range(5)]
    for number in range(5):
        assert (np.asarray(Image.open(folder / f"shot_000{number}.png")) == picture(number)).all()
    content = b"".join((folder / f"shot_000{number}.png").read_bytes() for number in range(5))
    assert output.sha256 == hashlib.sha256(content).hexdigest() and output.bytes == len(content)


def test_a_shorter_sequence_leaves_no_picture_of_the_longer_one(tmp_path: Path) -> None:
    pattern = tmp_path / "%d.jpg"
    sequence(pattern, 12)
    (tmp_path / "cover.jpg").write_bytes(b"mine")
    (tmp_path / "007.jpg").write_bytes(b"mine")  # %d would never write this name
    assert len(Images(pattern).existing()) == 12
    sequence(pattern, 3)
    Images(pattern).trim(3)
    assert {path.name for path in tmp_path.iterdir()} == {"0.jpg", "1.jpg", "2.jpg", "cover.jpg", "007.jpg"}


def test_a_picture_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    part = Images(tmp_path / "100%d" / "%d.png", first=20, growing=tmp_path / "50%")
    part.prepare()
    for name in ("20.png", "21.png", "22.png.tmp", "021.png"):
        (tmp_path / "50%" / name).write_bytes(b"it")
    part.collect()
    assert {path.name for path in (tmp_path / "100%d").iterdir()} == {"20.png", "21.png"}
    part.discard()
    assert {path.name for path in tmp_path.iterdir()} == {"100%d"}


@pytest.fixture(scope="module", params=[False, True], ids=["silent", "with sound"])
def streamed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A film of 48 pictures, as standard output has it."""
    heard = tone(tmp_path_factory.mktemp("streamed") / "tone.wav", 440, 1) if request.param else None
    program = ("from tests.video.pictures import *; from echo_cli.video.writer import FilmWriter\n"
               "from echo_cli.video.sound import Part, Path, Sound; from echo_cli.video.target import Stdout\n"
               f"sound = Sound((Part(Path({str(heard)!r}), 0.0, 3.0),), 3.0) if {request.param} else None\n"
               "with FilmWriter(Stdout(), WIDTH, HEIGHT, 16, sound=sound) as w:\n"
               " for i in range(4): w.write(pictures(12 * i, 12 * i + 12))\n"
               " assert w.close() is None")
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=Path(__file__).parents[2])
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_standard_output_is_a_film_that_plays_as_it_flows(streamed: bytes, tmp_path: Path) -> None:
    fragments = [match.start() - 4 for match in re.finditer(b"moof", streamed)]
    assert len(fragments) >= 3
    for end, least in ((fragments[2], 16), (None, 48)):
        (tmp_path / "film.mp4").write_bytes(streamed[:end])
        assert least <= sum(1 for _ in read.pictures(tmp_path / "film.mp4")) <= 48


def test_a_film_on_standard_output_begins_with_its_first_picture(streamed: bytes, tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    film.write_bytes(streamed)
    about = subprocess.run([ffmpeg.executable(), "-i", film], capture_output=True).stderr.decode()
    assert {float(start) for start in re.findall(r"start:? ([\d.]+)", about)} == {0.0}, about
    steady = ffmpeg.run(["-i", str(film), "-map", "0:v", "-fps_mode", "cfr", "-f", "framemd5", "-"]).stdout.decode()
    assert sum(line.startswith("0,") for line in steady.splitlines()) == 48


def test_a_reader_that_leaves_is_an_error_without_a_traceback() -> None:
    program = ("from tests.video.test_writer import *; from echo_cli.video.target import Stdout\n"
               "with FilmWriter(Stdout(), WIDTH, HEIGHT, 16) as w: print(broken(w).message, file=sys.stderr)")
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False,
                           cwd=Path(__file__).parents[2])
    run.stdout.read(1000)
    run.stdout.close()
    assert b"stopped reading" in run.stderr.read()
    run.stderr.close()
    assert run.wait() == 0
