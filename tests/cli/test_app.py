"""The frame: help, exit codes, and the one boundary where errors become messages."""

import importlib
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from echo_cli import __version__
from echo_cli.cli import app
from echo_cli.commands import COMMANDS
from echo_cli.errors import Exit, Interrupted, MissingError, OutOfMemory, OutputError, UsageError


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., object]], None]:
    """Makes `echo-cli probe` do what a function does."""

    def install(function: Callable[..., object]) -> None:
        monkeypatch.setitem(sys.modules, "probe_command", types.SimpleNamespace(probe=function))
        monkeypatch.setitem(COMMANDS, "probe", ("probe_command:probe", "A probe."))

    return install


def test_every_command_is_where_the_table_says() -> None:
    for target, summary in COMMANDS.values():
        module, _, name = target.partition(":")
        attribute = getattr(importlib.import_module(module), name)
        assert callable(attribute) or isinstance(attribute, typer.Typer)
        assert summary.endswith(".")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], *([name, "--help"] for name in COMMANDS)],
                         ids=lambda arguments: " ".join(arguments) or "nothing")
def test_help_goes_to_standard_output_and_imports_no_torch(arguments: list[str]) -> None:
    code = (f"import sys; from echo_cli.cli.app import run; code = run({arguments!r}); "
            "print('torch' in sys.modules, file=sys.stderr); sys.exit(code)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "False\n")
    assert done.stdout.startswith("Usage: echo-cli")


def test_nothing_that_stays_is_searched_for_garbage_before_the_tool_exits() -> None:
    code = ("import atexit, gc; from echo_cli.cli.app import main; "
            "atexit.register(lambda: print(gc.get_freeze_count() > 10_000)); main()")
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"echo-cli {__version__}", "True"]


def test_top_help_lists_every_command(capfd: pytest.CaptureFixture[str]) -> None:
    app.run(["--help"])
    shown = capfd.readouterr().out
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", shown, re.MULTILINE)


