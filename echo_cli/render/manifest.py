"""The manifest: written last, it shows that a run is complete, so that the next run need not render the film again.

Two runs are the same film when their `identity` is: storyboard, weights, seed, settings and version. Where and when it
was made, on what, and how long that took is recorded beside it and never compared. Knows files, not films.
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import Enum, auto
from pathlib import Path
from typing import Any

from echo_cli.errors import EchoError, OutputError, UsageError
from echo_cli.files import parse_json, partial, publish, read_json, sha256, write_partial
from echo_cli.render.outputs import ELSEWHERE, Outputs, outputs_of
from echo_cli.storyboard.ends import read_end
from echo_cli.trace.reader import read_trace
from echo_cli.video.target import Output

FORMAT = "echo-manifest"
VERSION = 1
INPUTS = "settings.inputs."  # how differences name the files that come into a film
STORY = "story"  # recorded beside what decides an identity, to say how two differ
DECODER = "settings.decoder.weights"  # and the weights of a decoder other than the codec
MEASURES = ("width", "height", "fps", "pictures", "seconds")  # of the film, which every manifest has
ANOTHER = "another storyboard"


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides the pictures and their encoding. `settings` are plain values, including defaults."""

    storyboard: str  # sha256 of its canonical form
    weights: str  # sha256
    seed: int
    settings: Mapping[str, Any]
    version: str
    story: str = ""  # sha256 of the storyboard without what the other fields say; never compared

    def plain(self) -> dict[str, Any]:
        """As it is when it comes back from JSON."""
        return json.loads(json.dumps({"storyboard": self.storyboard, "weights": self.weights, "seed": self.seed,
                                      "settings": self.settings, "version": self.version,
                                      STORY: self.story}))


BEGINS = "begins"  # the key of what a film shares with its later versions


class Standing(Enum):
    """What a run finds in place of its outputs."""

    FREE = auto()
    DONE = auto()
    TAKEN = auto()


def prepare(path: Path, identity: Identity, outputs: Mapping[str, Output], facts: Mapping[str, Any]) -> None:
    """Write it, but do not name it yet. `outputs` by what they are (film, trace, subtitles); `facts` is all else worth
    keeping."""
    named = {what: {"name": os.path.relpath(output.path, path.parent), "sha256": output.sha256, "bytes": output.bytes}
             for what, output in outputs.items()}
    text = json.dumps({"format": FORMAT, "version": VERSION, "identity": identity.plain(), **facts, "outputs": named},
                      indent=2, ensure_ascii=False)
    write_partial(path, text + "\n")


def read(path: Path) -> dict[str, Any] | None:
    """A manifest of ours, or None for a file that is absent, damaged or not ours."""
    try:
        return _ours(read_json(path))
    except (OSError, ValueError):
        return None


def parsed(data: bytes) -> dict[str, Any] | None:
    """The manifest in the content of a file, or None."""
    try:
        return _ours(parse_json(data))
    except ValueError:
        return None


def _ours(content: Any) -> dict[str, Any] | None:
    if not isinstance(content, dict) or (content.get("format"), content.get("version")) != (FORMAT, VERSION):
        return None
    identity, outputs = content.get("identity"), content.get("outputs")
    named = [field.name for field in fields(Identity) if field.name != STORY]  # an earlier version has no story
    film = content.get("film")
    whole = (isinstance(film, dict) and all(type(film.get(name)) in (int, float) for name in MEASURES)
             and isinstance(identity, dict) and all(name in identity for name in named) and isinstance(outputs, dict)
             and all(isinstance(output, dict) and isinstance(output.get("name"), str) for output in outputs.values()))
    return content if whole else None


