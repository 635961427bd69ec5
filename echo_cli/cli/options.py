"""Commands from options: the fields of `render.options` as typer parameters, and the options that all commands share.

Knows how an option is spelled on a command line, not what options mean.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import Enum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from echo_cli.cli import complete
from echo_cli.cli.messages import speak
from echo_cli.render.defaults import NONE, Defaults, known, read, said_where
from echo_cli.render.options import Field, Option, Options, Panel, fields_of

# Read by the error boundary, which sees the arguments even when they cannot be parsed.
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Model = Annotated[str, typer.Option(help="The model to render with.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; by default torch's choice.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")]
Html = Annotated[Path | None, typer.Option(metavar="REPORT.html", help="Write one self-contained page.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print nothing but errors.")]


@dataclass(frozen=True, kw_only=True)
class Answer(Options):
    """How a command that renders films reports."""

    as_json: Annotated[bool, Option(
        help="Print results as JSON, one object per film.", panel=Panel.REPORTING, flags=("--json",))] = False
    debug: Annotated[bool, Option(
        help="Show the traceback of a failure.", panel=Panel.REPORTING)] = False


@dataclass(frozen=True, kw_only=True)
class Place(Options):
    """Where a film that is only planned will be rendered."""

    here: Annotated[bool | None, Option(
        help="When nothing is rendered: fail if it could not be made here, or ignore the machine; by default, warn.",
        panel=Panel.OUTPUT, flags=("--here/--elsewhere",))] = None


@dataclass(frozen=True, slots=True)
class Given:
    """Where the values of a call come from: which options its words name, and what the environment and `echo.toml`
    say."""

    typed: frozenset[str]
    defaults: Defaults

    @property
    def used(self) -> Defaults:
        """Those of the options that the call does not name."""
        return {name: default for name, default in self.defaults.items() if name not in self.typed}

    def source(self, field: Field, origins: Mapping[str, str]) -> str:
        """What decided an option of a film; `origins` are those of its job."""
        below = "default"
        if field.name in self.defaults and not field.option.storyboard:
            below = self.defaults[field.name].source
        decided = origins.get(field.name, below)
        if field.name not in self.typed:
            return decided
        return f"command line, {decided}" if field.repeats and decided != "default" else "command line"


def takes(*kinds: type) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Turns a function that takes one object of each kind into a command, whose options are their fields. Options of
    films that the call does not name come from the environment and `echo.toml`; those that a storyboard may also set
    come from there first, by means of `Given`."""

    def command(function: Callable[..., Any]) -> Callable[..., Any]:
        def called(context: typer.Context, **values: Any) -> Any:
            from echo_cli.render.request import FilmOptions

            plain = {name: value.value if isinstance(value, Enum) else value for name, value in values.items()}
            given = _given(context, kinds)
            made = [given if kind is Given else _made(kind, plain, given) for kind in kinds]
            for film in made:
                if isinstance(film, FilmOptions):
                    speak(film.progress)
            with said_where(given.used, film_options(*filter(_of_films, kinds)) if given.used else {}):
                return function(*made)

        called.__name__, called.__doc__, called.__annotations__ = function.__name__, function.__doc__, {}
        called.__signature__ = signature_of(*kinds)  # type: ignore[attr-defined]  # what typer reads
        return called

    return command


def film_options(*kinds: type[Options]) -> dict[str, Field]:
    """The options of films, alone or in batches, and of `kinds`, that the environment and `echo.toml` may decide."""
    from echo_cli.render.batch.request import BatchRequest
    from echo_cli.render.request import Request

    return known((Request, BatchRequest, *kinds))


def _given(context: typer.Context, kinds: Sequence[type]) -> Given:
    typed = {name for name in context.params
             if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"}
    films = list(filter(_of_films, kinds))
    return Given(frozenset(typed), read(film_options(*films)) if films else NONE)


def _made(kind: type[Options], values: Mapping[str, Any], given: Given) -> Options:
    asked = {field.name: values[field.name] for field in fields_of(kind)}
    if _of_films(kind):
        asked |= {field.name: given.defaults[field.name].value for field in fields_of(kind)
                  if field.name in given.defaults and field.name not in given.typed and not field.option.storyboard}
    return kind(**asked)


def _of_films(kind: type) -> bool:
    from echo_cli.render.request import PictureOptions

    return issubclass(kind, PictureOptions)


def signature_of(*kinds: type) -> inspect.Signature:
    """The fields as typer parameters, panel by panel, arguments first."""
    panels = list(Panel)
    fields = sorted((field for kind in kinds if kind is not Given for field in fields_of(kind)),
                    key=lambda field: (not field.option.argument, panels.index(field.option.panel)))
    context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    return inspect.Signature([*map(_parameter, fields), context])


def _parameter(field: Field) -> inspect.Parameter:
    option = field.option
    facts: dict[str, Any] = {"help": option.help, "metavar": option.metavar, "min": option.least,
                             "show_default": _shown(field), "rich_help_panel": option.panel.value}
    if option.complete:
        facts["autocompletion"] = getattr(complete, option.complete)
    spelled = typer.Argument(**facts) if option.argument else typer.Option(*(option.flags or (field.flag,)), **facts)
    default = _default(field)
    kind = _type(field)
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default,
                             annotation=Annotated[Optional[kind] if default is None else kind, spelled])  # noqa: UP045


def _default(field: Field) -> Any:
    if field.default is MISSING:
        return "" if field.option.spare else inspect.Parameter.empty
    return None if field.repeats else field.default


def _shown(field: Field) -> bool | str:
    """How help shows the default: not at all if there is none, or for a switch that is off."""
    return field.option.unset or not any(field.default is none for none in (MISSING, None, False, ()))


def _type(field: Field) -> Any:
    if field.choices:
        return StrEnum(field.name, [(choice.upper(), choice) for choice in field.choices])
    if field.repeats:
        return list[str]
    if field.option.text or str in field.kinds:
        return str
    return next(kind for kind in field.kinds if isinstance(kind, type))
