"""Daydream Scope's timelines: version 2.0 with `prompts`, and the newer workflow with `timeline.entries`.

Scope blends prompts by weight; a storyboard has one prompt a scene, so the strongest stays or all are joined.
"""

import json
from collections.abc import Sequence
from fractions import Fraction

from echo_cli.formats.cut import Cut, Note, Shot, lost, starts_of
from echo_cli.formats.jsons import Value
from echo_cli.storyboard.nouns import Kind
from echo_cli.storyboard.sizes import LARGEST

_GAP = Fraction(1, 20)  # seconds between entries that a person did not mean


def is_ours(value: Value) -> bool:
    """Whether the file is one of the two versions."""
    if value.has("timeline") and Value(value.value["timeline"], "", "").has("entries"):
        return True
    prompts = value.value.get("prompts") if isinstance(value.value, dict) else None
    return isinstance(prompts, list) and any(isinstance(entry, dict) and "startTime" in entry for entry in prompts)


def read(value: Value, join: bool) -> list[Cut]:
    """The one film of a timeline; `join` puts blended prompts into one sentence instead of keeping the strongest."""
    newer = value.has("timeline")
    entries = list((value["timeline"]["entries"] if newer else value["prompts"]).items())
    if not entries:
        raise value.fail("the timeline has no entries")
    notes: list[Note] = []
    spans = sorted((_span(entry) for entry in entries), key=lambda span: span[0])
    shots = []
    for index, (start, end, entry) in enumerate(spans):
        following = spans[index + 1][0] if index + 1 < len(spans) else end
        if index == 0 and start > _GAP:
            notes.append(Note(entry.place, f"{float(start):g} s before the first prompt"))
        if following > end + _GAP:
            notes.append(
                Note(entry.place, f"{float(following - end):g} s without a prompt; the scene lasts until the next")
            )
        if following < end - _GAP:
            notes.append(Note(entry.place, f"{float(end - following):g} s that overlap the next entry"))
        if following <= start:
            raise entry.fail("begins no earlier than the entry after it")
        shots.append(Shot(_prompt(entry, join, notes), following - start, _kind(entry, index)))
        notes += [
            Note(entry.place, key)
            for key in ("temporal_interpolation_method", "loras", "negative_prompt")
            if entry.has(key) and entry.value[key]
        ]
    return [_film(shots, value, notes)]


def _film(shots: Sequence[Shot], value: Value, notes: list[Note]) -> Cut:
    settings = value["settings"] if value.has("settings") else Value({}, "settings", value.source)
    size = None
    if settings.has("resolution"):
        width, height = (_side(settings["resolution"][side]) for side in ("width", "height"))
        size = (width, height)
    seed = settings.first("seed", "baseSeed").number() if settings.has("seed") or settings.has("baseSeed") else None
    known = {"resolution", "seed", "baseSeed"}
    if isinstance(settings.value, dict):
        notes += [
            Note(f"settings.{key}", json.dumps(settings.value[key])[:60]) for key in settings.value if key not in known
        ]
    title = value["name"].text() if value.has("name") else None
    return Cut(tuple(shots), title=title, seed=None if seed is None else int(abs(seed)), size=size, notes=tuple(notes))


def _side(value: Value) -> int:
    pixels = value.number()
    if not 1 <= pixels <= LARGEST:
        raise value.fail(f"is {float(pixels):g}, which is not a number of pixels")
    return int(pixels)


def _span(entry: Value) -> tuple[Fraction, Fraction, Value]:
    start, end = entry.first("startTime", "start_time").number(), entry.first("endTime", "end_time").number()
    if start < 0 or end <= start:
        raise entry.fail(f"lasts from {float(start):g} to {float(end):g} s")
    return start, end, entry


def _kind(entry: Value, index: int) -> Kind | None:
    """An entry of no transition steps changes at once."""
    steps = entry.value.get("transition_steps") if isinstance(entry.value, dict) else None
    return None if index == 0 else Kind.HARD_CUT if steps == 0 else Kind.SMOOTH


def _prompt(entry: Value, join: bool, notes: list[Note]) -> str:
    if entry.has("text") and not entry.has("prompts"):
        return _said(entry["text"])
    prompts = [(_weight(one), _said(one["text"])) for one in entry["prompts"].items()]
    if not prompts:
        raise entry.fail("has no prompt")
    if len(prompts) == 1:
        return prompts[0][1]
    if join:
        return ". ".join(text.rstrip(". ") for _, text in sorted(prompts, key=lambda pair: -pair[0]))
    strongest = max(prompts, key=lambda pair: pair[0])
    notes += [
        Note(entry.place, f"the prompt of weight {float(weight):g}: {text}")
        for weight, text in prompts
        if (weight, text) != strongest
    ]
    return strongest[1]


def _weight(one: Value) -> Fraction:
    return one["weight"].number() if one.has("weight") else Fraction(100)


def _said(value: Value) -> str:
    text = value.text().strip()
    if not text:
        raise value.fail("is empty")
    return text


def write(cut: Cut) -> tuple[str, list[Note]]:
    """Version 2.0, one prompt an entry."""
    times = [float(time) for time in starts_of(cut.shots)]
    entries = [
        {"startTime": begins, "endTime": ends, "prompts": [{"text": shot.prompt, "weight": 100}]}
        for shot, begins, ends in zip(cut.shots, times, times[1:], strict=False)
    ]
    settings: dict[str, object] = {}
    if cut.size:
        settings["resolution"] = {"height": cut.size[1], "width": cut.size[0]}
    if cut.seed is not None:
        settings["seed"] = cut.seed
    left = lost(cut, "title", "fps") + [
        Note(f"scene '{name}'", f"its {what}")
        for name, shot in zip(cut.ids, cut.shots, strict=True)
        for what in (
            (None if shot.continues else shot.kind),
            "subtitle" if shot.subtitle else None,
        )
        if what
    ]
    text = json.dumps({"prompts": entries, "settings": settings, "version": "2.0"}, ensure_ascii=False, indent=2)
    return text + "\n", left
