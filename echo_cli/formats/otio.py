"""OpenTimelineIO: the shots of the first video track, in order. Plain JSON, so that no library is needed.

A clip's prompt travels in `metadata.echo`; without one, its name is the prompt. A dissolve is a smooth change, a cut a
hard cut; a recall is a marker that names its source.
"""

import json
import re
from fractions import Fraction
from typing import Any

from echo_cli.formats.cut import MOST_SHOTS, Cut, Note, Shot, starts_of
from echo_cli.formats.jsons import Value
from echo_cli.storyboard.durations import LONGEST
from echo_cli.storyboard.nouns import Kind
from echo_cli.storyboard.sizes import LARGEST

RATE = 16  # frames a second of what we write, when the film has no rate of its own
_DISSOLVE = "SMPTE_Dissolve"
_CLIP = "Clip.2"  # what we write
_RECALL = "recall:"  # how the marker of a recall begins
_PLAIN_NAME = re.compile(r"\.(mov|mp4|mxf|avi|mkv|png|jpe?g|exr|wav)$", re.IGNORECASE)


def is_ours(value: Value) -> bool:
    schema = value.value.get("OTIO_SCHEMA") if isinstance(value.value, dict) else None
    return isinstance(schema, str) and schema.split(".")[0] in ("Timeline", "SerializableCollection")


def read(value: Value) -> list[Cut]:
    """The first video track of each timeline."""
    if value["OTIO_SCHEMA"].text().startswith("SerializableCollection"):
        inside = [one for one in value["children"].items() if is_ours(one)]
        if not inside:
            raise value.fail("no timeline is in this collection")
        return [cut for one in inside for cut in read(one)]
    tracks = list(value["tracks"]["children"].items())
    video = [track for track in tracks if not track.has("kind") or track.value["kind"] == "Video"]
    if not video:
        raise value.fail("there is no video track")
    notes = [Note(track.place, "a track beside the first video track") for track in tracks if track is not video[0]]
    title = value.value.get("name")
    about = _ours(value)
    return [
        Cut(
            tuple(_shots(video[0], notes)),
            title=title if isinstance(title, str) and title else None,
            notes=tuple(notes),
            fps=_plain_number(about.get("fps")),
            seed=_plain_whole(about.get("seed")),
            size=_plain_size(about.get("size")),
        )
    ]


def _shots(track: Value, notes: list[Note]) -> list[Shot]:
    shots: list[Shot] = []
    dissolve = False
    for item in track["children"].items():
        schema = item["OTIO_SCHEMA"].text().split(".")[0]
        if schema == "Transition":
            dissolve = True
            if (kind := item.value.get("transition_type")) not in (_DISSOLVE, None):
                notes.append(Note(item.place, f"the transition '{kind}'; it is read as a dissolve"))
            continue
        seconds = _seconds(item)
        if schema == "Gap" or item.value.get("enabled") is False:
            what = "a gap" if schema == "Gap" else "a disabled clip"
            notes.append(Note(item.place, f"{what} of {float(seconds):g} s"))
        else:
            if schema not in ("Clip", "Stack", "Track"):
                notes.append(Note(item.place, f"'{schema}' is read as a clip"))
            shots.append(_shot(item, seconds, Kind.SMOOTH if dissolve else Kind.HARD_CUT, bool(shots), notes))
        dissolve = False
    return _checked(shots, track)


def _shot(item: Value, seconds: Fraction, kind: Kind, follows: bool, notes: list[Note]) -> Shot:
    name = item.value.get("name")
    name = name if isinstance(name, str) else ""
    about = _ours(item)
    prompt, recall, subtitle = (about.get(key) for key in ("prompt", "recall", "subtitle"))
    if not isinstance(prompt, str) or not prompt.strip():
        prompt = name = _PLAIN_NAME.sub("", name).strip()
        if not prompt:
            raise item.fail("a clip with neither a name nor a prompt in metadata.echo")
        notes.append(Note(item.place, "no prompt in metadata.echo; the clip's name is the prompt"))
    if isinstance(recall, str) and recall:
        kind = Kind.RECALL
    if item.has("effects") and item.value["effects"]:
        notes.append(Note(item.place, "effects"))
    notes += [Note(marker.place, f"the marker '{marker.value.get('name', '')}'") for marker in _markers(item)]
    return Shot(
        prompt.strip(),
        seconds,
        kind if follows else None,
        recall if follows and kind.targeted else None,
        subtitle if isinstance(subtitle, str) else None,
        name or None,
    )


def _markers(item: Value) -> list[Value]:
    """Those that do not stand for a recall."""
    markers = item.value.get("markers")
    return [marker for marker in (item["markers"].items() if isinstance(markers, list) else ())
            if isinstance(marker.value, dict) and not str(marker.value.get("name")).startswith(_RECALL)]


