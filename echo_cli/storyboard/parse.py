"""YAML → Storyboard: every mistake of the file in one run, each with its line and column.

What a storyboard may say is here and in `schema`, and a test compares the two. Names of models, policies and
settings come in as `Rules`. How scenes follow one another in time is `timing`; how time becomes blocks is `timeline`.
"""

from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from echo_cli.errors import EchoError, MissingError, did_you_mean
from echo_cli.storyboard.continuing import (
    check_first,
    check_ids,
    check_recalled,
    inherited,
    not_knowing,
    read_continued,
    recalled,
    with_its_scenes,
)
from echo_cli.storyboard.document import kind_of, mark_of, read_source, read_tree, short
from echo_cli.storyboard.ends import ENDING as END
from echo_cli.storyboard.fields import Fields, fields_of, plain
from echo_cli.storyboard.lasting import LASTING_KEYS, is_past, read_kept, read_series, unknown_past
from echo_cli.storyboard.mistakes import Mark, Mistakes
from echo_cli.storyboard.nouns import (
    AUTO,
    CLIP,
    CONTINUE,
    LONGEST_ID,
    PICTURE,
    SCENE_ID,
    SEEDS,
    SOUNDTRACK,
    VERSION,
    Continued,
    Kind,
    Scene,
    Series,
    Storyboard,
    Timing,
    beside,
    kind_named,
)
from echo_cli.storyboard.openings import OPENING_KEYS, read_file, read_opening
from echo_cli.storyboard.rules import WEIGHTS_FILES, Rules
from echo_cli.storyboard.sizes import read_aspect, read_size
from echo_cli.storyboard.timeline import beginning, edges, too_long, too_short
from echo_cli.storyboard.timing import Asked, Given, resolve

TOP_KEYS = ("version", "title", "language", "seed", "model", "memory", "size", "aspect", "fps", "style", "timing",
            "length", *LASTING_KEYS, CONTINUE, "scenes")
SCENE_KEYS = ("id", "prompt", "duration", "at", "transition", "subtitle", "seed", "memory", *OPENING_KEYS,
              SOUNDTRACK)
RATES = (1, 240)  # pictures a second
MOST_SETTINGS = 1000
NEAR = 500  # earlier scenes that are searched for the id that was meant


def load(path: str, rules: Rules = Rules()) -> Storyboard:
    """The storyboard in a file, or on standard input for `-`."""
    return parse(*read_source(path), rules)


def parse(text: str, source: str = "storyboard", rules: Rules = Rules()) -> Storyboard:
    """The storyboard that `text` describes; a StoryboardError lists every mistake."""
    mistakes = Mistakes(source)
    top = fields_of(read_tree(text, source), "the storyboard", "", TOP_KEYS, mistakes)
    _check_version(top)
    style = top.text("style")
    model = top.name("model")
    policy, memory = _read_memory(top, rules)
    size = _read_size(top, model, rules)
    fps = top.number("fps", *RATES)
    timing = Timing(top.choice("timing", tuple(Timing)) or Timing.CUMULATIVE)
    length = Given(top.duration("length"), top.mark_of("length")) if (
        "length" in top or top.misspelled("length")) else None
    _check_model(top, model, size, rules)

    scenes = [_SceneReader(entry, number) for number, entry in enumerate(_scene_entries(top), start=1)]
    cast, series = _cast(scenes), read_series(top, Path(source).parent)
    continued = read_continued(top, Path(source).parent, rules)
    series = with_its_scenes(series, continued, top, Path(source).parent)
    rules = not_knowing(rules, continued)
    check_ids({scene.id: scene.fields for scene in scenes if scene.id}, continued)
    seconds = resolve([scene.asked for scene in scenes], length, mistakes) if scenes else None
    used = policy or (continued.earlier.policy if continued and continued.earlier and not memory else None)
    read = [scene.read(seconds[index] if seconds else Fraction(0), style, index, cast, series, rules,
                       used or rules.default_policy, Path(source).parent, continued)
             for index, scene in enumerate(scenes)]
    storyboard = inherited(Storyboard(
        scenes=tuple(read), title=top.text("title") or None, seed=top.whole("seed", *SEEDS), model=model,
        policy=policy, memory=memory, size=size, fps=fps, timing=timing, series=series,
        language=top.value("language", _read_language) if "language" in top else None,
        kept=read_kept(top, tuple(cast)), source=source, continued=continued,
    ))
    if seconds:
        _check_lengths(storyboard, scenes, rules)
    mistakes.raise_if_any()
    return storyboard


