"""The command line's grammar: a command by its name, its help, and the error of a call that does not fit it."""

import importlib
import re
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from echo_cli.cli.plain_help import plain
from echo_cli.commands import COMMANDS

LOOK = {"help_option_names": ["-h", "--help"]}
# typer carries these errors under a name that depends on its version
GrammarError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


_WORDS = (  # what typer and its libraries say of a call that does not fit, and what it means
    (r"Input should be a valid integer.*", "must be a whole number"),
    (r"Input should be a valid number.*", "must be a number"),
    (r"Input should be greater than or equal to (\S+)", r"must be at least \1"),
    (r"Input should be less than or equal to (\S+)", r"must be at most \1"),
    (r"Invalid value for '([^']*)': must", r"\1 must"),
    (r"Invalid value for '([^']*)': (?:Value error, )?", r"\1: "),
    (r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", r"too many arguments: \1"),
    (r"Option '([^']*)' requires an argument\.", r"\1 needs a value"),
    (r": Value error, ", ": "),
)


def in_words(message: str) -> str:
    """A message of the libraries that read command lines, in plain words."""
    for said, meant in _WORDS:
        message = re.sub(said, meant, message)
    return message


def command_named(name: str) -> Any:
    """The command itself, its module imported."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if not isinstance(command, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, context_settings=LOOK)(command)
        command = single
    return plain(typer.main.get_command(command))


def called(arguments: Sequence[str]) -> tuple[str, ...]:
    """The names of the command that a call begins with; none where it begins with anything else."""
    first, second = (*arguments, "", "")[:2]
    if first not in COMMANDS:
        return ()
    command = command_named(first)
    return (first, second) if isinstance(command, TyperGroup) and second in command.commands else (first,)


def help_of(root: Any, arguments: Sequence[str]) -> str | None:
    """What a call prints that asks for the help of a command and for nothing else; None for any other call. typer
    would first build what checks each option's value, which takes longer than everything else."""
    *path, last = arguments or [""]
    if last not in LOOK["help_option_names"]:
        return None
    command, context = root, root.context_class(root, info_name=root.name, **root.context_settings)
    for depth, name in enumerate(path):
        if not isinstance(command, TyperGroup) or name not in command.commands:
            return None
        command = command_named(name) if depth == 0 else command.commands[name]
        context = command.context_class(command, info_name=name, parent=context, **command.context_settings)
    return str(command.get_help(context))