def _ours(item: Value) -> dict[str, Any]:
    metadata = item.value.get("metadata") if isinstance(item.value, dict) else None
    about = metadata.get("echo") if isinstance(metadata, dict) else None
    return about if isinstance(about, dict) else {}


def _seconds(item: Value) -> Fraction:
    span = item["source_range"] if item.has("source_range") and item.value["source_range"] else None
    if span is None:
        span = item["media_reference"]["available_range"]
    duration = span["duration"]
    value, rate = duration["value"].number(), duration["rate"].number()
    if rate <= 0 or not 0 < value / rate <= LONGEST:
        raise item.fail(f"lasts {float(value):g} at a rate of {float(rate):g}")
    return value / rate


def _checked(shots: list[Shot], where: Value) -> list[Shot]:
    if not shots or len(shots) > MOST_SHOTS:
        raise where.fail("has no clip" if not shots else f"has more than {MOST_SHOTS:,} clips")
    return shots


def _plain_number(value: Any) -> float | None:
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= 240 else None
    )


def _plain_whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _plain_size(value: Any) -> tuple[int, int] | None:
    sides = list(map(_plain_whole, value)) if isinstance(value, list) and len(value) == 2 else []
    return (value[0], value[1]) if sides and all(side and side <= LARGEST for side in sides) else None


def write(cut: Cut) -> tuple[str, list[Note]]:
    """A timeline with one video track, and one of sound beside it if the film that was made has any."""
    rate = cut.fps or RATE
    children: list[dict[str, Any]] = []
    times = starts_of(cut.shots)
    media = _media(cut.film, times[-1], rate)
    for name, shot, begins in zip(cut.ids, cut.shots, times, strict=False):
        if shot.continues:
            edge = _time(Fraction(1, 4), rate)
            children.append({"OTIO_SCHEMA": "Transition.1", "name": "", "metadata": {},
                             "transition_type": _DISSOLVE, "in_offset": edge, "out_offset": edge})
        children.append(_clip(name, shot, begins if cut.film else Fraction(0), rate, media))
    tracks = [_track("Video", children)]
    if cut.sound:
        tracks.append(_track("Audio", [child for child in children if child["OTIO_SCHEMA"] == _CLIP]))
    timeline = {
        "OTIO_SCHEMA": "Timeline.1",
        "name": cut.title or "",
        "metadata": _metadata(fps=cut.fps, seed=cut.seed, size=list(cut.size) if cut.size else None),
        "global_start_time": None,
        "tracks": {"OTIO_SCHEMA": "Stack.1", "name": "tracks", **_composition(tracks)},
    }
    return json.dumps(timeline, ensure_ascii=False, indent=2) + "\n", []


def _track(kind: str, children: list[dict[str, Any]]) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "Track.1", "name": "film", "kind": kind, **_composition(children)}


def _composition(children: list[dict[str, Any]]) -> dict[str, Any]:
    return {"metadata": {}, "source_range": None, "effects": [], "markers": [], "enabled": True, "children": children}


def _metadata(**facts: Any) -> dict[str, Any]:
    """Metadata under a name of our own: what OTIO has no place for."""
    return {"echo": {key: value for key, value in facts.items() if value is not None}}


def _media(film: str | None, seconds: Fraction, rate: float) -> dict[str, Any]:
    """The film as the media that clips are parts of, if it is made."""
    if film is None:
        return {"OTIO_SCHEMA": "MissingReference.1", "name": "", "metadata": {}, "available_range": None,
                "available_image_bounds": None}
    return {"OTIO_SCHEMA": "ExternalReference.1", "name": "", "metadata": {}, "target_url": film,
            "available_range": _span(Fraction(0), seconds, rate), "available_image_bounds": None}


def _clip(name: str, shot: Shot, begins: Fraction, rate: float, media: dict[str, Any]) -> dict[str, Any]:
    return {
        "OTIO_SCHEMA": _CLIP,
        "name": name,
        "enabled": True,
        "source_range": _span(begins, shot.seconds, rate),
        "effects": [],
        "markers": [_marker(shot.recall, begins, rate)] if shot.recall else [],
        "metadata": _metadata(prompt=shot.prompt, transition=str(shot.kind) if shot.kind else None, recall=shot.recall,
                          subtitle=shot.subtitle),
        "media_references": {"DEFAULT_MEDIA": media},
        "active_media_reference_key": "DEFAULT_MEDIA",
    }


def _marker(recall: str, begins: Fraction, rate: float) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "Marker.2", "name": f"{_RECALL}{recall}", "metadata": {}, "color": "PURPLE", "comment": "",
            "marked_range": _span(begins, Fraction(0), rate)}


def _span(begins: Fraction, seconds: Fraction, rate: float) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "TimeRange.1", "start_time": _time(begins, rate), "duration": _time(seconds, rate)}


def _time(seconds: Fraction, rate: float) -> dict[str, Any]:
    return {"OTIO_SCHEMA": "RationalTime.1", "rate": float(rate), "value": float(seconds * Fraction(repr(rate)))}