def _check_version(top: Fields) -> None:
    version = top.whole("version", 0, 2**31)
    if version is not None and version != VERSION:
        newer = "it was written for a newer echo; update echo" if version > VERSION else f"write 'version: {VERSION}'"
        top.note("version", f"version {version} cannot be read, this echo knows version {VERSION}: {newer}")


def _check_model(top: Fields, model: str | None, size: tuple[int, int] | None, rules: Rules) -> None:
    is_path = model is not None and ("/" in model or "\\" in model)
    if model is not None and rules.models and not _knows(model, top, rules) and not is_path:
        names = tuple(rules.models)
        if model.lower().endswith(WEIGHTS_FILES):
            top.note("model", f"{short(model)} is one file of weights, and a model is a folder of several; name the "
                     "model that a generator's checkpoint belongs to, and give the file to --generator")
            return
        top.note("model", f"no model is called {short(model)}{did_you_mean(model, names)}; there are "
                 f"{', '.join(names)}, or the path of a model's folder, with a '/' in it")
    used = rules.model_for(model)
    if size and used:
        try:
            used.grid(size)
        except EchoError as error:
            top.note("size", f"{error.message}. {error.hint or ''}".rstrip())


def _knows(model: str, top: Fields, rules: Rules) -> bool:
    """Whether it is a model's name or folder; a folder without one is a MissingError that says where it is named."""
    try:
        return model in rules.models
    except MissingError as error:
        where = "{}:{}:{}".format(top.mistakes.source, *top.mark_of("model"))
        missing = MissingError(f"{where}: {error.message}", error.hint)
        missing.where = where
        raise missing from None


def _check_lengths(storyboard: Storyboard, scenes: list["_SceneReader"], rules: Rules) -> None:
    """Notes films of too many blocks, and scenes that are shorter than a block can show, if the model is known."""
    model = rules.model_for(storyboard.model)
    if model is None:
        return
    geometry = beginning(storyboard, model.geometry.at(storyboard.fps))
    if problem := too_long(storyboard.scenes, geometry):
        scenes[0].fields.note("duration", problem)
    elif storyboard.timing is Timing.CUMULATIVE:
        for index, message in too_short(edges(storyboard.scenes, geometry), storyboard.scenes, geometry):
            key = "duration" if "duration" in scenes[index].fields else "at"
            scenes[index].fields.note(key, message)


def _read_language(value: object) -> str:
    language = str(value)
    if not (len(language) == 3 and language.isascii() and language.isalpha() and language.islower()):
        raise ValueError(f"must be three letters of ISO 639-2, such as eng, deu or jpn, not {short(value)}")
    return language


def _read_size(top: Fields, model: str | None, rules: Rules) -> tuple[int, int] | None:
    """The size that is written, or the one that the model gives to the `aspect`."""
    if "aspect" in top:
        return _size_of_aspect(top, model, rules)
    if "size" not in top:
        return None
    return top.value("size", lambda value: read_size(str(value)))


def _size_of_aspect(top: Fields, model: str | None, rules: Rules) -> tuple[int, int] | None:
    node = top.node("aspect")
    if "size" in top:
        top.note("aspect", f"there is a size, on line {top.mark_of('size').line}; leave one of them out")
        return None
    try:  # the raw text, because YAML reads 9:16 as minutes and seconds
        aspect = read_aspect(node.value if isinstance(node, ScalarNode) else "")
    except ValueError as error:
        top.note("aspect", f"aspect {error}")
        return None
    used = rules.model_for(model)
    return used.sized(aspect) if used else None


def _read_memory(top: Fields, rules: Rules) -> tuple[str | None, dict[str, Any]]:
    """A policy's name, or a mapping of its name and settings."""
    node = top.node("memory")
    if node is None:
        return None, {}
    if isinstance(node, MappingNode):
        entries = fields_of(node, "memory", "", None, top.mistakes)
        policy = entries.name("policy")
        entries.entries.pop("policy", None)
    elif isinstance(node, ScalarNode):
        entries, policy = Fields("", mark_of(node), {}, top.mistakes), top.name("memory")
    else:
        top.note("memory", f"memory must be a policy's name or a mapping with its settings, not {kind_of(node)}")
        return None, {}
    if policy is not None and rules.policies and policy not in rules.policies:
        top.note("memory", f"no memory policy is called {short(policy)}{did_you_mean(policy, tuple(rules.policies))}; "
                 f"there are {', '.join(rules.policies)}")
        return policy, {}
    return policy, _read_settings(entries, policy or rules.default_policy, None, rules)


