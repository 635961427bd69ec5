"""What comes into a film beside words: the one list of its files, each with its hash.

The hashes are part of the film's identity: another photo makes another film. Knows files and a storyboard; what becomes
of them is `openings`. No torch.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from echo_cli.errors import UsageError
from echo_cli.files import fitted, sha256
from echo_cli.models.files.hashes import known_sha256
from echo_cli.render import manifest
from echo_cli.storyboard.ends import ENDING, read_end
from echo_cli.storyboard.nouns import CLIP, CONTINUE, PICTURE, SOUNDTRACK, Continued, Earlier, Storyboard, beside

LARGE = 64 << 20
_LEAVE = "Leave the files that come into a film where they are until it is made."


@dataclass(frozen=True, slots=True)
class Input:
    """A file: `what` is the key that names it, `path` is how the storyboard writes it, `scene` the id of the scene that
    it belongs to, None for one of the whole film."""

    what: str
    path: str
    scene: str | None
    file: Path
    sha256: str

    @property
    def where(self) -> str:
        """How messages name it."""
        return f"{self.what} '{self.path}'" + (f" of scene '{self.scene}'" if self.scene else "")


def file_problem(what: str, path: Path, begins: float | None = None) -> str | None:
    """Why a file cannot be the `what` of a film, a clip from second `begins` on; None when it can."""
    from echo_cli.video import clip, sound, still

    try:
        if what == SOUNDTRACK:
            sound.look(path)
        elif what == CLIP:
            clip.check(path, begins)
        else:
            still.check(path)
    except still.Unusable as error:
        if what == CLIP and file_problem(PICTURE, path) is None:
            return f"{path} is a picture; write picture: in place of clip:"
        return f"{path} {error}"
    return None


def continued_film(path: str, folder: Path, state: bool) -> Continued:
    """The film at a path in a folder, which another one continues: with its memory if its end lies beside it and
    `state` allows that, else from its pictures. A UsageError if it is none that can be used."""
    from echo_cli.video import clip, still

    file, end = folder / path, beside(path, ENDING)
    if state and (os.path.exists(folder / end) or end == path):
        return Continued(path, file.stem, end, earlier=_earlier(folder / end, file))
    try:
        clip.check(file)
        return Continued(path, file.stem, path, clip.look(file).seconds, state=state)
    except still.Unusable as error:
        raise UsageError(f"{file} {error}", "Name a film, as in continue: ../yesterday.mp4.") from None


def _earlier(end: Path, film: Path) -> Earlier:
    """What an end says; a UsageError if it is not that of the film which lies there."""
    read = read_end(end)
    named = film.name == read.facts.film
    made = manifest.read(fitted(film.with_suffix(""), ".manifest.json")) if named else None
    if made and not manifest.same(made["identity"], read.facts.identity):
        other = ", ".join(manifest.changes(read.facts.identity, made["identity"]))
        raise UsageError(f"{end}: is the end of another version of {film}: {other}",
                         "Render that film again with --keep-end, or remove the file to continue its pictures.")
    return read.earlier


def inputs_of(storyboard: Storyboard) -> tuple[Input, ...]:
    """Every file that comes into the film, in the storyboard's order."""
    hashes: dict[Path, str] = {}
    inputs = []
    for what, path, scene in _named(storyboard):
        file = storyboard.file(path)
        try:
            hashes[file] = hashes.get(file) or hash_of(file)
        except OSError as error:
            raise UsageError(f"{storyboard.source}: {what} {file} cannot be read: {error.strerror}",
                             _LEAVE) from None
        inputs.append(Input(what, path, scene, file, hashes[file]))
    return tuple(inputs)


def check_same(given: Input, digest: str | None = None) -> None:
    """A UsageError if a file is no longer the one that the film's identity was made from; `digest` is its hash, if it
    has been read already."""
    try:
        digest = digest or hash_of(given.file)
    except OSError as error:
        raise UsageError(f"{given.where}: {given.file} cannot be read: {error.strerror}", _LEAVE) from None
    if digest != given.sha256:
        raise UsageError(f"{given.where}: {given.file} has changed since the film was begun",
                         "Put it back, or run the same command again to make the film of the file as it is now.")


def hash_of(file: Path) -> str:
    """The sha256 of a file; a large one is read again only when it has changed."""
    return known_sha256(file) if file.stat().st_size > LARGE else sha256(file)


def identity_of(inputs: tuple[Input, ...]) -> Mapping[str, str]:
    """What of them decides the film: each file by the name that the storyboard gives it, with its hash."""
    return {each.path: each.sha256 for each in inputs}


def _named(storyboard: Storyboard) -> Iterator[tuple[str, str, str | None]]:
    """(key, path, scene) of each."""
    for series in storyboard.series:
        yield "series", series.path, None
    if storyboard.continued:
        yield CONTINUE, storyboard.continued.file, None
    for scene in storyboard.scenes:
        if scene.opening:
            yield scene.opening.what, scene.opening.path, scene.id
        if scene.soundtrack:
            yield SOUNDTRACK, scene.soundtrack, scene.id