def standing(outputs: Outputs, identity: Identity, begun: bool = False) -> Standing:
    """DONE when the manifest matches and every file has its size; FREE when no other film would be lost. `begun` says
    that a run was interrupted here: pictures without a manifest are its own."""
    path = outputs.manifest
    existing = read(path) if path else None
    if existing is None or path is None:
        free = (
            not any(outputs.precious()) or (begun and bool(outputs.film.encoder)) or _left_unfinished(outputs, identity)
        )
        return Standing.FREE if free else Standing.TAKEN
    if _other_film(existing, outputs):
        return Standing.TAKEN
    if not same(existing["identity"], identity.plain()):
        return Standing.TAKEN if any(outputs.precious()) else Standing.FREE
    files = _files(outputs, existing)
    if outputs.scenes and not any(each.absolute() == outputs.scenes.absolute() for each in files.get("scenes", ())):
        return Standing.FREE  # the film is there, but not the file of scenes that is asked for
    if outputs.end and not any(each.absolute() == outputs.end.absolute() for each in files.get("end", ())):
        return Standing.FREE  # nor its end
    # the rest of the same film may be overwritten
    return Standing.DONE if _is_whole(outputs, existing) else Standing.FREE


def untouched(outputs: Outputs, source: str) -> Mapping[str, Any] | None:
    """The manifest of the film that is there, if it was made from a storyboard of this name and all its files are as
    large as they were written."""
    existing = read(outputs.manifest) if outputs.manifest else None
    if existing is None or _source(existing) != source or not _is_whole(outputs, existing):
        return None
    return existing


def unnamed(outputs: Outputs) -> Path | None:
    """Something in the place of a companion that the film which is there does not have."""
    existing = read(outputs.manifest) if outputs.manifest else None
    if existing is None or outputs.manifest is None:
        return None
    folder = outputs.manifest.parent
    named = {os.path.abspath(folder / output["name"]) for output in existing["outputs"].values()}
    return next((path for path in outputs.companions if path != outputs.manifest and os.path.lexists(path)
                 and os.path.abspath(path) not in named and not _is_end(path, outputs)), None)


def _is_end(path: Path, outputs: Outputs) -> bool:
    """Whether it is the end of a version of the film before the one that is there."""
    try:
        return path == outputs.end and read_end(path).facts.film == outputs.film.path.name
    except EchoError:
        return False


def trace_of(outputs: Outputs) -> str:
    """The hash of the trace that belongs to a film; empty where none does."""
    existing = read(outputs.manifest) if outputs.manifest else None
    return str(existing["outputs"].get("trace", {}).get("sha256", "")) if existing else ""


def _files(outputs: Outputs, existing: Mapping[str, Any]) -> dict[str, list[Path]]:
    """Every file that a manifest names, by what it is."""
    assert outputs.manifest is not None
    folder = outputs.manifest.parent
    return {what: outputs.film.existing() if what == "film" else [folder / output["name"]]
            for what, output in existing["outputs"].items()}


def _is_whole(outputs: Outputs, existing: Mapping[str, Any]) -> bool:
    """Whether each of these has its size."""
    files = _files(outputs, existing)
    return all(_bytes(files[what]) == output.get("bytes") for what, output in existing["outputs"].items()
               if what != "end" or outputs.end)  # an end that nobody asks for any more may be gone


def _other_film(content: Mapping[str, Any], outputs: Outputs) -> Path | None:
    """The film of another kind that the manifest belongs to, if it is there: film.mp4, where film.webm is wanted."""
    name = content["outputs"].get("film", {}).get("name")
    if outputs.manifest is None or name in (None, outputs.film.path.name):
        return None
    try:
        film = outputs_of(os.fspath(outputs.manifest.with_name(name)), "").film
    except (UsageError, ValueError):  # no name that we would write
        return None
    return next(iter(film.existing()), None)


def _left_unfinished(outputs: Outputs, identity: Identity) -> bool:
    """Whether what stands there are the first pictures of this very storyboard, from a run that was stopped."""
    if not outputs.film.encoder or not outputs.trace or not partial(outputs.trace).exists():
        return False
    try:
        return read_trace(partial(outputs.trace)).header.storyboard.sha256 == identity.storyboard
    except EchoError:
        return False