def _read_settings(entries: Fields, policy: str, kind: Kind | None, rules: Rules) -> dict[str, Any]:
    """Settings as plain values; each is checked by itself, so that each mistake has its own place."""
    if len(entries.entries) > MOST_SETTINGS:
        entries.mistakes.note(entries.mark, f"{entries.where}memory has {len(entries.entries):,} settings, more than "
                              "any policy knows; is this the right file?")
        return {}

    def read(mark: Mark, node: Node, path: tuple[str, ...]) -> Any:
        if isinstance(node, MappingNode):
            inner = fields_of(node, f"'{'.'.join(path)}'", entries.where, None, entries.mistakes)
            return {_setting(key): read(*entry, (*path, _setting(key))) for key, entry in inner.entries.items()}
        try:
            value = plain(node)
        except ValueError as error:
            entries.mistakes.note(mark, f"{entries.where}{path[-1]} {error}")
            return None
        nested: Any = value
        for name in reversed(path):
            nested = {name: nested}
        for problem in rules.setting_problems(policy, kind, nested):
            entries.mistakes.note(mark, entries.where + problem)
        return value

    return {_setting(key): read(*entry, (_setting(key),)) for key, entry in entries.entries.items()}


def _setting(key: str) -> str:
    return key.replace("-", "_").replace(" ", "_")


def _scene_entries(top: Fields) -> list[Fields]:
    node = top.node("scenes")
    if not top.is_mapping:
        return []
    if not isinstance(node, SequenceNode) or not node.value:
        if node is None or isinstance(node, SequenceNode) or node.tag.endswith(":null"):
            top.lacks("scenes", "a storyboard needs scenes: a list, each with an id, a prompt and a duration")
        else:
            top.note("scenes", f"scenes must be a list, each scene beginning with '- ', not {kind_of(node)}")
        return []
    return [fields_of(entry, "a scene", f"scene {_named(entry, number)}: ", SCENE_KEYS, top.mistakes)
            for number, entry in enumerate(node.value, start=1)]


def _named(entry: Node, number: int) -> str:
    """What messages call a scene: its id in quotes or, if it has none that can be used, its number."""
    values = [value for key, value in entry.value if isinstance(key, ScalarNode) and key.value == "id"] if (
        isinstance(entry, MappingNode)) else []
    if values and isinstance(values[0], ScalarNode) and values[0].tag.endswith((":str", ":int", ":float")):
        name = " ".join(values[0].value.split())
        if name != AUTO and SCENE_ID.fullmatch(name):
            return f"'{name}'"
    return str(number)


Cast = dict[str, tuple[int, Mark]]  # id → which scene it names, and where that begins


def _cast(scenes: list["_SceneReader"]) -> Cast:
    """Every id in the film; the first scene keeps an id that is used twice."""
    cast: Cast = {}
    for index, scene in enumerate(scenes):
        if scene.id in cast:
            scene.fields.note("id", f"id '{scene.id}' belongs to the scene on line {cast[scene.id][1].line} already; "
                              "give each scene its own")
        elif scene.id is not None:
            cast[scene.id] = (index, scene.fields.mark)
    return cast


