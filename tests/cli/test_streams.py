"""The real command, started by a program that has closed a standard stream, whose disk is full, or that expects another
encoding."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STORY = "scenes: [{id: a, prompt: a red ball, duration: 0.5s}]"
FILM = "generate story.yaml --model random-small --scale 1 --preset ultrafast -o film.mp4"
SILENT = ["2>&-", "2>/dev/full"]  # standard error is closed, or takes nothing
TOOL = f"{sys.executable} -c 'from echo_cli.cli.app import main; main()'"
PACKAGE = {"PYTHONPATH": str(Path(__file__).parents[2])}
CLOSED = "cannot write standard output: it is closed\n"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("story.yaml").write_text(STORY)
    return tmp_path


def tell(line: str) -> subprocess.CompletedProcess[str]:
    """What a shell's line does in which `TOOL` is the command."""
    return subprocess.run(["bash", "-c", line.replace("TOOL", TOOL)], capture_output=True, text=True,
                          env={**os.environ, **PACKAGE})


@pytest.mark.parametrize("arguments", [
    "--version", "--help", "", "generate --help", "generate --help --seed 3", "validate story.yaml",
    "validate story.yaml --json", "validate --schema", "export story.yaml --to srt", "doctor", "models list",
    "shell-init bash", "init new.yaml", f"{FILM} --json", f"{FILM} --progress openjd", f"{FILM} -o -",
])
def test_what_has_to_be_printed_on_a_closed_standard_output_is_an_output_error(arguments: str) -> None:
    done = tell(f"TOOL {arguments} >&-")
    assert (done.returncode, done.stderr) == (5, CLOSED)
    assert not Path("film.mp4").exists(), "what cannot be told is not rendered"


