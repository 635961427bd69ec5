"""What a person, a project or a farm wants unless told otherwise: options from the environment and `echo.toml`.

Options have the names of the Python API: the variable ECHO_CHECKPOINT_EVERY and the key `checkpoint_every` mean
--checkpoint-every. The environment outranks the project's file, which outranks the person's. Says what was wanted and
where, not what becomes of it; the Python API reads none of this.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.machine import platform_folder
from echo_cli.memory.table import DEFAULT_POLICY, POLICIES, read_settings
from echo_cli.render.assignments import read_assignments
from echo_cli.render.options import PREFIX, Field, Options, fields_of
from echo_cli.storyboard.mistakes import Mark, Mistake, Mistakes, StoryboardError

FILE = "echo.toml"
ORDER = "command line, storyboard, environment, project's echo.toml, user's echo.toml, built-in default"
BOOLEANS = {**dict.fromkeys(("1", "true", "yes", "on"), True), **dict.fromkeys(("0", "false", "no", "off"), False)}
OTHER_VARIABLES = ("ECHO_MODELS", "ECHO_CACHE", "ECHO_NO_SKIPS", "ECHO_GOLDEN_DIR")  # ours, but no options

_ASSIGNED = r"""^\s*\[?\s*["']?{}["']?\s*[]=.]"""  # where a key first gets a value, or a table its name


class Default(NamedTuple):
    """A value, and the place that says it; settings belong to the memory of their file, those of the environment to
    whichever is used."""

    value: Any
    source: str
    memory: str | None = None


Defaults = Mapping[str, Default]  # by the names of options
NONE: Defaults = {}


def known(kinds: Iterable[type[Options]]) -> dict[str, Field]:
    """The options of these kinds that can have a default: all but those that are given by their place."""
    return {field.name: field for kind in kinds for field in fields_of(kind) if not field.option.argument}


def read(options: Mapping[str, Field]) -> Defaults:
    """What the environment and the files say; a UsageError lists the mistakes of a file."""
    defaults: dict[str, Default] = {}
    for path in files():
        defaults |= {name: default for name, default in _in_file(path, options).items() if name not in defaults}
    return {**defaults, **dict(_in_environment(options))}


def files() -> list[Path]:
    """The project's file, in this folder or the nearest above it that has one, and the person's; those that exist."""
    here = Path.cwd()
    project = next((path for folder in (here, *here.parents) if os.path.exists(path := folder / FILE)), None)
    personal = user_file()
    return [path for path in dict.fromkeys((project, personal if os.path.exists(personal) else None)) if path]


def user_file() -> Path:
    """Where a person's own defaults are."""
    return platform_folder("XDG_CONFIG_HOME", ".config", "Application Support") / FILE


def unknown_variables(options: Mapping[str, Field]) -> list[str]:
    """Variables that look like options and are none, with what may have been meant."""
    names = [name.removeprefix(PREFIX) for name in (*(field.variable for field in options.values()), *OTHER_VARIABLES)]
    return [f"{name}{did_you_mean(name, names, PREFIX)}" for name in sorted(os.environ)
            if name.startswith(PREFIX) and name.removeprefix(PREFIX) not in names]


@contextmanager
def said_where(used: Defaults, options: Mapping[str, Field]) -> Iterator[None]:
    """An error about an option that a default decided begins with the default's place: nobody typed the option."""
    try:
        yield
    except UsageError as error:
        for name, default in used.items():
            option = options[name]
            if error.message.startswith(tuple(f"{flag} " for flag in (*option.option.flags, option.flag))):
                raise UsageError(f"{default.source}: {error.message}", error.hint) from None
        raise


def _in_environment(options: Mapping[str, Field]) -> Iterator[tuple[str, Default]]:
    for name, field in options.items():
        if text := os.environ.get(field.variable):
            try:
                yield name, Default(field.checked(_from_text(text, field)), field.variable)
            except UsageError as error:
                raise UsageError(f"{field.variable}: {error.message}", error.hint) from None


def _from_text(text: str, field: Field) -> Any:
    """The value that a variable holds; what is none of the option's type is refused when it is checked."""
    if bool in field.kinds:
        if text.lower() not in BOOLEANS:
            raise UsageError(f"'{text}' is neither on nor off", "Say 1, true, yes or on, or 0, false, no or off.")
        return BOOLEANS[text.lower()]
    if field.repeats:
        return text.split()
    for kind in (int, float):
        if kind in field.kinds:
            try:
                return kind(text)
            except ValueError:
                return text
    return text


def _in_file(path: Path, options: Mapping[str, Field]) -> dict[str, Default]:
    text, shown = _text_of(path), _shown(path)
    mistakes, defaults = Mistakes(shown), {}
    for key, value in _parsed(text, path).items():
        name, mark = key.replace("-", "_"), _mark_of(key, text)
        if name not in options:
            mistakes.note(mark, f"there is no option '{key}'{_meant(name, options)}")
        elif name in defaults:
            mistakes.note(mark, f"'{name}' is given twice")
        elif value == "":
            mistakes.note(mark, f"'{key}' is empty; leave the line out")
        else:
            try:
                checked = options[name].checked(value, path.parent)
                defaults[name] = Default(checked, f"{shown}:{mark.line}")
            except UsageError as error:
                mistakes.note(mark, error.message)
    if "settings" in defaults:
        memory = defaults["memory"].value if "memory" in defaults else DEFAULT_POLICY
        defaults["settings"] = defaults["settings"]._replace(memory=memory)
        _check_settings(defaults["settings"].value, memory, text, mistakes)
    mistakes.raise_if_any()
    return defaults


def _check_settings(words: Iterable[str], memory: str, text: str, mistakes: Mistakes) -> None:
    """Each of a file's settings by itself, with its own line. What a memory cannot use together is refused when a film
    is made with it; so is a memory that is not here."""
    if memory not in POLICIES:
        return
    for word in words:
        try:
            read_settings(memory, read_assignments([word], memory, ""))
        except UsageError as error:
            name = word.partition("=")[0].rpartition(".")[2]
            mistakes.note(_mark_of(name, text, dotted=True), error.message)


def _meant(name: str, options: Mapping[str, Field]) -> str:
    """What a key that is no option should be: what the command line calls so, or the nearest name."""
    spelled = {word.lstrip("-").replace("-", "_"): f"{option} = false" if off else option
               for option, field in options.items() for flag in field.option.flags
               for off, word in enumerate(flag.split("/"))}
    return f"; in {FILE} it is '{spelled[name]}'" if name in spelled else did_you_mean(name, tuple(options))


def _shown(path: Path) -> str:
    """Its name in this folder, or its path."""
    return path.name if path.parent == Path.cwd() else os.fspath(path)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is not UTF-8", "Save it as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "Make it a readable file, or move it away.") from None


def _parsed(text: str, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).partition(" (at ")
        line, column = (map(int, re.findall(r"\d+", place)) if "line" in place else (text.count("\n") + 1, 1))
        mistake = Mistake(Mark(line, column), message[:1].lower() + message[1:])
        raise StoryboardError(_shown(path), [mistake]) from None


def _mark_of(key: str, text: str, dotted: bool = False) -> Mark:
    """Where a key of the file stands, or the last part of a dotted one."""
    pattern = re.compile(_ASSIGNED.format(r"(?:\S+\.)?" * dotted + re.escape(key)))
    for number, line in enumerate(text.splitlines(), 1):
        if match := pattern.match(line):
            return Mark(number, match[0].index(key) + 1)
    return Mark(1, 1)
