"""The command line's grammar: a command by its name, and the error of a call that does not fit it."""

import importlib
from typing import Any

import typer

from echo_cli.cli.plain_help import plain
from echo_cli.commands import COMMANDS

LOOK = {"help_option_names": ["-h", "--help"]}
# typer carries these errors under a name that depends on its version
GrammarError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


def command_named(name: str) -> Any:
    """The command itself, its module imported."""
    module, _, attribute = COMMANDS[name][0].partition(":")
    command = getattr(importlib.import_module(module), attribute)
    if not isinstance(command, typer.Typer):
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, context_settings=LOOK)(command)
        command = single
    return plain(typer.main.get_command(command))
