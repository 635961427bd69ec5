"""Files that nobody should trust: whatever is in a picture, a clip, a `.scenes` or an `.end`, the answer is one clear
mistake or a film."""

import io
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from echo_cli.cli.app import run
from tests.render import stage
from tests.video.clips import write_clip
from tests.video.test_still import WRONG, encoded, halves

HANGS = 300  # seconds for a hundred files: each clip is looked at for ten at the most, and hardly any takes a tenth
LISTS = b"#EXTM3U\n/etc/passwd\n", b"ffconcat version 1.0\nfile /dev/zero\n"  # of other files, for ffmpeg
STATELESS = ("--keep-states", "none")
LONGEST = 10  # seconds for one file; the process is ended by a signal then
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
        others = whole["clip" if what == "picture" else "picture"], [*wrong, *LISTS]
        yield what, mutated(dice.choice(whole[what]), dice, *others)


def mutated(whole: bytes, dice: random.Random, *others: list[bytes]) -> bytes:
    """A file that is damaged in one way, or one of the others in its place."""
    data = bytearray(whole)
    at, length = dice.randrange(len(data)), dice.choice((1, 4, 64, 1000))
    match dice.randrange(5 + len(others)):
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
        case other:
            data = bytearray(dice.choice(others[other - 5]))
    return bytes(data)


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


KEPT = {"scenes": """
keep_scenes: true
scenes:
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 3s}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 1s}
""", "end": """
scenes:
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 2.2s}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 1s}
"""}
LATER = {"scenes": """
series: first.scenes
scenes:
  - {id: street, prompt: a yellow star in a city street at night, duration: 1s}
  - {id: again, transition: "recall:first/meadow", prompt: the red ball in the meadow, duration: 1s}
  - {id: nearest, transition: "recall:auto", prompt: the star in the desert, duration: 1s}
""", "end": """
continue: first.end
scenes:
  - {id: again, transition: "recall:meadow", prompt: the red ball in the meadow, duration: 1s}
"""}


def later_film(name: str) -> tuple[int, str]:
    """The exit code of `generate` for the film that needs the other one's file, and what it said."""
    signal.alarm(LONGEST)
    with redirect_stderr(io.StringIO()) as said:
        code = run(["generate", "later.yaml", "-o", name, "--scale", "1", "--force", "--quiet", *STATELESS])
    signal.alarm(0)
    return code, said.getvalue()


def refuse_mutants(kind: str, count: int, seed: int) -> None:
    """In a process of its own: a film that leaves a file of this kind, and `generate` for one that needs it, with
    `count` mutants of the file in its place. A mutant of a part that is not read makes the same film; the others are
    refused."""
    stage.install()
    Path("first.yaml").write_text(KEPT[kind])
    assert run(["generate", "first.yaml", "--scale", "1", "--quiet", "--keep-end"]) == 0
    Path("later.yaml").write_text(LATER[kind])
    path, dice, refused = Path(f"first.{kind}"), random.Random(seed), 0
    whole, wrong = path.read_bytes(), [*(data for data, _ in WRONG.values()), *LISTS]
    assert later_film("right.mp4")[0] == 0
    for number in range(count):
        while (data := mutated(whole, dice, wrong)) == whole:  # the same byte was written
            pass
        path.write_bytes(data)
        code, said = later_film("later.mp4")
        if code == 0:
            assert Path("later.mp4").read_bytes() == Path("right.mp4").read_bytes(), number
            Path("later.mp4").unlink()
            continue
        refused += 1
        assert code == 2 and path.name in said and said.count("hint: ") <= 1 and len(said) < 2000, (number, code, said)
        assert "Traceback" not in said and "internal error" not in said, (number, said)
        assert not Path("later.mp4").exists(), number
    print(f"{kind}: {refused} of {count} refused, the others are the same film")
    assert refused > 0.8 * count  # small pictures of scenes are not read, and are most of a small model's file


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "wait4"), reason="needs wait4")
@pytest.mark.parametrize("kind", KEPT)
def test_two_hundred_and_fifty_mutants_of_what_a_film_left_cost_neither_time_nor_memory(kind: str,
                                                                                     tmp_path: Path) -> None:
    code, said, megabytes = measured(tmp_path, "from tests.cli.test_hostile_inputs import refuse_mutants\n"
                                               f"refuse_mutants({kind!r}, 250, 1)")
    print(said)
    assert code == 0 and megabytes < 1024, said


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