@pytest.mark.parametrize("group", ["models", "bench"])
def test_a_group_alone_shows_its_help_as_the_tool_does(group: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run([group]) == 0
    alone = capfd.readouterr()
    assert app.run([group, "--help"]) == 0
    assert capfd.readouterr() == alone
    assert alone.out.startswith(f"Usage: echo-cli {group}") and alone.err == ""


def _every_help(capfd: pytest.CaptureFixture[str]) -> dict[str, str]:
    attribute = {}
    for words in [[], *([name] for name in COMMANDS)]:
        app.run([*words, "--help"])
        attribute[" ".join(words)] = shown = capfd.readouterr().out
        for name in re.findall(r"^  ([a-z]+) ", shown.partition("\nCommands:\n")[2] if words else "", re.MULTILINE):
            app.run([*words, name, "--help"])
            attribute[" ".join([*words, name])] = capfd.readouterr().out
    return attribute


def test_help_alone_is_the_help_that_typer_shows(capfd: pytest.CaptureFixture[str]) -> None:
    root = typer.main.get_command(app.app)
    for words, shown in _every_help(capfd).items():
        root.main(args=[*words.split(), "--help"], prog_name=app.NAME, standalone_mode=False)
        assert capfd.readouterr().out == shown, words


def test_help_fits_a_screen_or_has_sections(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for words, shown in _every_help(capfd).items():
        sections = re.findall(r"^\w[\w ]*:$", shown, re.MULTILINE)
        assert len(shown.splitlines()) <= 50 or len(sections) > 2, words


def test_help_needs_no_pydantic() -> None:
    program = ("import sys; from echo_cli.cli.app import run; run(['generate', '--help']);"
               "run(['bench', 'memory', '-h']); sys.exit('pydantic' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_help_is_in_words_for_people(capfd: pytest.CaptureFixture[str]) -> None:
    attribute = _every_help(capfd)
    assert {"models get", "bench speed", "bench memory", "train"} <= set(attribute)
    for command, shown in attribute.items():
        assert not re.search(r"<(str|path|int|float|list)\b", shown), command  # names of Python's types
        assert not re.search(r"\{[A-Z]", shown.partition("\n")[0]), command
        # a summary cut short
        assert not re.search(r"\.\.\.$", shown.partition("\nCommands:\n")[2], re.MULTILINE), command
        assert not re.search(r"\[default: \(|\bx[<>]=|=x\b", shown), command
    assert "[default: 20; at least 1]" in attribute["bench speed"]
    assert "[default: 1; 0 to 65535]" in " ".join(attribute["train"].split())


def test_commands_with_quiet_are_those_whose_tests_hold_it(capfd: pytest.CaptureFixture[str]) -> None:
    quiet = {command for command, shown in _every_help(capfd).items() if "--quiet" in shown}
    assert quiet == {"generate", "batch", "import", "export", "open"}


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capfd.readouterr().out == f"echo-cli {__version__}\n"


@pytest.mark.parametrize(("arguments", "message"), [
    (["genrate"], "echo-cli: No such command 'genrate'. Did you mean 'generate'?"),
    (["bench", "sped"], "echo-cli bench: No such command 'sped'. Did you mean 'speed'?"),
    (["xyz"], "echo-cli: No such command 'xyz'.\n"),
    (["doctor", "--jsn"], "echo-cli doctor: No such option: --jsn"),
    (["shell-init", "tcsh"], "SHELL: 'tcsh' is not one of 'bash', 'zsh', 'fish'"),
    (["doctor", "extra"], "too many arguments: extra"),
    (["generate", "a.yaml", "--seed", "x"], "--seed must be a whole number"),
    (["generate", "a.yaml", "--crf", "high"], "--crf must be a number"),
    (["generate", "a.yaml", "--wait", "-3"], "--wait must be at least 0"),
    (["bench", "memory", "--seeds", "0"], "--seeds must be at least 1"),
    (["bench", "memory", "--first-seed", str(2**63)], f"--first-seed must be at most {2**63 - 1}"),
    (["bench", "soak", "--seed", str(2**63)], f"--seed must be at most {2**63 - 1}"),
    (["bench", "faults", "--seed", str(2**63)], f"--seed must be at most {2**63 - 1}"),
    (["generate", "--prompt"], "echo-cli generate: --prompt needs a value\nhint: Run `echo-cli generate --help`"),
    (["scenes", "merge", "a", "-o"], "echo-cli scenes merge: -o needs a value\n"),
])
def test_wrong_arguments_are_told_without_usage_noise(arguments: list[str], message: str,
                                                      capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(arguments) == Exit.USAGE
    out, shown = capfd.readouterr()
    assert out == ""
    assert message in shown
    assert re.search(r"\nhint: Run `echo-cli.* --help` to see its arguments.\n$", shown)


@pytest.mark.parametrize(("error", "code"), [
    (UsageError("m", "h"), 2), (MissingError("m", "h"), 3), (OutOfMemory("m", "h"), 4), (OutputError("m", "h"), 5),
    (Interrupted("m", "h"), 75),
])
def test_errors_for_people_become_message_hint_and_code(error: Exception, code: int, command: Callable,
                                                        capfd: pytest.CaptureFixture[str]) -> None:
    def probe() -> None:
        raise error

    command(probe)
    assert app.run(["probe"]) == code
    assert capfd.readouterr() == ("", "m\nhint: h\n")


def test_debug_shows_the_traceback(command: Callable, capfd: pytest.CaptureFixture[str]) -> None:
    def probe(debug: bool = False) -> None:
        raise UsageError("m", "h")

    command(probe)
    assert app.run(["probe", "--debug"]) == 2
    shown = capfd.readouterr().err
    assert "Traceback (most recent call last)" in shown and shown.endswith("m\nhint: h\n")


def test_a_fault_of_ours_leaves_a_log_and_no_traceback(command: Callable, tmp_path: Path,
                                                       capfd: pytest.CaptureFixture[str],
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    def probe() -> None:
        raise ZeroDivisionError("division by zero")

    command(probe)
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        assert app.run(["probe"]) == Exit.FAULT
    shown = capfd.readouterr().err
    (log,) = tmp_path.iterdir()
    assert "echo-cli failed: ZeroDivisionError: division by zero\n" in shown
    assert str(log) in shown and "Traceback" not in shown
    assert "in probe" in log.read_text() and __version__ in log.read_text()

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
        assert app.run(["probe"]) == Exit.FAULT
    assert "No log could be written" in capfd.readouterr().err


@pytest.mark.parametrize(("error", "code", "message"), [
    (KeyboardInterrupt(), 75, "interrupted"), (typer.Abort(), 75, "interrupted"), (MemoryError(), 4, "out of memory"),
])
def test_what_python_raises_is_known_too(error: BaseException, code: int, message: str, command: Callable,
                                         capfd: pytest.CaptureFixture[str]) -> None:
    def probe() -> None:
        raise error

    command(probe)
    assert app.run(["probe"]) == code
    shown = capfd.readouterr().err
    assert shown.startswith(message) and "Traceback" not in shown


@pytest.mark.parametrize("arguments", [
    "validate LONG.yaml", "generate LONG.yaml", "import LONG", "export LONG --to srt", "inspect-cache LONG",
    "open LONG", "verify LONG", "models info ./LONG", "init LONG.yaml", "batch LONG.yaml",
])
def test_a_path_that_is_too_long_is_wrong_input(arguments: str, tmp_path: Path, capfd: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert app.run([word.replace("LONG", "x" * 300) for word in arguments.split()]) == 2
    shown = capfd.readouterr().err
    assert "x" * 300 in shown and "hint: " in shown and "internal error" not in shown


def test_a_commands_number_is_the_exit_code(command: Callable) -> None:
    command(lambda: 3)
    assert app.run(["probe"]) == 3
    command(lambda: None)
    assert app.run(["probe"]) == 0


@pytest.mark.parametrize("arguments", ["validate --schema", "--help", "doctor --help"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_141_and_a_full_disk_is_5(arguments: str, unbuffered: str) -> None:
    def tell(line: str) -> subprocess.CompletedProcess[str]:
        tool = f"{sys.executable} -c 'from echo_cli.cli.app import main; main()' {arguments}"
        return subprocess.run(["bash", "-c", line.replace("TOOL", tool)], capture_output=True, text=True,
                              env={**os.environ, "PYTHONUNBUFFERED": unbuffered})

    gone = tell("{ sleep 0.1; TOOL; } | true; exit ${PIPESTATUS[0]}")
    assert (gone.returncode, gone.stderr) == (Exit.READER_GONE, "") and gone.returncode == 141
    if os.path.exists("/dev/full"):
        full = tell("TOOL >/dev/full")
        assert full.returncode == Exit.OUTPUT
        assert full.stderr == ("cannot write standard output: the disk is full\n"
                               "hint: Free some space.\n")


def test_names_that_a_terminal_cannot_show_do_no_harm() -> None:
    done = subprocess.run([sys.executable, "-c", "from echo_cli.cli.app import main; main()", "validate", b"\xff.yaml"],
                          capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert b"there is no such file" in done.stderr and b"Traceback" not in done.stderr
