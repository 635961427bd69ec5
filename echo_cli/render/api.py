"""The Python API: films and blocks of a storyboard, without a command line. `echo_cli` exports it.

A function's options are the fields of its request, and type checkers see them as such. Prints nothing by itself,
installs no signal handlers, and raises EchoError for whatever a user can fix. The last model used stays loaded.
"""

import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, get_type_hints

from echo_cli.errors import OutputError, UsageError
from echo_cli.faults import known
from echo_cli.render import manifest
from echo_cli.render.checks import Machine, warnings_of
from echo_cli.render.job import Job
from echo_cli.render.log import open_log
from echo_cli.render.options import Options, fields_of
from echo_cli.render.prepare import prepare, storyboard_rules
from echo_cli.render.progress import Progress, Quiet, Style, progress_of
from echo_cli.render.request import BlocksRequest, Request
from echo_cli.render.session import Session
from echo_cli.render.signals import Interruption
from echo_cli.render.source import read_board
from echo_cli.storyboard.nouns import Storyboard
from echo_cli.trace import reader
from echo_cli.video.target import Stdout

if TYPE_CHECKING:
    from numpy import ndarray

    from echo_cli.layout import Layout

P = ParamSpec("P")
Asked = TypeVar("Asked", bound=Options)
Answer = TypeVar("Answer")

_session = Session()


@dataclass(frozen=True, slots=True)
class Film:
    """A complete film. `path` is the file, or the pattern of an image sequence; `was_there` says that it had been
    rendered before, from the same storyboard, weights and settings. `warnings` say what may disappoint: scenes that
    cannot be recalled, words that the model does not know, a size that it was not trained for."""

    path: Path
    trace: Path
    manifest: Path
    subtitles: Path | None
    size: tuple[int, int]
    fps: float
    seconds: float
    sha256: str
    was_there: bool
    pictures: "Pictures"
    warnings: tuple[str, ...]


class Pictures:
    """A film's pictures: how many there are (`len`), and each of them read back from the file, in order."""

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._count = path, count

    def __len__(self) -> int:
        return self._count

    def __repr__(self) -> str:
        return f"<{self._count} pictures of {self._path}>"

    def __iter__(self) -> "Iterator[ndarray]":
        """[height, width, 3] uint8, one at a time."""
        from echo_cli.video import read

        with _for_people():
            yield from read.pictures(self._path)


@dataclass(frozen=True, slots=True)
class RenderedBlock:
    """A block with its pictures, [picture, height, width, 3] uint8, at the model's own size."""

    index: int  # in the film, from 0
    blocks: int  # of the film
    scene: str  # the id
    opens: bool  # the scene
    frames: range  # latent frames of the film
    layout: "Layout"  # the memory that it attended to
    memory_bytes: int
    pictures: "ndarray"


def options_of(kind: Callable[P, Asked]) -> Callable[[Callable[[Asked], Answer]], Callable[P, Answer]]:
    """Turns a function of one request into a function of the request's options."""
    fields = fields_of(cast(type[Options], kind))
    defaults = {field.name: field.option.in_python for field in fields if field.option.in_python is not None}

    def door(function: Callable[[Asked], Answer]) -> Callable[P, Answer]:
        signature = _signature(kind, defaults, get_type_hints(function)["return"])

        def call(*given: P.args, **options: P.kwargs) -> Answer:
            try:
                signature.bind(*given, **options)
            except TypeError as error:
                raise TypeError(f"{function.__name__}() {error}") from None
            with _for_people(kind):
                return function(kind(*given, **cast(Any, {**defaults, **options})))

        call.__name__ = call.__qualname__ = function.__name__
        call.__module__, call.__doc__ = function.__module__, (function.__doc__ or "") + _options_help(kind)
        call.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()} | {
            "return": signature.return_annotation}
        call.__signature__ = signature  # type: ignore[attr-defined]  # what `help` shows
        return call

    return door


