"""Deforum's settings files: prompts by frame, in a JSON object among a hundred settings of the image generator.

The camera moves by curves of its own, which a storyboard cannot express; `schedules` reads prompts and frames.
"""

import re
from fractions import Fraction

from echo_cli.formats import schedules
from echo_cli.formats.cut import Cut, Note
from echo_cli.formats.jsons import Value, read_json
from echo_cli.storyboard.nouns import SEEDS
from echo_cli.storyboard.sizes import LARGEST
from echo_cli.text import listed

_PROMPTS = ("prompts", "animation_prompts")
_READ = (*_PROMPTS, "animation_prompts_positive", "animation_prompts_negative", "max_frames", "fps", "W", "H", "seed")
_CAMERA = {  # where the camera stands still
    **dict.fromkeys(("angle", "translation_x", "translation_y", "translation_z"), 0.0),
    **dict.fromkeys(("rotation_3d_x", "rotation_3d_y", "rotation_3d_z"), 0.0),
    **dict.fromkeys(("transform_center_x", "transform_center_y"), 0.5),
    "zoom": 1.0,
}
_STILL = re.compile(r"0\s*:\s*\(?\s*(-?\d+(?:\.\d*)?)\s*\)?")


def is_ours(value: Value) -> bool:
    """Whether a JSON value is an object with prompts by frame in it."""
    return any(value.has(key) and isinstance(value.value[key], dict | str) for key in _PROMPTS)


def read(value: Value, fps: float | None = None, frames: int | None = None) -> list[Cut]:
    """The one film of a settings file; `fps` and `frames` outrank what it says itself."""
    begins, negative = (_text(value, f"animation_prompts_{kind}") for kind in ("positive", "negative"))
    pairs = [(key, f"{begins} {prompt}", value.line) for key, prompt in _prompts(value)]
    rate = fps or float(_number(value, "fps", 1, 240) or schedules.RATE)
    cut = schedules.film(pairs, value.source, rate, frames or int(_number(value, "max_frames", 1, 10**9) or 0) or None)
    notes = [*cut.notes, *_camera(value)]
    if value.has("fps"):
        notes.append(Note("fps", f"the frame rate of {rate:g}; frames are counted by it, and the film has the model's"))
    if negative:
        notes.append(Note("animation_prompts_negative", f"the negative prompt: {negative}"))
    if others := [key for key in value.value if key not in (*_READ, *_CAMERA)]:
        notes.append(Note("the settings", f"{len(others)} of the image generator: {listed(others)}"))
    sides = [_number(value, side, 1, LARGEST) for side in ("W", "H")]
    seed = _number(value, "seed", *SEEDS)  # -1 is any
    return [Cut(cut.shots, seed=None if seed is None else int(seed), notes=tuple(notes),
                size=(int(sides[0]), int(sides[1])) if sides[0] and sides[1] else None)]


def _prompts(value: Value) -> list[tuple[str, str]]:
    entries = value.first(*_PROMPTS)
    if isinstance(entries.value, str):
        entries = read_json(entries.value, value.source)
    if not isinstance(entries.value, dict) or not entries.value:
        raise entries.fail("should be an object of prompts by frame")
    return [(key, entries[key].text()) for key in entries.value]


def _camera(value: Value) -> list[Note]:
    """The curves along which the camera moves."""
    curves = [(key, str(value.value[key]).strip()) for key in _CAMERA if value.has(key)]
    return [Note(key, f"the camera's curve {curve}") for key, curve in curves
            if not ((still := _STILL.fullmatch(curve)) and float(still[1]) == _CAMERA[key])]


def _text(value: Value, key: str) -> str:
    return " ".join(value[key].text().split()) if value.has(key) and value.value[key] else ""


def _number(value: Value, key: str, least: int, most: int) -> Fraction | None:
    """The number at a key; None where it is absent or stands for something else, as a seed of -1 does."""
    number = value.value.get(key)
    fits = isinstance(number, int | float) and not isinstance(number, bool) and least <= number <= most
    return Fraction(repr(number)) if fits else None
