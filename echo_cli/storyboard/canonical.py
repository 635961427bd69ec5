"""A storyboard in canonical form: one spelling for everything, and every value that was read.

The result is itself a storyboard, and its hash identifies the film: comments, key order and spelling do not change it.
"""

import hashlib
import json
from typing import Any

from echo_cli.storyboard.nouns import CENTRE, SOUNDTRACK, VERSION, Continued, Fit, Kind, Opening, Scene, Storyboard

_CHOSEN = ("seed", "model", "memory", "size")  # what an option of a film decides as well


def canonical(storyboard: Storyboard) -> dict[str, Any]:
    """The storyboard as plain JSON values, without what its author left out. Prompts include the style."""
    memory = {"policy": storyboard.policy, **storyboard.memory}
    return _given({
        "version": VERSION,
        "title": storyboard.title,
        "language": storyboard.language,
        "seed": storyboard.seed or 0,
        "model": storyboard.model,
        "memory": _given(memory) or None,
        "size": _size(storyboard.size),
        "fps": storyboard.fps,
        "timing": storyboard.timing.value,
        "series": [series.path for series in storyboard.series] or None,
        "keep_scenes": list(storyboard.kept) or None,
        "continue": _continued(storyboard.continued),
        "scenes": [scene_values(scene) for scene in storyboard.scenes],
    })


def _size(size: tuple[int, int] | str | None) -> str | None:
    return size if size is None or isinstance(size, str) else "x".join(map(str, size))


def transition_name(scene: Scene) -> str | None:
    """`smooth`, `hard cut`, `recall:rooftop`; None for the first scene."""
    kind = scene.transition
    if not isinstance(kind, Kind):
        return kind  # a program may write it as a file does
    return f"{kind.value}:{scene.recall}" if kind.targeted else kind.value


def storyboard_hash(storyboard: Storyboard) -> str:
    """sha256 of the canonical form."""
    return _hash(canonical(storyboard))


def story_hash(storyboard: Storyboard) -> str:
    """sha256 of the canonical form without what a command line may say in the storyboard's place."""
    return _hash({key: value for key, value in canonical(storyboard).items() if key not in _CHOSEN})


def _hash(values: dict[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def scene_values(scene: Scene) -> dict[str, Any]:
    """A scene as plain JSON values."""
    return _given({
        "id": scene.id,
        "prompt": scene.prompt,
        "duration": scene.seconds,
        "transition": transition_name(scene),
        "subtitle": scene.subtitle,
        "seed": scene.seed,
        "memory": dict(scene.memory) or None,
        **_opening(scene.opening),
        SOUNDTRACK: scene.soundtrack,
    })


def _continued(continued: Continued | None) -> Any:
    if continued is None or continued.state:
        return continued and continued.path
    return {"film": continued.path, "state": False}


def _opening(opening: Opening | None) -> dict[str, Any]:
    if opening is None:
        return {}
    focus = None if opening.focus == CENTRE else list(opening.focus)
    return {opening.what: opening.path, "fit": None if opening.fit is Fit.COVER else str(opening.fit), "focus": focus,
            "from": opening.begins, "for": opening.seconds}


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}
