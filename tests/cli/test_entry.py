"""The `echo` script, run as programs run it: ours when it is ours, otherwise byte for byte the system's."""

import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from echo_cli import __version__, entry
from echo_cli.cli.guard import is_ours
from tests.cli.echoes import CALLS, FILES, FOLDERS

SCRIPTS = Path(sysconfig.get_path("scripts"))
OURS = SCRIPTS / "echo"
SYSTEM = Path(entry.LAST_RESORT)

pytestmark = pytest.mark.skipif(
    not (OURS.exists() and SYSTEM.exists()), reason="needs the installed script and /bin/echo"
)


def call(*arguments: str | bytes, program: Path = OURS, **settings: object) -> tuple[int, bytes, bytes]:
    environment = {**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"} | settings.pop("env", {})
    done = subprocess.run([program, *arguments], capture_output=True, env=environment, **settings)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("arguments", [
    [], ["hi"], ["-n", "hi"], ["-e", "a\\tb"], ["-E", "a\\tb"], ["\\x"], ["-e", "\\x41\\c", "rest"], ["--", "generate"],
    ["-n"], ["a", "", " b  c"], ["é 🎬"], [b"\xff\xfe"], ["-h"], ["--nonsense"], ["", "generate"], ["Generate"],
    ["generate "], ["-ne", "x\\ny"], ["$HOME", "*"], ["x" * 100_000],
], ids=lambda arguments: repr(arguments)[:30])
def test_everything_else_is_byte_for_byte_the_systems(arguments: list[str | bytes]) -> None:
    assert call(*arguments) == call(*arguments, program=SYSTEM)


@pytest.fixture
def everyday(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files and folders have everyday names, some of them those of our commands."""
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("part", range(4))
def test_two_hundred_ordinary_uses_stay_byte_for_byte(part: int, everyday: Path) -> None:
    for words in CALLS[part::4]:
        assert call(*words) == call(*words, program=SYSTEM), words


def test_a_listing_that_begins_with_a_command_starts_nothing(everyday: Path) -> None:
    listing = "\n".join(sorted([*FOLDERS[:1], *FILES], key=lambda name: name != "train")).encode()
    assert call("echo", program=Path("/usr/bin/xargs"), input=listing) == (0, b" ".join(listing.split()) + b"\n", b"")
    assert list((everyday / "train").iterdir()) == []
    done = subprocess.run(["make", "-s", "-f", "-"], input=b"all:\n\t@exec echo train finished\n", capture_output=True,
                          env={**os.environ, "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"})
    assert (done.returncode, done.stdout) == (0, b"train finished\n")


@pytest.mark.parametrize("words", [
    ["validate", "story.yaml"], ["validate", "missing.yml"], ["validate", "-"], ["validate", "told.txt"],
    ["validate", "--schema"], ["generate", "story.yaml", "-o", "out.mp4", "--seed", "3"], ["generate", "--help"],
    ["generate", "-"], ["batch", "films"], ["batch", "a.yaml", "b.yaml", "films"], ["models", "--help"],
    ["models", "list", "--json"], ["models", "info", "tiny", "--json"], ["bench", "memory", "--help"],
    ["inspect-cache", "film.trace.json", "--json"], ["inspect-cache", "film.mp4"], ["doctor", "--json"],
    ["shell-init", "bash", "--help"], ["--help"], ["--version"],
    ["generate", "cut.otio"], ["validate", "cut.otio"], ["export", "cut.otio", "--to", "srt"], ["import", "cut.otio"],
], ids=" ".join)
def test_what_names_something_of_ours_is_for_the_tool(words: list[str], everyday: Path) -> None:
    (everyday / "told.txt").write_text("version: 1\nscenes:\n  - id: a\n")
    (everyday / "film.mp4").write_bytes(b"")
    (everyday / "cut.otio").write_text("{}")
    assert is_ours(words)


def test_a_timeline_that_is_not_there_is_echoed(everyday: Path) -> None:
    assert not is_ours(["generate", "cut.otio"])


def test_a_pipe_is_not_opened_to_see_what_it_is(everyday: Path) -> None:
    os.mkfifo(everyday / "pipe")
    assert call("validate", "pipe", timeout=20) == (0, b"validate pipe\n", b"")


def test_xargs_and_env_look_it_up_on_path() -> None:
    result = call("echo", program=Path("/usr/bin/xargs"), input=b"one\ntwo -n\n")
    assert result == (0, b"one two -n\n", b"")
    assert call("echo", "-n", "x", program=Path("/usr/bin/env"))[1] == b"x"


def test_our_commands_reach_the_tool() -> None:
    assert call("--version") == (0, f"echo-cli {__version__}\n".encode(), b"")
    code, _, said = call("validate", "no such file.yaml")
    assert code == 2
    assert said.startswith(b"no such file.yaml: there is no such file\n")


def test_the_systems_echo_is_found_on_path_first(tmp_path: Path) -> None:
    other = tmp_path / "echo"
    other.write_text('#!/bin/sh\nprintf "other:%s\\n" "$*"\n')
    other.chmod(0o755)
    assert call("hi", env={"PATH": f"{SCRIPTS}:{tmp_path}:/bin"})[1] == b"other:hi\n"
    assert call("hi", env={"PATH": str(SCRIPTS)})[1] == b"hi\n"
    assert call("hi", env={"PATH": ""}, cwd=tmp_path)[1] == b"other:hi\n"


def test_a_launcher_that_leads_back_here_does_not_go_round(tmp_path: Path) -> None:
    (tmp_path / "echo").write_text(f'#!/bin/sh\nexec {OURS} "$@"\n')
    (tmp_path / "echo").chmod(0o755)
    assert call("hi", env={"PATH": f"{SCRIPTS}:{tmp_path}"}, timeout=20) == (0, b"hi\n", b"")


def test_a_file_that_may_not_be_run_is_passed_by(tmp_path: Path) -> None:
    (tmp_path / "echo").write_bytes(b"not a program")
    assert call("hi", env={"PATH": f"{tmp_path}"}) == (0, b"hi\n", b"")
    (tmp_path / "echo").chmod(0o755 | stat.S_IXUSR)  # may be run, and is no program
    assert call("hi", env={"PATH": f"{tmp_path}"}) == (0, b"hi\n", b"")


def test_a_reader_that_goes_away_kills_it_silently() -> None:
    line = f"{{ sleep 0.3; {OURS} hi; exit $?; }} | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", line], capture_output=True)
    assert (done.returncode, done.stderr) == (141, b"")


def test_nothing_but_the_standard_library_is_imported_for_the_systems_echo() -> None:
    code = ("import sys, os; before = set(sys.modules); os.execv = lambda *a: sys.exit(0); sys.argv = ['echo', 'hi']\n"
            "import atexit; atexit.register(lambda: print(*sorted(set(sys.modules) - before)))\n"
            "from echo_cli.entry import main; main()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("echo_cli")} == {
        "echo_cli", "echo_cli.commands", "echo_cli.entry", "echo_cli.evidence"}
    assert {name.partition(".")[0] for name in loaded} - {"echo_cli"} <= sys.stdlib_module_names
