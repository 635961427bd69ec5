"""Files that nobody should trust: whatever is in a picture or a clip, the answer is one clear mistake or a film."""

import io
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echo_cli.cli.app import run
from tests.video.clips import write_clip
from tests.video.test_still import WRONG, encoded, halves

HANGS = 300  # seconds for a hundred files: each clip is looked at for ten at the most, and hardly any takes a tenth
ENDINGS = {"picture": ("jpg", "png", "webp"), "clip": ("mp4", "webm", "gif", "avi")}


def good(folder: Path) -> dict[str, list[bytes]]:
    """Pictures and clips of every kind, as they should be."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    pictures = [encoded(noise, "JPEG"), encoded(noise.convert("CMYK"), "JPEG"), encoded(noise), encoded(noise, "WEBP"),
                encoded(noise.convert("P")), encoded(halves(mode="RGBA"), "WEBP", lossless=True)]
    clips = [write_clip(folder / f"good.{ending}", 12, 16, (96, 64), *codec).read_bytes() for ending, codec in (
        ("mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p")), ("mkv", ("-c:v", "libx264", "-pix_fmt", "yuv420p")),
        ("avi", ("-c:v", "mpeg4")), ("gif", ("-f", "gif")))]
    return {"picture": pictures, "clip": clips}


def mutants(folder: Path, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Half of them pictures: cut off, overwritten, parts doubled or taken out, of another kind, or made to harm."""
    dice, whole, wrong = random.Random(seed), good(folder), [data for data, _ in WRONG.values()]
    for number in range(count):
        what = ("picture", "clip")[number % 2]
        data = bytearray(dice.choice(whole[what]))
        at, length = dice.randrange(len(data)), dice.choice((1, 4, 64, 1000))
        match dice.randrange(7):
            case 0:
                del data[at:]
            case 1:
                data[at:at + length] = dice.randbytes(length)
            case 2:
                del data[at:at + length]
            case 3:
                data[at:at] = data[at:at + 20 * length]
            case 4:
                for _ in range(30):
                    data[dice.randrange(min(len(data), 400))] = dice.randrange(256)
            case 5:
                data = bytearray(dice.choice(whole["clip" if what == "picture" else "picture"]))
            case _:
                lists = b"#EXTM3U\n/etc/passwd\n", b"ffconcat version 1.0\nfile /dev/zero\n"
                data = bytearray(dice.choice([*wrong, *lists]))
        yield what, bytes(data)


def storyboard(folder: Path, count: int, seed: int) -> Path:
    """A scene for each mutant."""
    scenes = []
    for number, (what, data) in enumerate(mutants(folder, count, seed)):
        path = folder / f"{number}.{ENDINGS[what][number % len(ENDINGS[what])]}"
        path.write_bytes(data)
        scenes.append(f"  - {{id: s{number}, prompt: a red ball, duration: 3s, {what}: {path.name}}}\n")
    (folder / "story.yaml").write_text("scenes:\n" + "".join(scenes))
    return folder / "story.yaml"


def test_every_mutant_is_a_mistake_with_its_place_or_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["validate", str(storyboard(tmp_path, 40, 1))]) == 2
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if "story.yaml:" in line]
    assert 10 < len(lines) < 40 and "Traceback" not in said and "internal error" not in said
    assert all(": scene 's" in line and (": picture " in line or ": clip " in line) for line in lines)


# A new process counts what the one that started it held, so a small one stands between it and the tests.
_MEASURED = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_maxrss // 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def measured(folder: Path, *command: str) -> tuple[int, str, int]:
    """The exit code of a Python command, what it said, and the megabytes that it or any of its own processes held."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", _MEASURED, sys.executable, "-c", *command], cwd=folder, timeout=HANGS,
                          capture_output=True, text=True, env=environment)
    return done.returncode, done.stdout + done.stderr, int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs wait4")
@pytest.mark.parametrize("seed", range(2, 7))
def test_five_hundred_mutants_cost_neither_time_nor_memory(tmp_path: Path, seed: int) -> None:
    """A hundred at a time by the real command, with the memory of its ffmpegs."""
    board = storyboard(tmp_path, 100, seed)
    code, said, megabytes = measured(tmp_path, "from echo_cli.cli.app import main; main()", "validate", str(board))
    print(f"seed {seed}: {megabytes} MB")
    assert code == 2 and "Traceback" not in said and "internal error" not in said and megabytes < 1024


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs wait4")
def test_the_largest_picture_that_is_allowed_takes_less_than_a_gigabyte(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGBA", (7_000, 7_000), (9, 90, 200, 100)).save(data, "PNG", compress_level=1)
    (tmp_path / "large.png").write_bytes(data.getvalue())
    code, said, megabytes = measured(
        tmp_path, "from pathlib import Path; from echo_cli.video.still import check, read, still\n"
                  "check(Path('large.png')); still(read(Path('large.png')), (832, 480))")
    print(f"{megabytes} MB")
    assert code == 0 and megabytes < 1024, said
