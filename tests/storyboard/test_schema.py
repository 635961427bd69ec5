"""The JSON Schema that editors use, against the parser: what one refuses for its form, so does the other."""

import json
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from echo_cli.storyboard.durations import read_duration
from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.nouns import Kind
from echo_cli.storyboard.openings import LONGEST
from echo_cli.storyboard.parse import SCENE_KEYS, TOP_KEYS, parse
from echo_cli.storyboard.schema import schema
from tests.storyboard.test_parse import GOOD, WRONG

SCHEMA = schema()
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# Mistakes of meaning, not of form: a schema cannot see them.
MEANINGS = {
    "duplicate key",
    "duplicate key of a scene",
    "duplicate id",
    "recall of nobody",
    "an id in other letters",
    "recall of a later scene",
    "recall of itself",
    "absurd duration",
    "absurd sum",
    "too short to be seen",
    "shorter than a picture",
    "no duration",
    "unknown model",
    "a file of weights",
    "unknown policy",
    "unknown setting",
    "unknown setting of a transition",
    "size the model cannot do",
    "both at and duration",
    "at beside durations",
    "at in one scene alone",
    "first at later",
    "at that goes back",
    "no end",
    "length before the end",
    "two ends",
    "length against durations",
    "no time left",
    "key that is a list",
    "merge key",
    "setting that is a date",
    "not a number",
    "focus where nothing is cut",
    "for longer than the scene",
    "for too long",
    "aspect that is a ribbon",
}


def by_schema(document: Any) -> bool:
    return VALIDATOR.is_valid(document)


def by_parser(text: str) -> bool:
    try:
        parse(text)
    except StoryboardError:
        return False
    return True


def test_the_schema_is_one_and_names_every_key() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert tuple(SCHEMA["properties"]) == TOP_KEYS
    assert set(SCHEMA["$defs"]["scene"]["properties"]) == set(SCENE_KEYS)


@pytest.mark.parametrize("kind", Kind)
def test_a_kind_of_transition_is_in_the_schema_by_every_name(kind: Kind) -> None:
    described = SCHEMA["$defs"]["scene"]["properties"]["transition"]
    assert all(spelling in described["description"] for spelling in kind.spellings)
    for name in (kind.value, *kind.aliases):
        for word in (name, name.upper(), name.replace(" ", "_")):
            text, scene = f"{word}: a" if kind.targeted else word, {"prompt": "x", "duration": 5}
            scenes = [{"id": "a", **scene}, {"id": "b", **scene, "transition": text}]
            board = parse(yaml.safe_dump({"scenes": scenes}))
            assert board.scenes[1].transition is kind and by_schema({"scenes": scenes})


def test_a_good_storyboard_passes() -> None:
    assert by_schema(yaml.safe_load(GOOD))


@pytest.mark.parametrize("name", [name for name in WRONG if name not in MEANINGS])
def test_a_mistake_of_form_fails_the_schema_too(name: str) -> None:
    assert not by_schema(yaml.safe_load(WRONG[name][0]))


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 400),
    st.floats(-3, 400).map(lambda value: round(value, 3)),
    st.just([]),
    st.just({}),
    st.sampled_from(
        [
            "",
            " ",
            "x",
            "tiny",
            "smooth",
            "Hard  Cut",
            "hard-cut",
            "cut",
            "recall:a",
            "recall:",
            "recall: auto ",
            "RECALL:auto",
            "832x480",
            "0x3",
            "8 x 8",
            "832",
            "5s",
            "0s",
            "1m30s",
            "1:30",
            "0:75",
            "1:2:03",
            "reference",
            "cumulative",
            "auto",
            "a b",
            "a:b",
            "a/b",
            "x" * 65,
            "-1",
            "1e3",
            "cover",
            "0.5, .25",
            "1.5, 0",
            [0, 1.0],
            [0.5, True],
            "http://x/y.png",
            "inf",
            " 7 ",
        ]
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example("model", " ")
@example("memory", " ")
@example("memory", {"policy": "\t"})
@given(st.sampled_from([*TOP_KEYS, "other"]), values)
def test_schema_and_parser_agree_on_every_value_at_the_top(key: str, value: Any) -> None:
    document = {"scenes": [{"id": "a", "prompt": "x", "duration": 5}, {"id": "b", "prompt": "x"}], "length": 90}
    if key == "length" and by_schema({**document, key: value}):
        value = 90  # a shorter length is a mistake of meaning
    if key in ("series", "keep_scenes") and isinstance(value, str) and value.strip():
        return  # so is a file that is not there, or a scene
    document[key] = value
    assert by_parser(json.dumps(document)) == by_schema(document)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([*SCENE_KEYS, "other"]), values)
def test_schema_and_parser_agree_on_every_value_of_a_scene(key: str, value: Any) -> None:
    second = {"id": "b", "prompt": "x", "duration": 5}
    if key == "at":
        second = {"id": "b", "prompt": "x"}
    if (key, value) in (("id", "a"), ("at", 0), ("at", 0.0), ("at", "0s")):
        return  # a mistake of meaning
    if key in ("fit", "focus"):
        second["picture"] = "x.png"
    if key in ("from", "for"):
        second |= {"clip": "x.mp4", "duration": "100h"}
    if key == "for" and by_schema({"scenes": [second | {key: value, "at": 5}]}) and read_duration(value) > LONGEST:
        return  # a mistake of meaning
    second[key] = value
    first = {"id": "a", "prompt": "x"} if key == "at" else {"id": "a", "prompt": "x", "duration": 5}
    document = {"scenes": [first, second]} | ({"length": "100h"} if key == "at" else {})
    assert by_parser(json.dumps(document)) == by_schema(document)


times = st.text("0123456789.:hms -", max_size=9)


@settings(max_examples=200)
@given(times)
def test_schema_and_parser_agree_on_every_time(text: str) -> None:
    try:
        seconds = read_duration(text)
    except ValueError as error:
        if "longer" not in str(error):
            assert not by_schema({"scenes": [{"id": "a", "prompt": "x", "at": text}]})
        return
    assert by_schema({"scenes": [{"id": "a", "prompt": "x", "at": text}]})
    assert by_schema({"scenes": [{"id": "a", "prompt": "x", "duration": text}]}) == (seconds > 0)
