"""The frame of every command: names to functions, and one boundary where errors become messages and exit codes.

A command's module is imported when that command runs, and torch inside its function, so that help stays quick.
"""

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from echo_cli import __version__
from echo_cli.cli.grammar import LOOK, GrammarError, called, command_named, help_of, in_words
from echo_cli.cli.guard import is_ours
from echo_cli.cli.messages import as_asked, begin, tell, tell_program
from echo_cli.cli.streams import replace_streams
from echo_cli.commands import ASKED, COMMANDS, NOT_OURS
from echo_cli.errors import EchoError, Exit, Interrupted, ReaderGone, UsageError
from echo_cli.faults import details, known, write_log
from echo_cli.machine import age

NAME = "echo-cli"
_GARBAGE = 50_000  # objects made before Python looks for unreachable ones; by default, 700 or some thousands


class _Later(TyperCommand):
    """A command known by name and summary; its module is imported when it is called."""

    def __init__(self, name: str) -> None:
        super().__init__(name, help=COMMANDS[name][1], callback=None)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        assert self.name is not None
        command = command_named(self.name)
        if not args and isinstance(command, TyperGroup):
            args = ["--help"]  # as the tool itself, called without a command
        return command.make_context(info_name, args, parent, **extra)


class _Commands(TyperGroup):
    def __init__(self, **extra: Any) -> None:
        super().__init__(**extra)
        self.commands = {name: _Later(name) for name in COMMANDS}

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        with _our_codes():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: Any) -> Any:
        with _our_codes():
            return super().invoke(ctx)


@contextmanager
def _our_codes() -> Iterator[None]:
    """Catches what typer would otherwise turn into its own exit codes."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint="No incomplete file was left under a final name.") from None
    except BrokenPipeError:
        raise ReaderGone() from None


app = typer.Typer(
    cls=_Commands,
    rich_markup_mode=None,  # plain help: half the time, and readable in a log
    name=NAME,
    help="Turns a storyboard of timed prompts into one long video, and shows what its memory did on the way.",
    epilog=f"{NAME} COMMAND --help describes a command. Exit codes: 0 done, 1 internal error, 2 wrong input, "
           "3 the machine lacks something, 4 out of memory, 5 output not written, 75 interrupted, "
           "141 the reader of the output stopped early.",
    context_settings=LOOK,
)


def _print_version(value: bool) -> None:
    if value:
        print(NAME, __version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True,
                                          callback=_print_version)] = False,
) -> None:
    """The options of the tool as a whole."""


def main() -> NoReturn:
    """Runs the tool; when called by a shell's `echo`, only if the call is certainly meant for it."""
    if os.environ.pop(ASKED, None) and not is_ours(sys.argv[1:]):
        sys.exit(NOT_OURS)
    replace_streams()
    gc.set_threshold(_GARBAGE)  # an import makes hundreds of thousands of objects, all of which stay
    code = run(sys.argv[1:], age())
    gc.freeze()  # or Python would search all of them again before it exits
    sys.exit(code)


def run(arguments: list[str], before: float = 0.0) -> int:
    """The exit code of the command that `arguments` call. Errors are printed on standard error; with --json or
    --progress openjd, standard output says what failed too. The command began so many seconds `before`."""
    begin(before)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show must not stop a run
            stream.reconfigure(errors="backslashreplace")
    with as_asked(arguments):
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        if (text := help_of(command, arguments)) is not None:
            with _our_codes():
                print(text)
            _flush()
            return Exit.DONE
        result = command.main(args=arguments or ["--help"], prog_name=NAME, standalone_mode=False)
        _flush()
        return result if isinstance(result, int) else Exit.DONE
    except BaseException as error:  # the boundary: nothing passes as a traceback
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        return _tell(error, arguments)


def _flush() -> None:
    """Flushes standard output while an error can still become an exit code."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone() from None


def _silence() -> None:
    """Discards what standard output did not accept, so that Python's final flush does not complain again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: BaseException, arguments: list[str]) -> int:
    """Prints what went wrong and what to do; returns the exit code."""
    if "--debug" in arguments:
        print(details(error), end="", file=sys.stderr)
    if isinstance(error, GrammarError):
        context = getattr(error, "ctx", None)
        where = context.command_path if context else " ".join((NAME, *called(arguments)))
        problem: EchoError | None = UsageError(f"{where}: {in_words(error.format_message())}",
                                               hint=f"Run `{where} --help` to see its arguments.")
    else:
        problem = _known(error)
    _silence()
    if not isinstance(problem, ReaderGone):
        problem = problem or EchoError(f"{NAME} failed: {type(error).__name__}: {error}",
                                       hint=write_log(details(error), arguments))
        tell(problem)
        tell_program(problem, as_json="--json" in arguments)
    return int(problem.exit_code)


def _known(error: BaseException) -> EchoError | None:
    """The error in words that a person can act on, when we have them."""
    return Interrupted("interrupted") if isinstance(error, KeyboardInterrupt | typer.Abort) else known(error)
