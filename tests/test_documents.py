"""The documents keep their promises: the README is short, links lead somewhere, and every command and option that a
document, a help text or a message names exists."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from echo_cli.cli.app import app
from echo_cli.commands import COMMANDS

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted((*ROOT.glob("*.md"), *ROOT.glob("storyboards/**/*.md"), *ROOT.glob("echo_cli/**/*.md")))
MODULES = sorted((ROOT / "echo_cli").rglob("*.py"))
LONGEST = 250  # lines of the README
# Options of other programs: pip, ray, sbatch, fish, Deforum's prompts, and the contact sheets' own little program.
OTHERS = frozenset((
    "--upgrade", "--force-reinstall", "--head", "--array", "--command", "--no-files", "--condition", "--arguments",
    "--count", "--columns", "--width", "--neg",
))
GROUPS = ("models", "bench", "scenes")  # commands that have commands

# Our command and its words, up to the end of the code or sentence it stands in.
_CALL = re.compile(r"\becho-cli ([a-z](?:[^\n`|;#)'\".]|\.(?! ))*)")
# The same in a message, where the name may also stand in a sentence: after a backtick, a colon or nothing it is a call.
_QUOTED = re.compile(rf"(?:^|[`(:] ?|\n +){_CALL.pattern[2:]}", re.MULTILINE)
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
_LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")


@cache
def commands() -> dict[str, frozenset[str]]:
    """Every command by its words, such as `models list`, and the options that it takes."""
    words: dict[str, Any] = {"": typer.main.get_command(app)}
    for name, (target, _) in COMMANDS.items():
        module, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, typer.Typer):
            single = typer.Typer(add_completion=False)
            single.command(name)(command)
            command = single
        words[name] = typer.main.get_command(command)
        if name in GROUPS:
            words |= {f"{name} {below}": inner for below, inner in words[name].commands.items()}
    return {name: frozenset(_options(command)) for name, command in words.items()}


def _options(command: Any) -> Iterator[str]:
    yield "--help"
    for parameter in command.params:
        yield from (*parameter.opts, *parameter.secondary_opts)


def every_option() -> frozenset[str]:
    return OTHERS.union(*commands().values())


def unknown(call: str) -> list[str]:
    """What is wrong with the words after `echo-cli`: a command that is not there, or options that it does not take."""
    name, *rest = re.findall(r"[^\s,.…:]+", call)
    if name in GROUPS and rest and re.fullmatch("[a-z][a-z-]*", rest[0]):
        name += f" {rest[0]}"
    if name not in commands():
        return [name]
    return [f"{name} {option}" for option in _OPTION.findall(call) if option not in commands()[name]]


def code_in(text: str) -> str:
    """The fenced blocks and the backticked spans of a document, a piece a line; commands that go on are one line."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return "\n".join((*fenced, *(" ".join(span.split()) for span in spans))).replace("\\\n", " ")


def messages(module: Path) -> Iterator[str]:
    """Every text in a module; what an f-string fills in is left out."""
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= LONGEST


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for path, heading in _LINK.findall(document.read_text("utf-8")):
        target = document.parent / path if path else document
        assert target.exists(), path
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert heading in [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles], heading


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_commands_and_options_that_exist(document: Path) -> None:
    code = code_in(document.read_text("utf-8"))
    assert [wrong for call in _CALL.findall(code) for wrong in unknown(call)] == []
    spans = [line for line in code.splitlines() if line.startswith("--")]
    assert [option for line in spans for option in _OPTION.findall(line) if option not in every_option()] == []


def test_messages_name_commands_and_options_that_exist() -> None:
    """Help, hints and errors: a person is never sent to a command that is not there."""
    wrong = {}
    for module in MODULES:
        for text in messages(module):
            bad = [word for call in _QUOTED.findall(text) for word in unknown(call)]
            bad += [option for option in _OPTION.findall(text) if option not in every_option()]
            if bad:
                wrong[f"{module.relative_to(ROOT)}: {text[:80]}"] = bad
    assert wrong == {}


def test_a_command_that_does_not_exist_is_noticed() -> None:
    assert unknown("generate story.yaml --memory window") == []
    assert unknown("generte story.yaml") == ["generte"]
    assert unknown("generate story.yaml --mermory window") == ["generate --mermory"]
    assert unknown("models lst") == ["models lst"]
    assert unknown("models list --json") == []