def _signature(kind: Callable[..., Any], defaults: dict[str, Any], answer: Any) -> inspect.Signature:
    types = {field.name: field.type for field in fields_of(cast(type[Options], kind))}
    return inspect.Signature([
        parameter.replace(annotation=types[name], default=defaults.get(name, parameter.default))
        for name, parameter in inspect.signature(kind).parameters.items()], return_annotation=answer)


def _options_help(kind: Callable[..., Any]) -> str:
    lines = [f"    {field.name}: {field.option.python_help or field.option.help}"
             for field in fields_of(cast(type[Options], kind))]
    return "\n\n" + "\n".join(lines) + "\n"


@options_of(Request)
def generate(request: Request) -> Film:
    """Render the film of a storyboard (a path or a Storyboard), with its trace and manifest, and return it when it is
    complete.

    A film that exists and matches is not rendered again, a different one is not overwritten without force=True, and an
    interrupted one is resumed.
    """
    if isinstance(request.output, str | os.PathLike) and os.fspath(request.output) == "-":
        raise UsageError("a film on standard output is for the command line", "Name a file, or use echo_cli.blocks.")
    with ExitStack() as stack:
        log = open_log(request.log_file, ["echo_cli.generate"])
        stack.enter_context(log)
        job = prepare(request)
        log.settings(dict(job.options))
        quiet = request.quiet or request.progress == "none"
        progress = stack.enter_context(log.hearing(progress_of(Style(request.progress), quiet)))
        said = tuple(warnings_of(job))
        for warning in said:
            progress.say(f"warning: {warning}")
        made = _session.make(job, progress, Interruption())
        return _film(job, made is None, said)


@options_of(BlocksRequest)
def blocks(request: BlocksRequest) -> Iterator[RenderedBlock]:
    """Render the film of a storyboard (a path or a Storyboard) block by block, without writing any file.

    Mistakes, and what this machine lacks, are reported at once; each block is computed when it is asked for.
    """
    job = prepare(request.film())
    Machine().check(job)
    return _blocks(job)


def load_storyboard(path: str | os.PathLike[str]) -> Storyboard:
    """The storyboard in a file, of any kind that `generate` takes; an EchoError lists every mistake in it."""
    with _for_people():
        return read_board(os.fspath(path), storyboard_rules())[0]


def read_trace(path: str | os.PathLike[str]) -> reader.Trace:
    """The trace of a film, even of an interrupted one."""
    with _for_people():
        return reader.read_trace(Path(path))


def _blocks(job: Job) -> Iterator[RenderedBlock]:
    with _for_people(BlocksRequest):
        for result, pictures in _session.blocks(job, _SILENT):
            block = result.block
            yield RenderedBlock(block.index, len(job.timeline.blocks), job.timeline.scenes[block.scene].id, block.opens,
                                block.frames, result.layout, result.bytes, pictures)


def _film(job: Job, was_there: bool, warnings: tuple[str, ...]) -> Film:
    outputs = job.outputs
    assert not isinstance(outputs.film, Stdout) and outputs.trace and outputs.manifest
    facts = manifest.read(outputs.manifest)
    if facts is None:
        raise OutputError(f"{outputs.manifest} is gone", "Render the film again.")
    film, subtitles = facts["film"], outputs.subtitles if "subtitles" in facts["outputs"] else None
    return Film(outputs.film.path, outputs.trace, outputs.manifest, subtitles, (film["width"], film["height"]),
                film["fps"], film["seconds"], facts["outputs"]["film"]["sha256"], was_there,
                Pictures(outputs.film.path, film["pictures"]), warnings)


@contextmanager
def _for_people(kind: Any = None) -> Iterator[None]:
    """Turns every error that a user can act on into an EchoError, which names options as a request of this kind does
    in Python."""
    try:
        yield
    except Exception as error:
        problem = known(error)
        if problem is None:
            raise
        if kind is not None:
            problem.respell({flag: name for field in fields_of(kind) for flag, name in field.in_python.items()})
        if problem is error:
            raise
        raise problem from error


_SILENT: Progress = Quiet()
