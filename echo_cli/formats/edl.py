"""EDL, CMX 3600: one event a shot, record times one after the other, names and prompts in comments.

The file does not state its frame rate; the reader must give it.
"""

import re
import textwrap
from dataclasses import dataclass, field
from fractions import Fraction
from urllib.parse import unquote

from echo_cli.formats.cut import MOST_SHOTS, Cut, Note, Shot, lines_of, lost, refuse, starts_of
from echo_cli.storyboard.nouns import AUTO, Kind

RATE = 24  # frames a second of timecodes when nobody says otherwise
_RATES = (24, 25, 30, 48, 50, 60)  # that timecodes can count; films of other rates are written at RATE
_CLOSE = 0.1  # 29.97 is counted as 30, 23.976 as 24
_CODE = r"(\d{2}):(\d{2}):(\d{2})[:;](\d{2,3})"
_EVENT = re.compile(
    rf"^\s*(\d{{1,6}})\s+(\S+)\s+(\S+)\s+(C|D|W\d{{3}}|K\S*)\s+(?:(\d{{1,3}})\s+)?{_CODE}\s+{_CODE}\s+{_CODE}\s+{_CODE}\s*$"
)
_NAME = re.compile(r"^\*\s*(FROM|TO) CLIP NAME:\s*(.*)$", re.IGNORECASE)
_OURS = re.compile(r"^\*\s*ECHO (PROMPT|SUBTITLE|RECALL):\s?(.*)$")
_PICTURES = re.compile("V|^B", re.IGNORECASE)  # tracks with pictures: V, V2, AA/V, and B for both
_BLACK = "BL"  # the reel of black
_MARKER = "recall:"  # how the marker of a recall begins
_KNOWN = re.compile(rf"FCM:|\* ECHO RATE:|\* LOC: \S+ +MAGENTA +{_MARKER}")  # what says nothing more
_WIDTH = 70


@dataclass(slots=True)
class _Event:
    line: int
    number: str
    reel: str
    kind: str
    start: int
    stop: int
    names: dict[str, str] = field(default_factory=dict)
    ours: dict[str, str] = field(default_factory=dict)


def is_ours(text: str) -> bool:
    lines = lines_of(text)[:200]
    return any(line.startswith(("TITLE:", "FCM:")) for line in lines[:40]) and any(map(_EVENT.match, lines))


def read(text: str, source: str, fps: float | None = None) -> list[Cut]:
    """The events of the video track, timecodes at `fps`."""
    rate, notes = fps or _said_rate(text), []
    if rate is None:
        rate = RATE
        notes.append(Note("the file", f"no frame rate is in it; {RATE} is assumed (--fps says otherwise)"))
    title, events = _events(text, source, rate, notes)
    if not events:
        raise refuse(source, "no event is in this file")
    return [Cut(tuple(_shots(events, source, rate, notes)), title=title, notes=tuple(notes))]


def _said_rate(text: str) -> float | None:
    """The rate that our own files say in a comment."""
    match = re.search(r"^\* ECHO RATE: (\d{2}(?:\.\d{1,6})?)$", text, re.MULTILINE)
    return float(match[1]) if match and float(match[1]) >= 1 else None


def _events(text: str, source: str, rate: float, notes: list[Note]) -> tuple[str | None, list[_Event]]:
    title, events, dropping = None, [], False
    for number, line in enumerate(lines_of(text), start=1):
        if match := _EVENT.match(line):
            if not _PICTURES.search(match[3]):
                notes.append(Note(f"line {number}", f"event {match[1]} on track {match[3]}"))
                continue
            dropping = dropping or ";" in line
            codes = [_frames(match.groups()[index : index + 4], rate, dropping, source, number)
                     for index in (5, 9, 13, 17)]
            events.append(_Event(number, match[1], match[2], match[4][0], codes[2], codes[3]))
            if len(events) > MOST_SHOTS:
                raise refuse(source, f"more than {MOST_SHOTS:,} events", number)
        elif line.startswith("FCM:"):
            dropping = not line.upper().startswith("FCM: NON")
        elif line.startswith("TITLE:"):
            title = line.removeprefix("TITLE:").strip() or None
        elif events and (match := _NAME.match(line)):
            events[-1].names[match[1].upper()] = match[2].strip()
        elif events and (match := _OURS.match(line)):
            said = events[-1].ours
            said[match[1]] = f"{said[match[1]]} {match[2].strip()}" if match[1] in said else match[2].strip()
        elif re.match(r"^\s*\d+\s+\S+\s+\S+\s+[CDWK]", line):
            raise refuse(source, f"not an event: {line.strip()[:60]!r}", number)
        elif line.strip() and not _KNOWN.match(line):
            notes.append(Note(f"line {number}", line.strip()[:80]))
    return title, events


