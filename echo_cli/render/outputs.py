"""The files of a run: what `-o` means, what already exists, and whether it may be written.

Knows names and files, not films: what a matching manifest is, `manifest` says.
"""

import contextlib
import errno
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from echo_cli.errors import OutputError, UsageError
from echo_cli.files import begins_as_ours, fitted, output_errors, partial
from echo_cli.render import belongings
from echo_cli.video.encoding import CONTAINERS, MP4
from echo_cli.video.target import NUMBER, SUFFIXES, Images, Movie, Stdout, Target

_KIND = re.compile(r"\.[a-z][a-z0-9]{1,4}")  # a file's extension; `.2` in v1.2 is none
ELSEWHERE = "write elsewhere with -o"


@dataclass(frozen=True, slots=True)
class Outputs:
    """`film` and its companions; a film on standard output has none. `subtitles` is where an SRT goes, if one is made,
    `scenes` where its scenes go if later films may recall them, `end` where its memory's state goes if a later film may
    continue it, `sound` that of a sequence of pictures; `base` is what the other names begin with."""

    film: Target
    trace: Path | None = None
    manifest: Path | None = None
    subtitles: Path | None = None
    base: Path | None = None
    scenes: Path | None = None
    sound: Path | None = None
    end: Path | None = None

    @property
    def companions(self) -> tuple[Path, ...]:
        files = (self.trace, self.subtitles, self.scenes, self.sound, self.end, self.manifest)
        return tuple(path for path in files if path)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The one of work in progress, and the one of states for edits."""
        return tuple(fitted(self.base, ending) for ending in (".resume", ".states")) if self.base else ()

    def existing(self) -> Iterator[Path]:
        """What exists where this run would write, the film first."""
        yield from self.film.existing()
        yield from filter(os.path.lexists, self.companions)

    def precious(self) -> Iterator[Path]:
        """What exists and may be somebody's: a trace or a manifest without its film is only the rest of a run."""
        left = (self.trace, self.manifest)
        yield from (path for path in self.existing() if path not in left)

    def foreign(self) -> OutputError | None:
        """The error that protects what has one of our names and is not ours, in whatever state: a trace or a manifest,
        or something in one of the two folders."""
        with output_errors(self.film.path):
            for path in filter(None, (self.trace, self.manifest)):
                if path.is_file() and not begins_as_ours(path):
                    return OutputError(f"{path} exists", f"Use --force to overwrite it, or {ELSEWHERE}.")
            for strange in filter(None, map(belongings.foreign, self.folders)):
                return OutputError(strange, f"Move it away, or {ELSEWHERE}; --force leaves it there.")
        return None

    def check_names(self) -> None:
        """What can be known without writing: files and folders have no others in their way, and the name can be one."""
        with output_errors(self.film.path):
            self._check_names()

    def _check_names(self) -> None:
        folder = next(filter(os.path.isdir, (self.film.path, *self.companions)), None)
        if folder:
            raise OutputError(f"cannot write {folder}: it is a folder", "Choose another name with -o.")
        if file := next((path for path in self.folders if path.is_symlink() or path.is_file()), None):
            raise OutputError(f"cannot write {file}: it is not a folder",
                              "Move it away, or choose another name with -o.")
        if strange := next((path for path in self.existing() if os.path.exists(path) and not path.is_file()), None):
            raise OutputError(f"cannot write {strange}: it is a device or a pipe",
                              "Move it away, or choose another name with -o; --force overwrites files only.")
        with contextlib.suppress(FileNotFoundError):  # refuses a name that is too long
            self.film.path.with_name(self.film.path.name + ".tmp" * bool(self.film.encoder)).lstat()

    def check_folder(self) -> None:
        """Whether a run could write here, as far as can be seen without writing."""
        if self.manifest is None:
            return
        self.check_names()
        with output_errors(self.film.path):
            folder = next(path for path in self.manifest.absolute().parents if path.exists())
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, "")

    def check_writable(self) -> None:
        """Try the longest name in the folder, so that a film is not generated for a place that cannot take it."""
        if self.manifest is None:
            return
        self.check_names()
        for trial in (partial(path) for path in (self.manifest, self.scenes) if path):
            with output_errors(self.film.path):
                trial.parent.mkdir(parents=True, exist_ok=True)
                trial.touch()
                trial.unlink()


def outputs_of(output: str | None, stem: str, option: str = "-o") -> Outputs:
    """What `-o` names, or another option that decides the name. `stem` is the storyboard's own name, for when it names
    a folder or nothing."""
    if output == "-":
        return Outputs(Stdout())
    path = Path(output or stem + MP4)
    if output and (output.endswith("/") or os.path.isdir(path)):
        path = path / (stem + MP4)
    if (name := readable_name(str(path))) != str(path):
        raise UsageError(f"{option} {name}: this locale cannot decode the name, so no trace could record it", "Choose "
                         f"another name with {option}, or set LC_ALL to the locale that the name was written in.")
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return _sequence(path)
    if suffix not in CONTAINERS and _KIND.fullmatch(suffix):
        raise UsageError(f"{option} {path}: {suffix} is not written here", _other_kinds(path, option))
    if os.path.exists(path) and not path.is_file():
        raise UsageError(f"-o {path}: is a device or a pipe, and a film has files beside it",
                         f"Write the film there by way of standard output: `-o - > {shlex.quote(str(path))}`.")
    if suffix not in CONTAINERS:
        path = path.with_name(path.name + MP4)
    return _with_companions(Movie(path), path.with_suffix(""))


def readable_name(name: str) -> str:
    """A file's name as it can be written down: bytes that the locale cannot read as \\xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _other_kinds(path: Path, option: str) -> str:
    """What can be written, and how to get anything else from it if one film is made."""
    written = (f"Films end in {', '.join(CONTAINERS)}, sequences of pictures in {', '.join(SUFFIXES)}, as in "
               "frames/%06d.png.")
    if NUMBER.search(path.name) or option != "-o":
        return written
    return f"{written} For another kind let ffmpeg read the film: `-o - | ffmpeg -i - {shlex.quote(str(path))}`."


def _sequence(path: Path) -> Outputs:
    before, *after = NUMBER.split(path.name)
    if len(after) != 2 or "%" in before + after[1]:
        plain = NUMBER.sub("", path.stem).replace("%", "").strip("._- ")
        name = f"{plain}_%06d" if plain else "%06d"
        raise UsageError(f"-o {path}: a sequence of pictures needs one number in its name",
                         f"Write {path.with_name(name + path.suffix)}.")
    name = (before + after[1].removesuffix(path.suffix)).strip("._- ")
    return _with_companions(Images(path), path.with_name(name or path.absolute().parent.name or "film"))


def _with_companions(film: Target, base: Path) -> Outputs:
    trace, manifest, subtitles = (fitted(base, ending) for ending in (".trace.json", ".manifest.json", ".srt"))
    return Outputs(film, trace, manifest, subtitles, base)
