"""Every hint in the package is a whole sentence: it begins with a capital letter and ends with a full stop or, if it
asks, with a question mark.

A hint is what an error says after its message. The code is read, not run: every argument of a parameter called `hint`
or `remedy`, the texts that its name was given, and those that a function returns for it. What an f-string fills in
counts as a letter of either kind.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_cli import errors
from echo_cli.files import REASONS

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "echo_cli").rglob("*.py"))
FILLED = "\0"  # stands for what an f-string fills in
NAMES = ("hint", "remedy")


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def places() -> dict[str, int]:
    """Which argument is the hint, by the name of what is called; a method's name begins with a dot."""
    result = {name: 1 for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    result |= {".__init__": 1, "StoryboardError": 2, "Finding": 3}
    for module in MODULES:
        for function in functions(ast.parse(module.read_text("utf-8"))):
            names = [each.arg for each in function.args.args]
            method = names[:1] == ["self"]
            if function.name != "__init__" and (named := [name for name in NAMES if name in names]):
                result["." * method + function.name] = names.index(named[0]) - method
    return result


PLACES = places()
Meanings = dict[str, list[ast.expr]]  # what a name stands for, or what a function returns


def meanings(tree: ast.Module) -> Meanings:
    result: Meanings = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = [(target, node.value)]
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs = list(zip(target.elts, node.value.elts, strict=True))
                for name, value in pairs:
                    if isinstance(name, ast.Name):
                        result.setdefault(name.id, []).append(value)
    for function in functions(tree):
        result.setdefault(function.name, []).extend(
            node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value)
    return result


def hints(module: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of each hint in a module."""
    tree = ast.parse(module.read_text("utf-8"))
    known = meanings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else f".{getattr(node.func, 'attr', '')}"
            given = [keyword.value for keyword in node.keywords if keyword.arg in NAMES]
            if name in PLACES and len(node.args) > PLACES[name]:
                given.append(node.args[PLACES[name]])
            for value in given:
                for text in texts(value, known):
                    yield value.lineno, text


def texts(node: ast.expr, known: Meanings) -> Iterator[str]:
    """The texts that an expression may have; nothing for one that only the run knows."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and node.value:
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, known)
        yield from texts(node.orelse, known)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from texts(value, known)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        ends = [list(texts(side, known)) or [FILLED] for side in (node.left, node.right)]
        yield from (left + right for left in ends[0] for right in ends[1])
    elif isinstance(node, ast.Name) or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        name = node.id if isinstance(node, ast.Name) else node.func.id
        without = {other: values for other, values in known.items() if other != name}  # a name may refer to itself
        for value in known.get(name, ()):
            yield from texts(value, without)


def is_sentence(hint: str) -> bool:
    return (hint[0] == FILLED or hint[0].isupper()) and hint[-1] in (FILLED, ".", "?")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_hints_are_whole_sentences(module: Path) -> None:
    assert [(line, hint) for line, hint in hints(module) if not is_sentence(hint)] == []


def test_hints_of_the_file_system_are_whole_sentences() -> None:
    assert [hint for _, hint in REASONS.values() if not is_sentence(hint)] == []


def test_hints_are_collected_in_every_form(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("AGAIN = 'fetch it'\nUsageError('a', 'b')\nUsageError('a', hint=f'{x} c' if x else 'D.')\n"
                      "MissingError('a', AGAIN)\nInterrupted('a', 'E, ' + name + '.')\nprint('f', 'g')\n")
    assert [hint for _, hint in hints(module)] == ["b", f"{FILLED} c", "D.", "fetch it", f"E, {FILLED}."]
    assert [is_sentence(hint) for _, hint in hints(module)] == [False, False, True, False, True]
