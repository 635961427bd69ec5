"""Scenes that outlast a film: the `series` whose scenes a storyboard may recall, and the scenes of its own that it
keeps.

Knows keys and places in the storyboard; what a file of scenes looks like is `series`.
"""

from collections.abc import Iterator
from pathlib import Path

from yaml.nodes import Node, ScalarNode, SequenceNode

from echo_cli.errors import UsageError, did_you_mean
from echo_cli.storyboard.document import kind_of, mark_of, scalar, short
from echo_cli.storyboard.fields import Fields, printable
from echo_cli.storyboard.mistakes import Mark
from echo_cli.storyboard.nouns import PastScene, Series
from echo_cli.storyboard.series import name_of, read_scenes

LASTING_KEYS = ("series", "keep_scenes")
MOST_SERIES = 20


def read_series(top: Fields, folder: Path) -> tuple[Series, ...]:
    """The series that the storyboard names; those that cannot be read are noted, and have no scenes."""
    by_name: dict[str, Series] = {}
    for mark, path in _texts(top, "series", "the path of a file of scenes, or a list of such"):
        name = name_of(Path(path))
        scenes: tuple[PastScene, ...] = ()
        try:
            scenes = read_scenes(folder / path).past
        except UsageError as error:
            top.mistakes.note(mark, f"series {error.message}")
        if name in by_name:
            top.mistakes.note(mark, f"series '{name}' is already named; rename one of the files, because scenes are "
                              f"recalled as {name}/<scene-id>")
            continue
        by_name[name] = Series(path, name, scenes)
        if len(by_name) > MOST_SERIES:
            top.mistakes.note(mark, f"there are more than {MOST_SERIES} series; join them with `echo-cli scenes merge`")
            break
    return tuple(by_name.values())


def read_kept(top: Fields, ids: tuple[str, ...]) -> tuple[str, ...]:
    """The ids of the scenes that the film keeps for later films: none, all, or those that are listed."""
    node = top.node("keep_scenes")
    if node is None:
        return ()
    if isinstance(node, ScalarNode):
        try:
            value = scalar(node)
        except ValueError:
            value = None
        if isinstance(value, bool):
            return ids if value else ()
    kept = []
    for mark, name in _texts(top, "keep_scenes", "true, or the ids of scenes"):
        if name in ids:
            kept.append(name)
        else:
            top.mistakes.note(mark, f"keep_scenes: no scene has the id {short(name)}{did_you_mean(name, ids)}")
    return tuple(dict.fromkeys(kept))


def is_past(target: str, series: tuple[Series, ...]) -> bool:
    """Whether `NAME/ID` is a scene of another film, or may be one of a series that could not be read."""
    name = target.partition("/")[0]
    return any((each.name == name and not each.scenes) or target in [past.name for past in each.scenes]
               for each in series)


def unknown_past(target: str, series: tuple[Series, ...]) -> str:
    """Why a scene of another film cannot be recalled."""
    name, _, scene = target.partition("/")
    one = next((each for each in series if each.name == name), None)
    if one is None:
        known = [each.name for each in series]
        near = did_you_mean(name, known) or (f"; there is {', '.join(known)}" if known else
                                             f"; name its file under 'series:', as in series: {name}.scenes")
        return f"recall of {short(target)}, but no series is called {short(name)}{near}"
    ids = [past.id for past in one.scenes]
    return f"recall of {short(target)}, but that series has no such scene{did_you_mean(scene, ids)}"


def _texts(top: Fields, key: str, what: str) -> Iterator[tuple[Mark, str]]:
    """The text at a key, or the texts of the list there, each with its place."""
    node = top.node(key)
    nodes: list[Node] = [] if node is None else node.value if isinstance(node, SequenceNode) else [node]
    if node is not None and not nodes:
        top.note(key, f"{key} is empty; write {what}, or leave the line out")
    for each in nodes:
        try:
            yield mark_of(each), _text(each, what)
        except ValueError as error:
            top.mistakes.note(mark_of(each), f"{key} {error}")


def _text(node: Node, what: str) -> str:
    value = scalar(node) if isinstance(node, ScalarNode) else node
    if value is None or (isinstance(value, str) and not value.strip()):
        raise ValueError(f"is empty; write {what}, or leave the line out")
    if not isinstance(value, str):
        raise ValueError(f"must be {what}, not {kind_of(node)}")
    return printable(value.strip())
