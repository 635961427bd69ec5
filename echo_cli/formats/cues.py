"""SRT and WebVTT: the text of a cue is a prompt, and lasts until the next cue begins.

Written, the cues hold a film's subtitles, or its prompts where it has none.
"""

import html
import itertools
import re
from fractions import Fraction

from echo_cli.formats.cut import MOST_SHOTS, Cut, Note, from_starts, lines_of, refuse, starts_of
from echo_cli.storyboard.durations import LONGEST
from echo_cli.text import clock
from echo_cli.video import subtitles
from echo_cli.video.subtitles import Caption

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{2})[,.](\d{1,3})"
_CUE = re.compile(rf"^\s*{_TIME}\s*-->\s*{_TIME}(.*)$")
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,40}>|\{\\[^}]{0,40}\}")


def is_vtt(text: str) -> bool:
    return bool(re.match(r"WEBVTT(\s|$)", text))


def is_srt(text: str) -> bool:
    return not is_vtt(text) and any(_CUE.match(line) for line in lines_of(text)[:10])


def read(text: str, source: str) -> list[Cut]:
    """The one film of the cues."""
    cues, notes = [], []
    lines = lines_of(text)
    plain = html.unescape if is_vtt(text) else subtitles.without_joiners
    index = 0
    while index < len(lines):
        match = _CUE.match(lines[index])
        if not match:
            if "-->" in lines[index]:
                raise refuse(source, f"not a time: {lines[index].strip()[:60]!r}", index + 1)
            if re.match(r"(NOTE|STYLE|REGION)\b", lines[index]):
                notes.append(Note(f"line {index + 1}", f"a {lines[index].split()[0]} block"))
                while index < len(lines) and lines[index].strip():
                    index += 1
            index += 1
            continue
        line, start, end = index + 1, _seconds(match.groups()[:4]), _seconds(match.groups()[4:8])
        if match[9].strip():
            notes.append(Note(f"line {line}", f"the position '{match[9].strip()}'"))
        words = []
        index += 1
        while index < len(lines) and lines[index].strip():
            words.append(lines[index])
            index += 1
        prompt = " ".join(plain(_TAG.sub("", " ".join(words))).split())
        if not prompt:
            raise refuse(source, "the cue has no text", line)
        if end <= start or end > LONGEST:
            raise refuse(source, f"the cue lasts from {float(start):g} to {float(end):g} s", line)
        cues.append((start, end, prompt, line))
        if len(cues) > MOST_SHOTS:
            raise refuse(source, f"more than {MOST_SHOTS:,} cues", line)
    if not cues:
        raise refuse(source, "no cue is in this file")
    return [_film(sorted(cues), notes, source)]


def _film(cues: list[tuple[Fraction, Fraction, str, int]], notes: list[Note], source: str) -> Cut:
    if cues[0][0] > 0:
        notes.append(Note(f"line {cues[0][3]}", f"{float(cues[0][0]):g} s before the first cue; it begins at once"))
    for (_, end, _, line), (start, _, _, following) in itertools.pairwise(cues):
        if start > end:
            notes.append(Note(f"line {line}", f"{float(start - end):g} s without a cue; the scene continues"))
        if start < end:
            notes.append(Note(f"line {following}", f"{float(end - start):g} s that overlap the cue before"))
    starts = [Fraction(0), *(cue[0] for cue in cues[1:])]
    if any(later <= earlier for earlier, later in itertools.pairwise(starts)):
        raise refuse(source, "two cues begin at the same time")
    return Cut(tuple(from_starts(starts, cues[-1][1], [cue[2] for cue in cues])), notes=tuple(notes))


def _seconds(parts: tuple[str | None, ...]) -> Fraction:
    hours, minutes, seconds, fraction = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(f"{int(seconds)}.{fraction}")


def srt(cut: Cut) -> tuple[str, list[Note]]:
    return subtitles.srt(_captions(cut)), _left(cut)


def vtt(cut: Cut) -> tuple[str, list[Note]]:
    return subtitles.vtt(_captions(cut)), _left(cut)


def _captions(cut: Cut) -> list[Caption]:
    times = starts_of(cut.shots)
    subtitled = any(shot.subtitle for shot in cut.shots)
    return [
        Caption(begins, ends, (shot.subtitle or "") if subtitled else shot.prompt)
        for shot, begins, ends in zip(cut.shots, times, times[1:], strict=False)
        if shot.subtitle or not subtitled
    ]


def _left(cut: Cut) -> list[Note]:
    subtitled = any(shot.subtitle for shot in cut.shots)
    left = [
        Note(f"scene '{name}'", f"that it begins as {'a recall' if shot.recall else shot.kind}")
        for name, shot in zip(cut.ids, cut.shots, strict=True)
        if shot.kind and not shot.continues
    ]
    return [Note("every scene", "its prompt; the film has subtitles"), *left] if subtitled else left


def chapters(cut: Cut) -> tuple[str, list[Note]]:
    """Chapters as video sites read them in a description: a time and a title a line."""
    times = starts_of(cut.shots)
    lines = [
        f"{clock(int(time), 0)} {' '.join((shot.subtitle or name).split())}"
        for name, shot, time in zip(cut.ids, cut.shots, times, strict=False)
    ]
    return "\n".join(lines) + "\n", [Note("every scene", "its prompt")]
