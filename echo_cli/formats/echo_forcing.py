"""Echo-Forcing's prompt files: one film a line, scenes split by `|`, their times and marks in brackets.

`a roof[10s#] | a street[5s]; First words | Second`: the mark of a scene says how the next one begins (`#` a hard cut,
`@` a recall of the scene that matches, nothing a smooth change); the last mark says nothing. After `;` come subtitles.
"""

import re
from fractions import Fraction

from echo_cli.formats.cut import Cut, Note, Shot, lines_of, lost, refuse
from echo_cli.storyboard.durations import LONGEST
from echo_cli.storyboard.nouns import AUTO, Geometry, Kind
from echo_cli.storyboard.reference import UNTIMED_BLOCKS, parse_reference

_TIMED = re.compile(r"\[\d+(\.\d+)?\s*s[#@]?\]")
_MARKS = {kind: kind.mark for kind in Kind}
_PLAIN = Geometry()


def is_ours(text: str) -> bool:
    """Whether a text is such a file: its first lines have a time in brackets."""
    return any(_TIMED.search(line) for line in lines_of(text)[:20])


def read(text: str, source: str) -> list[Cut]:
    """One film a line that is not empty."""
    lines = [(number, line) for number, line in enumerate(lines_of(text), start=1) if line.strip()]
    if not lines:
        raise refuse(source, "no prompt is in this file")
    return [_film(line, number, source) for number, line in lines]


def _film(line: str, number: int, source: str) -> Cut:
    scenes = parse_reference(line)
    if not scenes:
        raise refuse(source, "no scene is on this line", number)
    before, _, after = line.partition(";")
    subtitles = [part.strip() for part in after.split("|")] if after.strip() else []
    shots: list[Shot] = []
    kind: Kind | None = None
    for index, scene in enumerate(scenes):
        if not scene.prompt:
            raise refuse(source, f"scene {index + 1} has no prompt", number, before.find("[") + 1)
        seconds = UNTIMED_BLOCKS * _PLAIN.block_pictures / _PLAIN.fps if scene.seconds is None else scene.seconds
        if not 0 < seconds <= LONGEST:
            raise refuse(source, f"scene {index + 1} lasts {seconds:g} s, which no film can", number)
        recall = AUTO if kind and kind.targeted else None
        shots.append(Shot(scene.prompt, Fraction(repr(seconds)), kind, recall, _at(subtitles, index)))
        kind = scene.leads_to
    left = [
        Note(f"line {number}", f"subtitle '{words}', for which there is no scene") for words in subtitles[len(scenes) :]
    ]
    return Cut(tuple(shots), fps=_PLAIN.fps, notes=tuple(left))


def _at(subtitles: list[str], index: int) -> str | None:
    return (subtitles[index] or None) if index < len(subtitles) else None


def write(cut: Cut) -> tuple[str, list[Note]]:
    """The film as one line."""
    left, parts = lost(cut, "title", "fps", "seed", "size"), []
    for index, shot in enumerate(cut.shots):
        following = cut.shots[index + 1].kind if index + 1 < len(cut.shots) else None
        if shot.recall not in (None, AUTO):
            left.append(
                Note(f"scene '{cut.ids[index]}'", f"that it recalls '{shot.recall}'; the best match is recalled")
            )
        prompt = " ".join(shot.prompt.replace("|", "/").replace(";", ",").split())
        if prompt != shot.prompt:
            left.append(Note(f"scene '{cut.ids[index]}'", "line breaks, | or ; in its prompt"))
        parts.append(f"{prompt}[{float(shot.seconds):g}s{_MARKS[following] if following else ''}]")
    text = " | ".join(parts)
    if any(shot.subtitle for shot in cut.shots):
        text += "; " + " | ".join(" ".join((shot.subtitle or "").split()) for shot in cut.shots)
    return text + "\n", left