def _shots(events: list[_Event], source: str, rate: float, notes: list[Note]) -> list[Shot]:
    """Events of no length are the first half of a dissolve, and only name what was there before."""
    shots: list[Shot] = []
    end = None
    for event in events:
        if event.stop == event.start:
            continue
        if event.stop < event.start:
            raise refuse(source, f"event {event.number} ends before it begins", event.line)
        if end is not None and event.start != end:
            gap = (event.start - end) / rate
            notes.append(
                Note(f"line {event.line}", f"{abs(gap):g} s {'without a clip' if gap > 0 else 'that overlap'}")
            )
        end = event.stop
        if event.reel.upper() == _BLACK:
            notes.append(Note(f"line {event.line}", f"{(event.stop - event.start) / rate:g} s of black"))
            continue
        if event.kind in "WK":
            notes.append(Note(f"line {event.line}", "a wipe or key; it is read as a cut"))
        shots.append(_shot(event, source, rate, first=not shots))
    if not shots:
        raise refuse(source, "every event of this file is black or has no length")
    return shots


def _shot(event: _Event, source: str, rate: float, first: bool) -> Shot:
    name = event.names.get("TO" if event.kind != "C" else "FROM") or event.names.get("FROM") or event.names.get("TO")
    prompt = event.ours.get("PROMPT") or name
    if not prompt:
        raise refuse(source, f"event {event.number} has neither a clip name nor a prompt", event.line,
                     hint="Add '* FROM CLIP NAME: …' below it, or '* ECHO PROMPT: …'.")
    recall = None if first else event.ours.get("RECALL")
    kind = Kind.RECALL if recall else Kind.SMOOTH if event.kind == "D" else Kind.HARD_CUT
    return Shot(prompt, Fraction(event.stop - event.start) / Fraction(repr(rate)), None if first else kind, recall,
                event.ours.get("SUBTITLE"), name)


def _frames(parts: tuple[str, ...], rate: float, dropping: bool, source: str, line: int) -> int:
    """The frame that a timecode names. Timecodes count whole numbers of frames a second; at 29.97 they may drop two
    numbers every minute but each tenth, and at 59.94 four, so that they stay with the clock."""
    hours, minutes, seconds, frames = map(int, parts)
    if minutes > 59 or seconds > 59 or frames >= rate:
        raise refuse(
            source,
            f"no timecode at {rate:g} frames a second: {':'.join(parts)}",
            line,
            hint="Say the rate of the file with --fps.",
        )
    minutes += hours * 60
    whole = round(rate)
    dropped = whole // 15 * (minutes - minutes // 10) if dropping and whole % 30 == 0 and whole != rate else 0
    return (minutes * 60 + seconds) * whole + frames - dropped


def write(cut: Cut) -> tuple[str, list[Note]]:
    """Record times begin at one hour, as editors expect; a comment says the rate that timecodes count."""
    fps = cut.fps or RATE
    rate = next((each for each in _RATES if abs(each - fps) < _CLOSE), None)
    rate, real = (rate, Fraction(fps)) if rate else (RATE, Fraction(RATE))  # as timecodes name and as they count it
    lines = [f"TITLE: {' '.join((cut.title or 'film').split())[:_WIDTH]}", "FCM: NON-DROP FRAME", ""]
    edges = [round(time * real) for time in starts_of(cut.shots)]
    for number, (name, shot) in enumerate(zip(cut.ids, cut.shots, strict=True), start=1):
        start, stop = edges[number - 1], edges[number]
        half = min(rate // 4, stop - start)
        effect = f"D    {half:03}" if shot.continues else "C       "
        source, record = (
            " ".join(code(frame, rate) for frame in pair)
            for pair in ((start, stop) if cut.film else (0, stop - start), (start + 3600 * rate, stop + 3600 * rate))
        )
        track = "B" if cut.sound else "V"  # both, or video
        lines.append(f"{number:03}  AX       {track}     {effect} {source} {record}")
        lines.append(f"* {'TO' if shot.continues else 'FROM'} CLIP NAME: {name}")
        if number == 1:
            lines += [f"* SOURCE FILE: {unquote(cut.film.rpartition('/')[2])}"] if cut.film else []
            lines.append(f"* ECHO RATE: {float(real):.6g}")
        lines += [f"* ECHO PROMPT: {part}" for part in _wrapped(shot.prompt)]
        lines += [f"* ECHO SUBTITLE: {part}" for part in _wrapped(shot.subtitle or "")]
        if shot.recalls:
            lines.append(f"* ECHO RECALL: {shot.recall or AUTO}")
            lines.append(f"* LOC: {code(start + 3600 * rate, rate)} MAGENTA {_MARKER}{shot.recall or AUTO}")
    return "\n".join(lines) + "\n", lost(cut, "fps", "seed", "size")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), _WIDTH, break_long_words=False, break_on_hyphens=False)


def code(frame: int, rate: int) -> str:
    """Frames as a timecode."""
    seconds, rest = divmod(frame, rate)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{rest:02}"
