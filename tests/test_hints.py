"""Every hint in the package is a whole sentence: it begins with a capital letter and ends with a full stop.

A hint is what an error says after its message. The code is read, not run: the keyword `hint`, the second argument of an
error for people, and the remedies of `doctor`. What an f-string fills in counts as a letter of either kind.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from echo_cli import errors

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "echo_cli").rglob("*.py"))
FILLED = "\0"  # stands for what an f-string fills in
# Which argument is the hint, by the name of what is called.
PLACES = {name: 1 for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
PLACES |= {"__init__": 1, "StoryboardError": 2, "Finding": 3}


def hints(module: Path) -> Iterator[tuple[int, str]]:
    """The line and the text of each hint in a module."""
    tree = ast.parse(module.read_text("utf-8"))
    constants = {target.id: node.value for node in tree.body if isinstance(node, ast.Assign)
                 for target in node.targets if isinstance(target, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            given = [keyword.value for keyword in node.keywords if keyword.arg in ("hint", "remedy")]
            if name in PLACES and len(node.args) > PLACES[name]:
                given.append(node.args[PLACES[name]])
            for value in given:
                for text in texts(value, constants):
                    yield value.lineno, text


def texts(node: ast.expr, constants: dict[str, ast.expr]) -> Iterator[str]:
    """The texts that an expression may have; nothing for one that only the run knows."""
    if isinstance(node, ast.Constant):
        if isinstance(node.value, str) and node.value:
            yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else FILLED for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts(node.body, constants)
        yield from texts(node.orelse, constants)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from texts(value, constants)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        ends = [list(texts(side, constants)) or [FILLED] for side in (node.left, node.right)]
        yield from (left + right for left in ends[0] for right in ends[1])
    elif isinstance(node, ast.Name) and node.id in constants:
        yield from texts(constants[node.id], constants)


def is_sentence(hint: str) -> bool:
    return (hint[0] == FILLED or hint[0].isupper()) and hint[-1] in (FILLED, ".")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_hints_are_whole_sentences(module: Path) -> None:
    assert [(line, hint) for line, hint in hints(module) if not is_sentence(hint)] == []


def test_hints_are_collected_in_every_form(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("AGAIN = 'fetch it'\nUsageError('a', 'b')\nUsageError('a', hint=f'{x} c' if x else 'D.')\n"
                      "MissingError('a', AGAIN)\nInterrupted('a', 'E, ' + name + '.')\nprint('f', 'g')\n")
    assert [hint for _, hint in hints(module)] == ["b", f"{FILLED} c", "D.", "fetch it", f"E, {FILLED}."]
    assert [is_sentence(hint) for _, hint in hints(module)] == [False, False, True, False, True]
