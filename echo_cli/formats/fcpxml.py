"""FCPXML 1.8 and later: the clips of a project's spine, in order; times are rationals.

A clip's prompt stands in its note; without one, its name is the prompt. A transition makes the change smooth.
"""

import re
import xml.etree.ElementTree as xml
from collections.abc import Iterator
from fractions import Fraction
from xml.sax.saxutils import escape, quoteattr

from echo_cli.formats.cut import MOST_SHOTS, Cut, Note, Shot, lost, refuse
from echo_cli.storyboard.durations import LONGEST
from echo_cli.storyboard.nouns import AUTO, Kind

RATE = 16
_CLIPS = ("clip", "asset-clip", "ref-clip", "sync-clip", "mc-clip", "video", "title", "audition")
_TIME = re.compile(r"(-?\d{1,15})(?:/(\d{1,12}))?s")
_RECALL = "recall:"
_DISSOLVE = "Cross Dissolve"


def is_ours(text: str) -> bool:
    return bool(re.search(r"<fcpxml\b", text[:4000]))


def read(text: str, source: str) -> list[Cut]:
    """One film a project."""
    root = _tree(text, source)
    # a spine within a spine is a storyline beside the film
    spines = [(project, spine) for project in root.iter("project")
              if (spine := next(project.iter("spine"), None)) is not None]
    if not spines:
        spines = [(root, spine) for spine in root.iter("spine")][:1]
    if not spines:
        raise refuse(source, "no project with a spine is in this file")
    return [_film(project, spine, source) for project, spine in spines]


def _tree(text: str, source: str) -> xml.Element:
    if re.search(r"<!ENTITY", text, re.IGNORECASE):
        raise refuse(source, "the file declares entities, which no editor writes; remove them")
    try:
        return xml.fromstring(text)
    except xml.ParseError as error:
        line, column = error.position
        raise refuse(source, f"not valid XML: {str(error).partition(':')[0]}", line, column + 1) from None
    except (ValueError, RecursionError) as error:
        raise refuse(source, f"not valid XML: {error}") from None


def _film(project: xml.Element, spine: xml.Element, source: str) -> Cut:
    notes: list[Note] = []
    shots: list[Shot] = []
    smooth = False
    for number, item in enumerate(spine, start=1):
        place = f"spine item {number}"
        if item.tag == "transition":
            smooth = True
            if (kind := item.get("name") or _DISSOLVE) != _DISSOLVE:
                notes.append(Note(place, f"the transition '{kind}'; it is read as a dissolve"))
        elif item.tag == "gap":
            notes.append(Note(place, f"a gap of {float(_seconds(item, source, place)):g} s"))
        elif item.tag in _CLIPS and item.get("enabled") == "0":
            notes.append(Note(place, f"a disabled clip of {float(_seconds(item, source, place)):g} s"))
            smooth = False
        elif item.tag in _CLIPS:
            shots.append(_shot(item, source, place, Kind.SMOOTH if smooth else Kind.HARD_CUT, bool(shots), notes))
            smooth = False
            if len(shots) > MOST_SHOTS:
                raise refuse(source, f"{place}: more than {MOST_SHOTS:,} clips")
        else:
            notes.append(Note(place, f"<{item.tag}>"))
    if not shots:
        raise refuse(source, "the spine has no clip")
    return Cut(tuple(shots), title=project.get("name") or None, notes=tuple(notes))


def _shot(item: xml.Element, source: str, place: str, kind: Kind, follows: bool, notes: list[Note]) -> Shot:
    name = (item.get("name") or "").strip()
    note = (item.findtext("note") or "").strip()
    if not (note or name):
        raise refuse(source, f"{place}: a clip with neither a name nor a note")
    if not note:
        notes.append(Note(place, "no note; the clip's name is the prompt"))
    marks = [marker.get("value", "") for marker in item.iter("marker")]
    recall = next((mark.removeprefix(_RECALL) for mark in marks if mark.startswith(_RECALL)), None)
    notes += [Note(place, f"the marker '{mark}'") for mark in marks if not mark.startswith(_RECALL)]
    notes += [Note(place, f"<{child.tag}>") for child in item if child.tag not in ("note", "marker", "chapter-marker")]
    subtitle = next((marker.get("value") for marker in item.iter("chapter-marker")), None)
    return Shot(
        note or name,
        _seconds(item, source, place),
        (Kind.RECALL if recall else kind) if follows else None,
        recall if follows else None,
        subtitle or None,
        name or None,
    )


