"""The house stands: a module imports its own floor or a lower one, no two need each other, few need torch."""

import ast
import shutil
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Packages and top-level modules, from the ground up; "" is the door, echo_cli/__init__.py. Within a floor anything may
# import anything, but never in a circle. A trace names the storyboard's nouns, and so stands above it;
# formats write what a trace says.
FLOORS = (
    ("layout", "state", "files", "text", "machine", "errors", "faults", "commands", "evidence", "plugins"),
    ("storyboard",),
    ("trace", "video", "formats"),
    ("runtime", "spec", "rope", "eight", "state_files", "kernels"),
    ("context",),
    ("models",),
    ("memory",),
    ("rollout",),
    ("world",),
    ("training",),
    ("render",),
    ("live", "bench"),
    ("",),
    ("cli",),
    ("entry",),
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
WITHOUT_TORCH = {name for floor in FLOORS[:3] for name in floor} - {"state"} | {"spec"}


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT / "echo_cli").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted((ROOT / "echo_cli").rglob("*.py"))}


def _imports(node: ast.AST) -> set[str]:
    """Modules of the package that `node` imports, inside functions as well; not the door's bare version number."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return set()
    names: set[str] = set()
    if isinstance(node, ast.Import):
        names = {each.name for each in node.names}
    elif isinstance(node, ast.ImportFrom) and node.module:
        whole = [f"{node.module}.{each.name}" for each in node.names if each.name != "__version__"]
        names = {name if name.removeprefix("echo_cli.") in MODULES else node.module for name in whole}
    ours = {name.removeprefix("echo_cli").removeprefix(".") for name in names if name.split(".")[0] == "echo_cli"}
    return ours.union(*map(_imports, ast.iter_child_nodes(node)))


@cache
def imports() -> dict[str, set[str]]:
    return {name: _imports(ast.parse(path.read_text(encoding="utf-8"))) for name, path in MODULES.items()}


def test_nobody_imports_from_a_higher_floor() -> None:
    assert {name.split(".")[0] for name in MODULES} <= FLOOR.keys(), "a new room needs a floor"
    upward = [f"{name} imports {other}" for name, others in imports().items() for other in sorted(others)
              if FLOOR[other.split(".")[0]] > FLOOR[name.split(".")[0]]]
    assert upward == []


def test_no_modules_need_each_other() -> None:
    TopologicalSorter(imports()).prepare()  # its error names the circle


def test_the_lower_floors_need_no_torch() -> None:
    rooms = [name for name in MODULES if name.split(".")[0] in WITHOUT_TORCH]
    code = (
        "import importlib, sys\n"
        f"for name in {rooms}:\n"
        "    importlib.import_module('echo_cli.' + name)\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_function_fits_a_screen() -> None:
    """Forty lines; two kernels, each of which is one launch, are longer."""
    long = {f"{name}.{node.name}" for name, path in MODULES.items()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 40}
    assert long == {"kernels.near._near", "kernels.choosing._choose"}


def test_tests_mirror_the_tree() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / "echo_cli" / folder).is_dir()] == []


@pytest.mark.skipif(not shutil.which("ruff"), reason="needs ruff, of the dev extra")
def test_ruff_finds_nothing() -> None:
    done = subprocess.run(["ruff", "check", "--no-cache", "--quiet", "--output-format=concise", "."], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.stdout + done.stderr == ""
