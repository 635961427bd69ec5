"""Every format by name: how it is recognised, read and written. A new format is a module and a row here.

Packages of others add rows through the entry points `echo_cli.formats`: each names a `Format`.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from echo_cli.errors import MissingError, UsageError, did_you_mean
from echo_cli.formats import cues, deforum, echo_forcing, edl, fcpxml, longlive, otio, schedules, scope
from echo_cli.formats.cut import Cut, Note, refuse
from echo_cli.formats.jsons import Value, read_json
from echo_cli.plugins import Table
from echo_cli.storyboard.document import STDIN, read_source
from echo_cli.storyboard.mistakes import StoryboardError


@dataclass(frozen=True)
class Options:
    """What the one who imports may say: the rate of frames or timecodes, a film's length in frames, how blended prompts
    become one, and the text of the file of times that LongLive keeps beside its prompts."""

    fps: float | None = None
    frames: int | None = None
    join: bool = False
    times: str | None = None


@dataclass(frozen=True)
class Source:
    """The text of a file and its name. `json` is its value, or None when it is not JSON at all."""

    text: str
    name: str

    @cached_property
    def json(self) -> Value | None:
        if not self.text.lstrip().startswith(("{", "[")):
            return None
        try:
            return read_json(self.text, self.name)
        except StoryboardError:
            return None


@dataclass(frozen=True)
class Format:
    """One row. `recognise` looks at the content, never at the name of the file."""

    name: str
    summary: str
    suffix: str
    recognise: Callable[[Source], bool] | None = None
    read: Callable[[Source, Options], list[Cut]] | None = None
    write: Callable[[Cut], tuple[str, list[Note]]] | None = None
    media: bool = False  # whether what is written refers to the film's pictures and sound


def _json(source: Source) -> Value:
    return read_json(source.text, source.name)


def _schedule(source: Source, options: Options) -> list[Cut]:
    if source.json is not None and deforum.is_ours(source.json):
        return deforum.read(source.json, options.fps, options.frames)
    return schedules.read(source.text, source.name, options.fps or schedules.RATE, options.frames)


_ROWS = (
    Format(
        "fcpxml",
        "FCPXML 1.8 and later (Final Cut Pro, Resolve)",
        ".fcpxml",
        lambda s: fcpxml.is_ours(s.text),
        lambda s, o: fcpxml.read(s.text, s.name),
        fcpxml.write,
        media=True,
    ),
    Format(
        "otio",
        "OpenTimelineIO",
        ".otio",
        lambda s: s.json is not None and otio.is_ours(s.json),
        lambda s, o: otio.read(_json(s)),
        otio.write,
        media=True,
    ),
    Format(
        "scope",
        "Daydream Scope timeline",
        ".json",
        lambda s: s.json is not None and scope.is_ours(s.json),
        lambda s, o: scope.read(_json(s), o.join),
        scope.write,
    ),
    Format(
        "longlive",
        "LongLive: JSON lines of prompts, or a folder of captions",
        ".jsonl",
        lambda s: longlive.is_lines(s.text),
        lambda s, o: longlive.read_lines(s.text, s.name, o.times or longlive.times_beside(s.name)),
        longlive.write_lines,
    ),
    Format("vtt", "WebVTT", ".vtt", lambda s: cues.is_vtt(s.text), lambda s, o: cues.read(s.text, s.name), cues.vtt),
    Format(
        "srt",
        "SubRip subtitles",
        ".srt",
        lambda s: cues.is_srt(s.text),
        lambda s, o: cues.read(s.text, s.name),
        cues.srt,
    ),
    Format(
        "edl",
        "EDL, CMX 3600",
        ".edl",
        lambda s: edl.is_ours(s.text),
        lambda s, o: edl.read(s.text, s.name, o.fps),
        edl.write,
        media=True,
    ),
    Format(
        "schedule",
        "Deforum or FizzNodes prompt schedule, or a Deforum settings file",
        ".txt",
        lambda s: schedules.is_ours(s.text) or (s.json is not None and deforum.is_ours(s.json)),
        lambda s, o: _schedule(s, o),
    ),
    Format(
        "echo-forcing",
        "Echo-Forcing prompt file, one film a line",
        ".txt",
        lambda s: echo_forcing.is_ours(s.text),
        lambda s, o: echo_forcing.read(s.text, s.name),
        echo_forcing.write,
    ),
    Format("chapters", "chapters for a video's description", ".txt", write=cues.chapters),
)


FORMATS: Table[Format] = Table("echo_cli.formats", Format, {row.name: row for row in _ROWS})
_ALSO = {"deforum": "schedule", "fizznodes": "schedule", "webvtt": "vtt"}  # other names that people know formats by
_JSON = re.compile(r"""\s*(\{|\[\s*([]{["\d-]|true|false|null|$))""")
_KNOWN_AS = {"schedule": ("deforum", "fizznodes")}  # formats that nobody knows by our name for them
_SCENES = re.compile(r"""^(\{.*)?["']?scenes["']?\s*:""", re.MULTILINE)  # a key that every storyboard has


def names(*, reads: bool) -> list[str]:
    """What can be imported (or exported); formats of other packages are listed unseen, so that none is loaded."""
    able = [name for name in FORMATS if name not in FORMATS.own or _can(FORMATS.own[name], reads)]
    return [known for name in able for known in _KNOWN_AS.get(name, (name,))]


def exported_by(suffix: str) -> list[str]:
    """The formats that can be exported to files with this suffix. Other packages are asked only if none of our formats
    can; a package that cannot be loaded has none."""
    ours = [name for name, row in FORMATS.own.items() if row.write and row.suffix == suffix]
    if ours or not suffix:
        return ours
    return [name for name, row in _loaded() if row.write and row.suffix == suffix]


def _loaded() -> Iterator[tuple[str, Format]]:
    """Ours, then those of every package that can be loaded."""
    for name in FORMATS:
        with suppress(MissingError):
            yield name, FORMATS[name]


def _can(row: Format, reads: bool) -> bool:
    return (row.read if reads else row.write) is not None


def named(name: str, *, reads: bool) -> Format:
    """The format of that name, among those that can be read (or written)."""
    name = _ALSO.get(name.lower(), name)
    if name not in FORMATS or not _can(FORMATS[name], reads):
        known = names(reads=reads)
        raise UsageError(
            f"no format to {'import' if reads else 'export'} is called '{name}'{did_you_mean(name, tuple(known))}",
            f"The formats are: {', '.join(known)}.",
        )
    return FORMATS[name]


def read_path(path: str, options: Options = Options(), name: str | None = None) -> tuple[str, list[Cut]]:
    """(format, films) of a file, a folder of captions, or standard input."""
    if path != STDIN and Path(path).is_dir():
        return "longlive", longlive.read_folder(Path(path))
    text, source = read_source(path)
    row = named(name, reads=True) if name else recognised(Source(text, source))
    assert row.read
    return row.name, row.read(Source(text, source), options)


def recognised(source: Source) -> Format:
    """The format of a text, recognised by its content."""
    row = matching(source)
    if row:
        return row
    if _JSON.match(source.text):
        read_json(source.text, source.name)  # where the JSON is broken is the better answer
    if not source.text.strip():
        raise refuse(source.name, "the file is empty", hint="Check that this is the right file.")
    if is_storyboard(source):
        raise refuse(source.name, "this is a storyboard already", hint="Render it with `echo-cli generate`.")
    raise refuse(source.name, "no known format", hint=f"Name it with --from: {', '.join(names(reads=True))}.")


def is_storyboard(source: Source) -> bool:
    return "scenes" in source.json if isinstance(source.json, dict) else bool(_SCENES.search(source.text))


def matching(source: Source) -> Format | None:
    """The first format that recognises a text; ours are asked before any other package is loaded, and a package that
    cannot be loaded recognises nothing."""
    return next((row for _, row in _loaded() if row.recognise and row.recognise(source)), None)
