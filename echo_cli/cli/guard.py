"""Whether a call is meant for the tool: whether the words after a command are arguments that the command takes.

Looks at names and numbers of options and arguments; the command itself checks their values. Runs nothing and
prints nothing.
"""

import os
from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup

from echo_cli.cli.grammar import GrammarError, command_named
from echo_cli.evidence import may_be_ours, names_ours

STDIN = "-"
READ_STDIN = ("generate", "validate", "batch")  # commands whose arguments may be `-`
INSTEAD = ("help", "prompt")  # options that stand for what an argument would name


def is_ours(arguments: list[str]) -> bool:
    """Whether a call of `echo` is certainly meant for the tool: its first word is one of our commands, the rest parse
    as that command's arguments, and they name something of ours."""
    return may_be_ours(arguments) and (len(arguments) == 1 or _takes(arguments[0], arguments[1:]))


def _takes(command: str, words: list[str]) -> bool:
    """Whether `words` parse as the command's arguments, and either include an option or name only things of ours."""
    try:
        named, asked = _parsed(command_named(command), words)
    except GrammarError:
        return False
    ours = (names_ours(word) or (word == STDIN and command in READ_STDIN) for word in named)
    if command == "open" and any(map(os.path.isdir, named)):  # an everyday word, and it opens no folders
        return False
    return asked or (bool(named) and all(ours))


def _parsed(command: Any, words: list[str]) -> tuple[list[str], bool]:
    """What the words name, and whether an option of the command is among them; a GrammarError if they do not fit."""
    context = command.context_class(command, info_name=command.name)
    values, rest, order = command.make_parser(context).parse_args(list(words))
    asked = any(param.param_type_name == "option" for param in order)
    if isinstance(command, TyperGroup) and rest:
        inner = command.get_command(context, rest[0])
        if inner is None:
            raise GrammarError(f"no command is called {rest[0]!r}")
        named, inside = _parsed(inner, rest[1:])
        return named, asked or inside
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    wanted = (param for param in arguments if param.required or param.default == "")
    lacking = any(not list(_words(values.get(param.name))) for param in wanted)
    if rest or (lacking and not any(option in values for option in INSTEAD)):
        raise GrammarError("too many arguments, or too few")
    return [word for param in arguments for word in _words(values.get(param.name))], asked


def _words(value: Any) -> Iterator[str]:
    """The words that the parser assigned to an argument."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        yield from (word for word in value if isinstance(word, str))