def test_a_command_that_prints_nothing_there_succeeds_without_standard_output() -> None:
    done = tell(f"TOOL {FILM} -q >&- && TOOL export story.yaml --to srt -o story.srt >&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path("film.mp4").exists() and Path("story.srt").exists()


@pytest.mark.parametrize(("arguments", "said"), [
    ("validate nothing.yaml", "nothing.yaml: there is no such file"), ("verify nothing.mp4 --json", "nothing.mp4"),
    ("doctor --jsn --json", "echo-cli doctor: No such option: --jsn"),
])
def test_an_error_keeps_its_code_without_standard_output(arguments: str, said: str) -> None:
    done = tell(f"TOOL {arguments} >&-")
    assert done.returncode == 2 and done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 2 and "closed" not in done.stderr


def test_a_film_that_is_done_is_whole_although_its_name_cannot_be_printed() -> None:
    done = tell(f"TOOL {FILM} --progress none >&-")
    assert done.returncode == 5 and done.stderr.endswith(CLOSED) and "Traceback" not in done.stderr
    assert Path("film.mp4").exists()
    assert json.loads(Path("film.manifest.json").read_text())["film"]["seconds"] == 0.5


@pytest.mark.parametrize("stream", SILENT)
@pytest.mark.parametrize("more", ["", "--progress bar", "--progress json", "-v --log-file film.log"])
def test_a_film_is_rendered_without_standard_error(more: str, stream: str) -> None:
    done = tell(f"TOOL {FILM} {more} {stream}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "film.mp4\n", "")
    assert json.loads(Path("film.manifest.json").read_text())["film"]["seconds"] == 0.5


@pytest.mark.parametrize("stream", SILENT)
def test_without_standard_error_the_exit_code_says_what_failed(stream: str) -> None:
    done = tell(f"TOOL validate nothing.yaml {stream}; echo $?; TOOL doctor --jsn --debug {stream}; echo $?")
    assert done.stdout == "2\n2\n"
    result = json.loads(tell(f"TOOL verify nothing.mp4 --json {stream}").stdout)
    assert (result["exit_code"], result["status"]) == (2, "failed")


def test_a_batch_is_rendered_although_nobody_reads_what_it_says() -> None:
    for name in ("other", "third"):
        Path(f"{name}.yaml").write_text(STORY)
    batch = "batch . --model random-small --scale 1 --preset ultrafast"
    done = tell(f"TOOL {batch} --json 2>/dev/full")
    assert done.returncode == 0 and len(list(Path().glob("*.mp4"))) == 3
    assert [json.loads(line)["status"] for line in done.stdout.splitlines()] == ["made"] * 3
    done = tell(f"TOOL {batch} --force 2> >(true)")  # a pipe without a reader
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3


def test_a_log_on_a_full_disk_is_named() -> None:
    done = tell(f"TOOL {FILM} --log-file /dev/full --progress none -q")
    assert done.returncode == 5 and Path("film.mp4").exists()
    assert done.stderr == ("cannot write /dev/full: the disk is full\n"
                           "hint: Free some space, or write to another disk with --log-file.\n")
    done = tell("TOOL generate nothing.yaml --log-file /dev/full")
    assert done.returncode == 2 and done.stderr.startswith("nothing.yaml: there is no such file")


def test_with_every_stream_closed_films_are_rendered_and_no_file_of_theirs_takes_a_streams_place() -> None:
    assert tell(f"TOOL {FILM} -q >&- 2>&- <&-").returncode == 0
    assert tell(f"TOOL {FILM.replace('film.mp4', 'usual.mp4')} -q").returncode == 0
    assert Path("film.mp4").read_bytes() == Path("usual.mp4").read_bytes()
    assert tell("TOOL --version >&- 2>&- <&-").returncode == 5


@pytest.mark.parametrize("arguments", [
    "validate -", "validate - --json", "generate - -o film.mp4", "import -", "export - --to srt", "batch -",
])
def test_a_closed_standard_input_is_named_where_it_would_be_read(arguments: str) -> None:
    done = tell(f"TOOL {arguments} <&-")
    said = done.stdout if "--json" in arguments else done.stderr
    assert done.returncode == 2 and "standard input is closed" in said
    assert "internal error" not in done.stderr and len(done.stderr.splitlines()) <= 2


def test_a_command_that_reads_a_file_needs_no_standard_input() -> None:
    assert tell("TOOL export story.yaml --to srt <&-").returncode == 0
    done = tell(f"TOOL {FILM} -q <&-")
    assert (done.returncode, done.stderr) == (0, "") and Path("film.mp4").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize(("arguments", "stream"), [
    ("validate ü😀.yaml --json", "stdout"), ("validate ü.yaml --json", "stdout"),
    ("generate ü😀.yaml --dry-run --json", "stdout"), ("generate ü😀.yaml --show-settings --json", "stdout"),
    ("batch ü😀.yaml --plan --json", "stdout"), ("generate ü.yaml --json", "stdout"),
    ("verify ü.mp4 --json", "stdout"), ("generate ü.yaml --progress json", "stderr"),
])
def test_json_is_json_whatever_the_encoding_of_the_stream(arguments: str, stream: str, encoding: str) -> None:
    Path("ü😀.yaml").write_text("title: für 😀\n" + STORY, "utf-8")
    done = subprocess.run(f"{TOOL} {arguments}", shell=True, capture_output=True,
                          env={**os.environ, **PACKAGE, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert "ü" in str(json.loads(getattr(done, stream).decode("utf-8"))), done


@pytest.mark.parametrize("arguments", ["export ü.yaml --to longlive", "import für.srt"])
def test_a_file_that_is_printed_is_utf_8(arguments: str) -> None:
    Path("ü.yaml").write_text(STORY.replace("red ball", "Ü 😀"), "utf-8")
    Path("für.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nÜ 😀\n", "utf-8")
    done = subprocess.run(f"{TOOL} {arguments}", shell=True, capture_output=True,
                          env={**os.environ, **PACKAGE, "PYTHONIOENCODING": "ascii"})
    assert "Ü 😀" in done.stdout.decode("utf-8"), done
