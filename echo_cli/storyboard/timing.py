"""How long each scene lasts, from durations or from `at`: one way for the whole storyboard, without contradictions.

Knows exact seconds and the places where they were written; blocks and pictures are the business of `timeline`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from echo_cli.storyboard.durations import LONGEST, describe
from echo_cli.storyboard.fields import Fields
from echo_cli.storyboard.mistakes import Mark, Mistakes


@dataclass(frozen=True, slots=True)
class Given:
    """A time that was written at `mark`; None when it could not be understood, which has been noted."""

    seconds: Fraction | None
    mark: Mark


@dataclass(frozen=True, slots=True)
class Asked:
    """The times that a scene gives."""

    scene: Fields
    at: Given | None
    duration: Given | None


def resolve(scenes: Sequence[Asked], length: Given | None, mistakes: Mistakes) -> list[Fraction] | None:
    """Every scene's seconds; None when they cannot be determined; the reasons are noted."""
    before = mistakes.count
    unread = any(given is not None and given.seconds is None
                 for given in (length, *(time for scene in scenes for time in (scene.at, scene.duration))))
    by_at = any(scene.at is not None for scene in scenes)
    times = _from_ats(scenes, length) if by_at else _from_durations(scenes, length)
    if unread or times is None or mistakes.count > before:
        return None
    if sum(times) > LONGEST:
        mark = length.mark if length else scenes[-1].scene.mark
        mistakes.note(mark, f"the film would last {describe(sum(times))}; the most is {describe(LONGEST)}")
        return None
    return times


def _from_durations(scenes: Sequence[Asked], length: Given | None) -> list[Fraction] | None:
    times = [scene.duration.seconds if scene.duration else None for scene in scenes]
    last = scenes[-1]
    for scene in scenes[:-1] if length else scenes:
        if scene.duration is None:
            scene.scene.note("duration", "how long does it last? Add 'duration: 10s', or an 'at' to every scene")
    known = _all(times if last.duration else times[:-1])
    if length is None or length.seconds is None or known is None:
        return _all(times)
    total = sum(known, Fraction(0))
    if last.duration is None:
        if total >= length.seconds:
            last.scene.note("duration", f"no time is left: length (line {length.mark.line}) is "
                            f"{describe(length.seconds)}, the scenes before take {describe(total)}")
        return [*known, length.seconds - total]
    if total != length.seconds:
        last.scene.mistakes.note(length.mark, f"length is {describe(length.seconds)}, but the scenes last "
                                 f"{describe(total)} (the last duration is on line {last.duration.mark.line}); "
                                 "leave one of them out")
    return known


def _all(times: Sequence[Fraction | None]) -> list[Fraction] | None:
    """The times, or None if any of them is missing."""
    known = [time for time in times if time is not None]
    return known if len(known) == len(times) else None


def _from_ats(scenes: Sequence[Asked], length: Given | None) -> list[Fraction] | None:
    _refuse_mixtures(scenes)
    first, last = scenes[0], scenes[-1]
    if first.at and first.at.seconds:
        first.scene.note("at", f"the first scene begins at 0, not at {describe(first.at.seconds)}")
    starts = [Fraction(0), *(scene.at.seconds if scene.at else None for scene in scenes[1:])]
    for earlier, scene, start, end in zip(scenes, scenes[1:], starts, starts[1:], strict=False):
        if start is not None and end is not None and end <= start:
            line = earlier.at.mark.line if earlier.at else earlier.scene.mark.line
            scene.scene.note("at", f"at {describe(end)} is not later than the scene before, which begins at "
                             f"{describe(start)} (line {line})")
    end = _end(last, starts[-1], length)
    known = _all(starts)
    if end is None or known is None:
        return None
    return [later - earlier for earlier, later in zip(known, [*known[1:], end], strict=True)]


def _refuse_mixtures(scenes: Sequence[Asked]) -> None:
    line = next(scene.at.mark.line for scene in scenes if scene.at)
    for number, scene in enumerate(scenes):
        is_last = number == len(scenes) - 1
        if scene.at and scene.duration and not is_last:
            scene.scene.note("duration", f"has both 'at' (line {scene.at.mark.line}) and 'duration' (line "
                             f"{scene.duration.mark.line}); it lasts until the next scene's 'at', so leave one out")
        elif scene.duration and not scene.at:
            scene.scene.note("duration", f"has a 'duration' (line {scene.duration.mark.line}), but another scene has "
                             f"an 'at' (line {line}); use one of the two throughout")
        elif not scene.at and number > 0:
            scene.scene.note("at", f"has no 'at', but the scene on line {line} has; use 'at' or 'duration' throughout")


def _end(last: Asked, start: Fraction | None, length: Given | None) -> Fraction | None:
    """When the film ends, from the last scene's duration or the storyboard's length."""
    if last.duration is None and length is None:
        last.scene.note("duration", "when does it end? Give the last scene a 'duration', or the storyboard a 'length'")
        return None
    by_duration = last.duration.seconds if last.duration else None
    by_length = length.seconds if length else None
    if start is None or (by_duration is None and by_length is None):
        return None
    if by_length is not None and length is not None:
        if by_length <= start:
            at = last.at.mark.line if last.at else last.scene.mark.line
            last.scene.mistakes.note(length.mark, f"length is {describe(by_length)}, but the last scene begins only at "
                                     f"{describe(start)} (line {at})")
        elif by_duration is not None and last.duration is not None and start + by_duration != by_length:
            last.scene.mistakes.note(length.mark, f"length is {describe(by_length)}, but the last scene ends at "
                                     f"{describe(start + by_duration)} (duration on line {last.duration.mark.line}); "
                                     "leave one of them out")
    return start + by_duration if by_duration is not None else by_length
