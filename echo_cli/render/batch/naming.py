"""Names of films in a batch, such as `--name '{stem}-{seed}'`; no two films may have the same one.

A field is filled from the storyboard's path or from the storyboard itself. `needs_reading` says which, because the
names of a whole batch are known only when every storyboard they depend on has been read.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.render.outputs import Outputs, outputs_of
from echo_cli.storyboard.canonical import storyboard_hash
from echo_cli.storyboard.nouns import Storyboard

DEFAULT = "{stem}"
OF_PATH = ("stem", "folder")
OF_STORYBOARD = ("seed", "model", "memory", "hash")
HASH = 8  # digits, enough to distinguish storyboards in a folder


def check_name(name: str) -> None:
    """Whether a template can name films at all."""
    if not name.strip():
        raise UsageError(f"--name {name!r}: names no film", "Write fields as in '{stem}-{seed:04}'.")
    for field in _fields(name):
        if field not in OF_PATH + OF_STORYBOARD:
            raise UsageError(
                f"--name {name}: there is no field {{{field}}}{did_you_mean(field, OF_PATH + OF_STORYBOARD)}",
                f"The fields are {', '.join(f'{{{known}}}' for known in OF_PATH + OF_STORYBOARD)}.",
            )
    _filled(name, dict.fromkeys((*OF_PATH, "model", "memory", "hash"), "x") | {"seed": 1})


def needs_reading(name: str) -> bool:
    return any(field in OF_STORYBOARD for field in _fields(name))


def outputs_for(source: str, board: Storyboard | None, name: str, folder: str) -> Outputs:
    """Where the film of a storyboard goes. `board` may be None for a name that does not need it."""
    values: dict[str, object] = {"stem": Path(source).stem, "folder": Path(source).absolute().parent.name}
    if board:
        values |= {"seed": board.seed, "model": Path(board.model or "").name, "memory": board.policy,
                   "hash": storyboard_hash(board)[:HASH]}
    filled = _filled(name, values)
    if "}" in name.rpartition(".")[2]:  # no suffix in the template; a stem that ends like one does not count
        filled += ".mp4"
    path = Path(filled)
    if path.is_absolute() or ".." in path.parts or not path.stem.strip(". "):
        raise UsageError(
            f"--name {name}: '{filled}' is not a name inside the folder of the films", "Name the folder with --out-dir."
        )
    return outputs_of(os.path.join(folder, filled), path.stem, "--name")


def check_distinct(named: Iterable[tuple[str, Outputs]]) -> None:
    """Refuse storyboards whose films, or the files beside them, would have the same name."""
    taken: dict[str, str] = {}
    for source, outputs in named:
        for path in (outputs.film.path, *outputs.companions):
            key = os.path.normcase(os.path.abspath(path))
            if other := taken.get(key):
                raise UsageError(f"{other} and {source} would both become {path}",
                                 "Give them different names, such as --name '{folder}-{stem}' or '{stem}-{seed}'.")
            taken[key] = source


def _fields(name: str) -> list[str]:
    try:
        parts = [(field, spec) for _, field, spec, _ in Formatter().parse(name) if field is not None]
        if nested := next((spec for _, spec in parts if spec and "{" in spec), None):
            raise ValueError(f"a field within a field: {nested}")
    except ValueError as error:
        raise _not_understood(name, error) from None
    return [field for field, _ in parts]


def _filled(name: str, values: Mapping[str, object]) -> str:
    try:
        return name.format_map(values)
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise _not_understood(name, error) from None


def _not_understood(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"--name {name}: not understood ({error})", "Write fields as in '{stem}-{seed:04}', and {{ for a brace."
    )