def finish_naming(outputs: Outputs, identity: Identity) -> bool:
    """A run of this film that was killed while it gave its files their names: the rest of them get theirs. Whether that
    was so; then the film is done."""
    named = outputs.manifest
    content = read(partial(named)) if named else None
    if named is None or content is None or not same(content["identity"], identity.plain()):
        return False
    try:
        if content["outputs"]["film"]["sha256"] != sha256(*outputs.film.existing()):
            return False
        others = {named.parent / output["name"]: output["sha256"]
                  for what, output in content["outputs"].items() if what != "film"}
        waiting = [path for path, wanted in others.items() if not path.exists() or sha256(path) != wanted]
        if any(sha256(partial(path)) != others[path] for path in waiting):
            return False
    except (KeyError, OSError):
        return False
    for path in (*waiting, named):
        publish(path)
    return True


def _bytes(paths: Iterable[Path]) -> int | None:
    """The size of files together; None when one is not there."""
    try:
        return sum(path.stat().st_size for path in paths)
    except OSError:
        return None


def _source(existing: Mapping[str, Any]) -> str:
    """The name of the storyboard's file; empty where the manifest does not say it."""
    return Path(str(existing.get("source") or "")).name


def refuse(outputs: Outputs, identity: Identity, source: str) -> OutputError:
    """The error that protects an existing film from that of a storyboard; only for outputs that are TAKEN."""
    existing = read(outputs.manifest) if outputs.manifest else None
    if existing and (other := _other_film(existing, outputs)):
        return OutputError(f"{outputs.manifest} belongs to {other}", "Choose another name with -o, or use --force to "
                                                                     "write a manifest of the new film.")
    there = next(outputs.precious())
    why = "exists"
    if existing:
        before = _source(existing)
        files = f" ({before}, now {source})" if before not in ("", source) else ""
        found = changes(existing["identity"], identity.plain())
        why = "was made from something else: " + ", ".join(what + files * (what == ANOTHER) for what in found)
    return OutputError(f"{there} {why}", f"Use --force to overwrite it, or {ELSEWHERE}.")


def same(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two plain identities are of the same film."""
    return _compared(before) == _compared(after)


def _compared(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key != STORY}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Where two plain identities differ. Storyboards that differ in nothing but what is named anyway are not named."""
    found = differences(_compared(before), _compared(after))
    if before.get(STORY) and before.get(STORY) == after.get(STORY):
        return [line for line in found if line != ANOTHER] or found
    return found


def differences(before: Any, after: Any, name: str = "") -> list[str]:
    """Where two plain values differ, as `name was before, now after`. Of two memories only the names are said, since
    most settings of one are not those of the other."""
    if isinstance(before, dict) and isinstance(after, dict):
        if before.get("policy") != after.get("policy"):
            return differences(before.get("policy"), after.get("policy"), name)
        keys = [*before, *(key for key in after if key not in before)]
        return [line for key in keys if before.get(key) != after.get(key)
                for line in differences(before.get(key), after.get(key), f"{name}.{key}" if name else key)]
    if name in ("storyboard", "weights"):
        return [ANOTHER if name == "storyboard" else f"other {name}"]
    if name == DECODER:
        return ["other weights of the decoder"]
    if name.startswith(INPUTS):
        return [f"another {name.removeprefix(INPUTS)}"]
    name = name.removeprefix("settings.")
    if _is_hash(before) and _is_hash(after):
        return [f"another {name}"]
    if isinstance(before, list) and isinstance(after, list) and name == "encoding":
        before, after = (" ".join(option for option in _options(one) if option not in _options(other))
                         for one, other in ((before, after), (after, before)))
    return [f"{name} was {_shown(before)}, now {_shown(after)}"]


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _options(arguments: Iterable[str]) -> list[str]:
    """ffmpeg's options, each with its value."""
    return re.split(r" (?=-[a-z])", " ".join(arguments))


def _shown(value: Any) -> str:
    if value in (None, ""):
        return "not set"
    if isinstance(value, list) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return "x".join(map(str, value))
    if _is_hash(value):
        return "a file"
    return str(value) if isinstance(value, str | int | float) else json.dumps(value)
