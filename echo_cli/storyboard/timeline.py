"""Seconds → blocks and pictures: a Storyboard and a model's Geometry become a Timeline.

Every boundary is rounded from the film's beginning, so that rounding errors never add up, and the last pictures are
trimmed to the exact length. Knows counts, not models.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise

from echo_cli.storyboard.durations import describe, exact
from echo_cli.storyboard.mistakes import Mark, Mistake, StoryboardError
from echo_cli.storyboard.nouns import (
    Geometry,
    Scene,
    SceneSpan,
    Storyboard,
    Timeline,
    Timing,
    blocks_of,
    timeline_of,
)
from echo_cli.storyboard.reference import blocks_rounded_down, latent_frames

_HALF = Fraction(1, 2)
MOST_BLOCKS = 1_000_000  # of a film; a week at 16 pictures a second has 806,401


def timeline(storyboard: Storyboard, geometry: Geometry) -> Timeline:
    """The film, block by block; the storyboard's own fps, if it has one, replaces the model's."""
    geometry = beginning(storyboard, geometry.at(storyboard.fps))
    if problem := too_long(storyboard.scenes, geometry):
        place = Mark(storyboard.scenes[0].line, storyboard.scenes[0].column)
        raise StoryboardError(storyboard.source, [Mistake(place, problem)])
    if storyboard.timing is Timing.REFERENCE:
        return replace(_as_the_reference(storyboard.scenes, geometry), past=storyboard.past)
    marks = edges(storyboard.scenes, geometry)
    mistakes = [Mistake(Mark(storyboard.scenes[index].line, storyboard.scenes[index].column),
                        f"scene '{storyboard.scenes[index].id}': {message}")
                for index, message in too_short(marks, storyboard.scenes, geometry)]
    if mistakes:
        raise StoryboardError(storyboard.source, mistakes)
    times = [Fraction(0), *_ends(storyboard.scenes)]
    pictures = _pictures(times[-1], geometry)
    first = [geometry.pictures(edge * geometry.block_frames) for edge in marks]
    first[-1] = pictures
    spans = tuple(
        SceneSpan(scene, range(*blocks), range(*shown), (float(asked[0]), float(asked[1])))
        for scene, blocks, shown, asked in zip(storyboard.scenes, pairwise(marks), pairwise(first), pairwise(times),
                                               strict=True)
    )
    counts = [len(span.blocks) for span in spans]
    return Timeline(spans, blocks_of(counts, geometry.block_frames), pictures, geometry, storyboard.past)


def beginning(storyboard: Storyboard, geometry: Geometry) -> Geometry:
    """The geometry of a film that may continue another: after the last block of that one, with those of its pictures
    that were not shown, or with as many of its last frames as memory takes, in whole blocks if it has so many."""
    continued = storyboard.continued
    if continued is None:
        return geometry
    if continued.earlier:
        return replace(geometry, ahead=continued.earlier.surplus, drift=continued.earlier.drift)
    frames = geometry.past
    if continued.seconds is not None:
        there = (_pictures(exact(continued.seconds), geometry) - 1) // geometry.frame_pictures + 1
        frames = max(1, min(frames, there))
    if frames > geometry.block_frames:
        frames -= frames % geometry.block_frames
    return replace(geometry, ahead=-frames * geometry.frame_pictures)


def joined(film: Timeline, storyboard: Storyboard) -> Timeline:
    """A film and the one that it continues as one, whose first part is made already: its memory knows them so."""
    continued, earlier = storyboard.continued, storyboard.earlier
    if continued is None or earlier is None:
        return film
    series = {scene.name for each in storyboard.series for scene in each.scenes}
    own = [replace(scene, recall=scene.recall.removeprefix(f"{continued.name}/"))
           if scene.recall and scene.recall not in series else scene for scene in film.scenes]
    counts = [*earlier.counts, *(len(span.blocks) for span in film.spans)]
    made = timeline_of([*earlier.scenes, *own], counts, replace(film.geometry, ahead=None, drift=Fraction(0)))
    first = len(earlier.scenes)
    past = film.past[:-first]
    gone = {number for number, scene in enumerate(past, -len(past)) if scene.name not in series}
    return replace(made, past=past, first=first, gone=frozenset(range(first)) - earlier.kept | gone)


def edges(scenes: Sequence[Scene], geometry: Geometry) -> list[int]:
    """The block at which each scene begins, and the number of blocks in all: the nearest to what was asked.

    Block b > 0 begins at picture b * block_pictures + offset.
    """
    offset, size, rate = geometry.offset, geometry.block_pictures, exact(geometry.fps)
    *inner, end = _ends(scenes)
    starts = [math.floor(((time + geometry.drift) * rate - offset) / size + _HALF) for time in inner]
    return [0, *starts, -((offset - _pictures(end, geometry)) // size)]


def too_long(scenes: Sequence[Scene], geometry: Geometry) -> str | None:
    """Why a film cannot have so many blocks; None when it can."""
    blocks = _pictures(_ends(scenes)[-1], geometry) // geometry.block_pictures
    if blocks <= MOST_BLOCKS:
        return None
    return (f"the film would have {blocks:,} blocks of {describe(geometry.block_pictures / geometry.fps)}, and "
            f"{MOST_BLOCKS:,} is the most; make it shorter, or lower its fps")


def too_short(marks: Sequence[int], scenes: Sequence[Scene], geometry: Geometry) -> Iterator[tuple[int, str]]:
    """(scene, why) for each scene that would have no block or no picture of its own."""
    least = describe(geometry.block_pictures / geometry.fps)
    past = geometry.shown_before // geometry.block_frames
    for index, (begin, end) in enumerate(pairwise(marks)):
        if end <= max(begin, past):
            yield index, (f"{describe(scenes[index].seconds)} is too short to be shown here: the film is rendered in "
                          f"blocks of {least} and it would get none; give it at least {least}")
    if _pictures(_ends(scenes)[-1], geometry) < 1:
        yield 0, f"the film is shorter than one picture ({describe(1 / geometry.fps)})"


def _ends(scenes: Sequence[Scene]) -> list[Fraction]:
    return list(accumulate(exact(scene.seconds) for scene in scenes))


def _pictures(seconds: Fraction, geometry: Geometry) -> int:
    return math.floor((seconds + geometry.drift) * exact(geometry.fps) + _HALF)


def _as_the_reference(scenes: Sequence[Scene], geometry: Geometry) -> Timeline:
    """Each scene rounded down on its own; the remainder of the length goes to the last; nothing is trimmed."""
    counts = [blocks_rounded_down(scene.seconds, geometry) for scene in scenes]
    counts[0] += geometry.shown_before // geometry.block_frames
    total = latent_frames(math.fsum(scene.seconds for scene in scenes), geometry) // geometry.block_frames
    total += geometry.shown_before // geometry.block_frames
    counts[-1] += max(0, total - sum(counts))
    made = timeline_of(list(scenes), counts, geometry)
    times = [0.0, *map(float, _ends(scenes))]
    spans = tuple(SceneSpan(span.scene, span.blocks, span.pictures, asked)
                  for span, asked in zip(made.spans, pairwise(times), strict=True))
    return Timeline(spans, made.blocks, made.pictures, geometry)
