"""What a storyboard says of the film that it continues, under `continue`.

Knows keys and their places; the rules say what is in the files.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from yaml.nodes import MappingNode

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.storyboard.document import short
from echo_cli.storyboard.fields import Fields, fields_of
from echo_cli.storyboard.nouns import CLIP, CONTINUE, PICTURE, Continued, Kind, Series, Storyboard, beside, kind_named
from echo_cli.storyboard.openings import ADDRESS
from echo_cli.storyboard.rules import Rules, any_setting
from echo_cli.storyboard.series import ENDING, read_scenes


def read_continued(top: Fields, folder: Path, rules: Rules) -> Continued | None:
    """The film that the storyboard continues, if it continues one; what cannot be used has been noted."""
    node, state = top.node(CONTINUE), True
    if isinstance(node, MappingNode):
        inner = fields_of(node, f"'{CONTINUE}'", "", ("film", "state"), top.mistakes)
        state = inner.value("state", _read_state) is not False
        path = inner.name("film")
        if "film" not in inner:
            inner.lacks("film", f"{CONTINUE} names no film; add 'film: ../yesterday.mp4'")
    else:
        path = top.name(CONTINUE)
    if path is None:
        return None
    try:
        if ADDRESS.match(path):
            raise UsageError(f"{short(path)} is an address; files are read from this machine, so download it first")
        return rules.continued(path, folder, state)
    except UsageError as error:
        top.note(CONTINUE, f"{CONTINUE} {error.message}")
        return Continued(path, Path(path).stem, path, usable=False)


def _read_state(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"must be true or false, not {short(value)}")
    return value


def with_its_scenes(series: tuple[Series, ...], continued: Continued | None, top: Fields,
                    folder: Path) -> tuple[Series, ...]:
    """The series that a film may recall scenes of: also those of a film that it continues without its memory, if they
    lie beside it."""
    if continued is None or continued.earlier or any(each.name == continued.name for each in series):
        return series
    path = beside(continued.path, ENDING)
    if not os.path.isfile(folder / path):
        return series
    try:
        return (*series, Series(path, continued.name, read_scenes(folder / path).past))
    except UsageError as error:
        top.note(CONTINUE, f"{CONTINUE} {error.message}")
        return series


def not_knowing(rules: Rules, continued: Continued | None) -> Rules:
    """The rules for the scenes that follow: none of those that depend on a film which cannot be used."""
    if continued is None or continued.usable:
        return rules
    return replace(rules, models={}, setting_problems=any_setting)


def check_first(first: Fields, transition: str | None) -> None:
    """Notes what the first scene of a film that continues the pictures of another cannot have."""
    if "transition" in first and kind_named(transition or "") is not Kind.SMOOTH:
        first.note("transition", f"the first scene continues the film that is named under '{CONTINUE}'; leave its "
                   "transition out")
    for key in (PICTURE, CLIP):
        if key in first:
            first.note(key, f"begins with a {key}, but continues the film that is named under '{CONTINUE}'; leave one "
                       "of them out")


def recalled(target: str, continued: Continued | None) -> int | None:
    """The number of the scene that a target names in the film that is continued with its memory."""
    if continued is None or continued.earlier is None:
        return None
    return continued.earlier.number(target.removeprefix(f"{continued.name}/"))


def check_recalled(target: str, number: int, continued: Continued) -> str | None:
    """Why that scene cannot be recalled any more."""
    earlier = continued.earlier
    if earlier is None or number in earlier.kept:
        return None
    near = did_you_mean(target, [earlier.scenes[each].id for each in sorted(earlier.kept)])
    return f"recall of {short(target)}, but {continued.file} does not keep that scene{near}"


def check_ids(ids: Mapping[str, Fields], continued: Continued | None) -> None:
    """Notes ids that scenes of the film before have: noise is keyed by them."""
    for name, fields in ids.items():
        if continued and continued.earlier and continued.earlier.number(name) is not None:
            fields.note("id", f"id '{name}' belongs to a scene of {continued.path} already; give each scene its own")


def inherited(storyboard: Storyboard) -> Storyboard:
    """A storyboard with the choices of the film that it continues, where it makes none itself."""
    earlier = storyboard.earlier
    if earlier is None:
        return storyboard
    policy, memory = storyboard.policy, storyboard.memory
    if policy in (None, earlier.policy) and not memory:
        policy, memory = earlier.policy, earlier.memory
    return replace(storyboard, model=storyboard.model or earlier.model, policy=policy, memory=memory,
                   size=storyboard.size or earlier.size, fps=storyboard.fps or earlier.fps,
                   seed=earlier.seed if storyboard.seed is None else storyboard.seed)
