"""A cut as the storyboard that a person would write, and a storyboard as a cut.

YAML is written by hand, so that keys stand in the order people read them; only values are quoted by the library.
"""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import yaml

from echo_cli.formats.cut import Cut, Note, Shot
from echo_cli.storyboard.durations import describe, exact
from echo_cli.storyboard.nouns import AUTO, VERSION, Storyboard
from echo_cli.trace.records import Header

MOST_NOTES = 20  # that a storyboard lists of what was left out


def written(cut: Cut, comments: Iterable[str] = ()) -> str:
    """The YAML of a cut; `comments` stand at its head, then what was left out."""
    cut = cut if cut.ids else cut.named()
    lines = [_comment(comment) for comment in comments]
    lines += [_comment(f"Left out: {note.place}: {note.what}") for note in cut.notes[:MOST_NOTES]]
    if len(cut.notes) > MOST_NOTES:
        lines.append(f"# Left out: {len(cut.notes) - MOST_NOTES} more")
    lines.append(f"version: {VERSION}")
    lines += [f"title: {scalar(cut.title)}"] if cut.title else []
    lines += [f"seed: {cut.seed}"] if cut.seed is not None else []
    lines += [f"size: {cut.size[0]}x{cut.size[1]}"] if cut.size else []
    lines += [f"fps: {cut.fps:g}"] if cut.fps else []
    lines.append("scenes:")
    for name, shot in zip(cut.ids, cut.shots, strict=True):
        lines.append(f"  - id: {scalar(name)}")
        if shot.kind is not None:
            lines.append(f"    transition: {scalar(_transition(shot))}")
        lines.append(f"    prompt: {scalar(shot.prompt)}")
        lines.append(f"    duration: {_duration(shot.seconds)}")
        lines += [f"    subtitle: {scalar(shot.subtitle)}"] if shot.subtitle else []
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """A comment in one line, without the characters that YAML does not allow."""
    return "# " + "".join(letter if letter.isprintable() else " " for letter in text)


def _transition(shot: Shot) -> str:
    return f"recall:{shot.recall or AUTO}" if shot.recalls else str(shot.kind)


def _duration(seconds: Fraction) -> str:
    """Exact where milliseconds are; otherwise as many decimals as keep a film of an hour right to the picture."""
    if (seconds * 1000).denominator == 1:
        return describe(seconds)
    return f"{float(seconds):.9f}".rstrip("0") + "s"


def scalar(text: str) -> str:
    """A text as YAML in one line, quoted where it must be; with an apostrophe in it, in double quotes."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=float("inf")).removesuffix("...\n").strip()
    double = "'" in text and plain.startswith("'") and text.isprintable() and not set(text) & {'"', "\\"}
    return f'"{text}"' if double else plain


def cut_of(board: Storyboard) -> Cut:
    """The shots of a storyboard; what no other format holds is noted."""
    shots = tuple(
        Shot(scene.prompt, exact(scene.seconds), scene.transition, scene.recall, scene.subtitle, scene.id)
        for scene in board.scenes
    )
    left = [
        Note(f"scene '{scene.id}'", f"its own {what}")
        for scene in board.scenes
        for what, value in (
            ("seed", scene.seed is not None),
            ("memory settings", scene.memory),
            (scene.opening.what if scene.opening else "", scene.opening),
            ("soundtrack", scene.soundtrack),
        )
        if value
    ]
    whole = (("model", board.model), ("memory", board.policy), ("language", board.language), ("series", board.series),
             ("keep_scenes", board.kept), ("continue", board.continued))
    left += [Note("storyboard", what) for what, value in whole if value]
    return Cut(shots, board.title, board.fps, board.seed or None, board.size, tuple(left),
               ids=tuple(scene.id for scene in board.scenes))


def cut_of_trace(header: Header, folder: Path) -> Cut:
    """The shots of a film as it was made: from its first picture to its last, scene by scene. The film lies in `folder`
    if it is still there."""
    rate = exact(header.film.fps)
    shots = tuple(
        Shot(
            scene.prompt,
            Fraction(scene.pictures[1] - scene.pictures[0]) / rate,
            scene.transition,
            scene.recall,
            scene.subtitle,
            scene.id,
        )
        for scene in header.timeline
    )
    film = header.film
    video = (folder / film.video).absolute() if film.video else None
    return Cut(
        shots,
        header.storyboard.title or None,
        film.fps,
        header.seed,
        (film.width, film.height),
        film=video.as_uri() if video and video.is_file() else None,
        ids=tuple(shot.name or "" for shot in shots),
    )
