"""The one-line prompt format of the reference implementation, read as it reads it.

`first prompt[10s] | second prompt[10s#] | third[5s@]; subtitle | subtitle`: the mark of a scene says how the *next* one
begins; the last mark has no meaning. Subtitles and everything else in a storyboard are not known here. Each scene
is rounded down to whole blocks on its own; `timeline` rounds better.
"""

import math
import re
from dataclasses import dataclass

from echo_cli.storyboard.nouns import AUTO, Geometry, Kind, Scene

_MARK = re.compile(r"\[([0-9]+(?:[.][0-9]+)?)\s*s(#|@)?\]")
_KINDS = {kind.mark: kind for kind in Kind}
UNTIMED_BLOCKS = 21  # of a scene without a duration


@dataclass(frozen=True, slots=True)
class ReferenceScene:
    """A prompt, its seconds if it has any, and how the scene after it begins."""

    prompt: str
    seconds: float | None
    leads_to: Kind

    def blocks(self, geometry: Geometry) -> int:
        if self.seconds is None:
            return UNTIMED_BLOCKS
        return blocks_rounded_down(self.seconds, geometry)


def blocks_rounded_down(seconds: float, geometry: Geometry) -> int:
    """Whole blocks in a scene taken by itself, one at least."""
    return max(1, math.floor(seconds * geometry.fps / geometry.block_pictures))


def parse_reference(text: str) -> list[ReferenceScene]:
    """The scenes of a reference prompt, in order; empty parts are dropped."""
    parts = [part.strip() for part in text.split(";", 1)[0].split("|")]
    return [_scene(part) for part in parts if part]


def _scene(part: str) -> ReferenceScene:
    match = _MARK.search(part)
    seconds, mark = (float(match[1]), match[2] or "") if match else (None, "")
    return ReferenceScene(_MARK.sub("", part).strip(), seconds, _KINDS[mark])


def total_seconds(scenes: list[ReferenceScene]) -> float | None:
    """The film's length; None as soon as one scene has no duration."""
    seconds = [scene.seconds for scene in scenes if scene.seconds is not None]
    return sum(seconds) if seconds and len(seconds) == len(scenes) else None


def latent_frames(seconds: float, geometry: Geometry) -> int:
    """Latent frames of a film of `seconds`, rounded up to whole blocks; they may exceed what the scenes ask for."""
    frames = int(seconds * geometry.fps) // geometry.frame_pictures
    return -(-frames // geometry.block_frames) * geometry.block_frames


def scenes_of(text: str, geometry: Geometry) -> list[Scene]:
    """The same film in the nouns of a storyboard; a scene without a duration lasts its 21 blocks."""
    parsed = parse_reference(text)
    begins = [None, *(scene.leads_to for scene in parsed[:-1])]
    return [
        Scene(
            id=f"scene-{number}",
            prompt=scene.prompt,
            seconds=scene.blocks(geometry) * geometry.block_pictures / geometry.fps
            if scene.seconds is None
            else scene.seconds,
            transition=kind,
            recall=AUTO if kind and kind.targeted else None,
        )
        for number, (scene, kind) in enumerate(zip(parsed, begins, strict=True), start=1)
    ]