class _SceneReader:
    """One entry of `scenes`: its id and its times first, the rest when its neighbours are known."""

    def __init__(self, fields: Fields, number: int) -> None:
        self.fields = fields
        self.id = self._read_id(number)
        self.asked = Asked(fields, self._read_time("at", zero=True), self._read_time("duration"))

    def _read_time(self, key: str, zero: bool = False) -> Given | None:
        fields = self.fields
        if key in fields:
            return Given(fields.duration(key, zero), fields.mark_of(key))
        noted = fields.misspelled(key) if fields.is_mapping else key == "duration"
        return Given(None, fields.mark) if noted else None

    def _read_id(self, number: int) -> str | None:
        fields = self.fields
        node = fields.node("id")
        if node is None:
            fields.lacks("id", f"has no id; add a short name, such as 'id: scene-{number}'")
            return None
        # A bare number is a name here: `id: 3` is clear enough.
        text = node.value if node.tag.endswith((":int", ":float")) else fields.text("id")
        if text is None:
            return None
        if text == AUTO or not SCENE_ID.fullmatch(text):
            why = "is reserved for recall:auto" if text == AUTO else (
                f"must have 1 to {LONGEST_ID} characters, and no space, colon or slash")
            fields.note("id", f"id {short(text)} {why}; choose another")
            return None
        return text

    def read(self, seconds: Fraction, style: str | None, index: int, cast: Cast, series: tuple[Series, ...],
             rules: Rules, policy: str, folder: Path, continued: Continued | None) -> Scene:
        fields = self.fields
        prompt = self._read_prompt()
        transition, recall = self._read_transition(index, cast, series, continued)
        return Scene(
            id=self.id or "",
            prompt=f"{style} {prompt}" if style else prompt,
            seconds=float(seconds),
            transition=transition,
            recall=recall,
            subtitle=fields.lines("subtitle") or None,
            seed=fields.whole("seed", *SEEDS),
            memory=self._read_memory(transition, rules, policy),
            opening=read_opening(fields, float(seconds), folder, rules),
            soundtrack=read_file(fields, SOUNDTRACK, folder, rules),
            line=fields.mark.line,
            column=fields.mark.column,
        )

    def _read_prompt(self) -> str:
        fields = self.fields
        if "prompt" not in fields:
            fields.lacks("prompt", "has no prompt; describe what the scene shows")
            return ""
        prompt = fields.text("prompt", "describe what the scene shows") if not self._is_null("prompt") else ""
        if prompt == "":
            fields.note("prompt", "the prompt is empty; describe what the scene shows")
        return prompt or ""

    def _is_null(self, key: str) -> bool:
        node = self.fields.node(key)
        return isinstance(node, ScalarNode) and node.tag.endswith(":null")

    def _read_transition(self, index: int, cast: Cast, series: tuple[Series, ...],
                         continued: Continued | None) -> tuple[Kind | None, str | None]:
        fields = self.fields
        text = fields.text("transition")
        if index == 0 and not (continued and continued.recallable):
            if continued:
                check_first(fields, text)
            elif "transition" in fields:
                fields.note("transition", "the first scene has no transition; leave it out")
            return None, None
        if text is None:  # a picture or a clip looks like a cut, and memory of the scene before would conflict with it
            return Kind.HARD_CUT if PICTURE in fields or CLIP in fields else Kind.SMOOTH, None
        word, colon, target = text.partition(":")
        kind = kind_named(word)
        if kind is None or kind.targeted != bool(colon):
            fields.note("transition", partial(_unknown_transition, text, cast))
            return Kind.SMOOTH, None
        return kind, self._read_recall(target.strip(), index, cast, series, continued) if kind.targeted else None

    def _read_recall(self, target: str, index: int, cast: Cast, series: tuple[Series, ...],
                     continued: Continued | None) -> str:
        note = self.fields.note
        if target.lower() == AUTO:
            return AUTO
        if continued and (number := recalled(target, continued)) is not None:
            if problem := check_recalled(target, number, continued):
                note("transition", problem)
            return target
        known = continued is None or continued.usable
        if "/" in target:
            if known and not is_past(target, series):
                note("transition", partial(unknown_past, target, series))
            return target
        at, mark = cast.get(target, (None, None))
        if not target:
            note("transition", "recall of which scene? Write recall:<scene-id> or recall:auto")
        elif target == self.id or at == index:
            note("transition", "recall of itself; name an earlier scene")
        elif at is None or mark is None:
            if known:
                note("transition", partial(_unknown_scene, target, index, cast, continued))
        elif at > index:
            note("transition", f"recall of '{target}', which comes later (line {mark.line}); only an earlier scene can "
                 "be recalled")
        return target

    def _read_memory(self, kind: Kind | None, rules: Rules, policy: str) -> dict[str, Any]:
        node = self.fields.node("memory")
        if node is None:
            return {}
        if kind is None:
            self.fields.note("memory", "the first scene has no transition whose memory could be set")
            return {}
        entries = fields_of(node, "memory", self.fields.where, None, self.fields.mistakes)
        if "policy" in entries:
            entries.note(
                "policy", "a film has one policy, named at the top; set only the transition's settings here"
            )
            entries.entries.pop("policy")
        return _read_settings(entries, policy, kind, rules)


def _unknown_transition(text: str, cast: Cast) -> str:
    spellings = [spelling for kind in Kind for spelling in kind.spellings]
    near = f" (did you mean 'recall:{text}'?)" if text in cast else did_you_mean(
        text.lower(), [spelling for spelling in spellings if "<" not in spelling])
    bare = kind_named(text)
    what = f"{bare} of which scene?" if bare else f"no transition is called {short(text)}{near};"
    return f"{what} it is {', '.join(spellings[:-1])} or {spellings[-1]}"


def _unknown_scene(target: str, index: int, cast: Cast, continued: Continued | None) -> str:
    earlier = tuple(name for name, (place, _) in cast.items() if place < index)[-NEAR:]
    lost = f"; {beside(continued.path, END)} is missing, which --keep-end writes beside {continued.path}" if (
        continued and continued.state and not continued.earlier) else ""
    return f"recall of {short(target)}, but no earlier scene has that id{did_you_mean(target, earlier)}{lost}"