def _seconds(item: xml.Element, source: str, place: str) -> Fraction:
    text = item.get("duration") or ""
    match = _TIME.fullmatch(text)
    if not match or int(match[2] or 1) == 0:
        raise refuse(source, f"{place}: no duration such as 27120/600s: {text[:40]!r}")
    seconds = Fraction(int(match[1]), int(match[2] or 1))
    if not 0 < seconds <= LONGEST:
        raise refuse(source, f"{place}: lasts {float(seconds):g} s")
    return seconds


def write(cut: Cut) -> tuple[str, list[Note]]:
    """Version 1.9, with one project."""
    size = ' width="{}" height="{}"'.format(*cut.size) if cut.size else ""
    frame = 1 / Fraction(repr(cut.fps or RATE))
    offset, items = Fraction(0), list[str]()
    for name, shot in zip(cut.ids, cut.shots, strict=True):
        length = max(1, round(shot.seconds / frame)) * frame
        items += _items(name, shot, offset, length, frame, cut.film is not None)
        offset += length
    asset = f"\n    {_asset(cut.film, cut.title or 'film', offset, cut.sound)}" if cut.film else ""
    text = _PROJECT.format(frame=_time(frame), size=size, asset=asset,
                           title=quoteattr(_plain(cut.title or "film")),
                           length=_time(offset), items="\n            ".join(items))
    return text, lost(cut, "seed")


_PROJECT = '''<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE fcpxml>
<fcpxml version="1.9">
  <resources>
    <format id="r1" frameDuration="{frame}"{size}/>{asset}
  </resources>
  <library>
    <event name={title}>
      <project name={title}>
        <sequence format="r1" duration="{length}" tcStart="0s" tcFormat="NDF">
          <spine>
            {items}
          </spine>
        </sequence>
      </project>
    </event>
  </library>
</fcpxml>
'''


def _asset(film: str, title: str, length: Fraction, sound: bool) -> str:
    heard = ' hasAudio="1" audioSources="1" audioChannels="2" audioRate="48000"' if sound else ""
    return (f'<asset id="r2" name={quoteattr(_plain(title))} start="0s" duration="{_time(length)}" hasVideo="1" '
            f'format="r1"{heard}><media-rep kind="original-media" src={quoteattr(film)}/></asset>')


def _items(name: str, shot: Shot, offset: Fraction, length: Fraction, frame: Fraction, made: bool) -> Iterator[str]:
    """A shot on the spine: its clip, after a dissolve if it begins smoothly. If the film is `made` it is a part of
    that."""
    if shot.continues:
        fade = 2 * max(1, round(Fraction(1, 4) / frame)) * frame
        yield f'<transition name="{_DISSOLVE}" offset="{_time(offset - fade / 2)}" duration="{_time(fade)}"/>'
    start = _time(offset if made else Fraction(0))
    inside = f"<note>{_xml(shot.prompt)}</note>"
    if shot.subtitle:
        value = quoteattr(_plain(shot.subtitle))
        inside += f'<chapter-marker start="{start}" duration="{_time(frame)}" value={value}/>'
    if shot.recalls:
        value = quoteattr(f"{_RECALL}{shot.recall or AUTO}")
        inside += f'<marker start="{start}" duration="{_time(frame)}" value={value}/>'
    tag, media = ("asset-clip", f' ref="r2" start="{start}"') if made else ("clip", "")
    yield (f'<{tag} name={quoteattr(_plain(name))}{media} offset="{_time(offset)}" duration="{_time(length)}" '
           f'format="r1" tcFormat="NDF">{inside}</{tag}>')


def _time(seconds: Fraction) -> str:
    return f"{seconds.numerator}/{seconds.denominator}s" if seconds.denominator > 1 else f"{seconds.numerator}s"


def _plain(text: str) -> str:
    """Without the characters that XML cannot hold."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "", text)


def _xml(text: str) -> str:
    return escape(_plain(text))
