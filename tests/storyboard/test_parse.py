"""What a storyboard may say, and every way in which it can be wrong: message and place."""

from dataclasses import replace
from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.storyboard import fields
from echo_cli.storyboard import parse as parse_module
from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.nouns import AUTO, Fit, Geometry, Kind, Opening, Scene, Storyboard, Timing
from echo_cli.storyboard.parse import parse
from echo_cli.storyboard.rules import Rules


class Tiny:
    """A model that makes one size of picture."""

    geometry = Geometry()

    def grid(self, size: tuple[int, int] | None = None) -> object:
        if size not in (None, (192, 128)):
            raise UsageError("model 'tiny' cannot make pictures of this size", hint="Try 192x128.")
        return object()

    def sized(self, aspect: tuple[int, int]) -> tuple[int, int]:
        return 192, 64 * aspect[1]


def problems(policy: str, kind: Kind | None, values: dict) -> list[str]:
    known = ("decay",) if kind else ("recent_frames", "cut")
    return [f"memory policy '{policy}' has no setting '{name}'" for name in values if name not in known]


RULES = Rules(models={"tiny": Tiny()}, policies=("echo-forcing", "window"), setting_problems=problems,
              default_model="tiny", default_policy="echo-forcing")

GOOD = """\
version: 1
title: Rooftop, subway, rooftop
seed: 7
model: tiny
memory: {policy: echo-forcing, recent-frames: 3}
size: 192x128
fps: 16
style: Static shot,   cinematic realism.
scenes:
  - id: rooftop
    prompt: A rooftop
    duration: 10s
    subtitle: Rooftop
  - id: subway
    transition: hard cut
    prompt: >
      A dim
      subway platform
    duration: 10
  - id: back
    transition: recall:rooftop
    prompt: The rooftop again
    duration: 00:00:10
    seed: 3
    memory: {decay: 0.5}
"""


def scenes(*lines: str) -> str:
    """A storyboard of scenes written one a line, from line 2 on."""
    return "scenes:\n" + "".join(f"  - {{{line}}}\n" for line in lines)


A = "id: a, prompt: x, duration: 5"
B = "id: b, prompt: x, duration: 5"


def parsed(text: str) -> Storyboard:
    return parse(text, "film.yaml", RULES)


def mistakes(text: str) -> list[str]:
    with pytest.raises(StoryboardError) as caught:
        parsed(text)
    return caught.value.message.splitlines()


@pytest.mark.parametrize("key", ["title", "id", "prompt", "subtitle"])
def test_control_characters_are_refused(key):
    values = {"title": "t", "id": "a", "prompt": "x", "subtitle": "s"} | {key: r"red \e[31m alarm \a"}
    text = 'title: "{title}"\nscenes: [{{id: "{id}", prompt: "{prompt}", subtitle: "{subtitle}", duration: 5s}}]'
    said = mistakes(text.format(**values))
    assert len(said) == 1 and f"{key} has the control character U+001B; leave it out" in said[0]


@pytest.mark.parametrize(("text", "message"), [
    (r'series: "a\e[31mX\0.scenes"', "1:9: series has the control character U+001B; leave it out"),
    (r'series: [none, "a\nb.scenes"]', "1:16: series has the control character U+000A; leave it out"),
    (r'keep_scenes: "a\x9b"', "1:14: keep_scenes has the control character U+009B; leave it out"),
    ('series: ""', "1:9: series is empty; write the path of a file of scenes, or a list of such, or leave the"),
    ("series: [' ', none]", "1:10: series is empty; write the path"),
    ("keep_scenes: ~", "1:14: keep_scenes is empty; write true, or the ids of scenes, or leave the line out"),
])
def test_paths_and_ids_in_lists_are_checked_as_all_text_is(text: str, message: str) -> None:
    said = [line for line in mistakes(f"{text}\n" + scenes(A)) if "none: there is no such file" not in line]
    assert len(said) == 1 and said[0].startswith(f"film.yaml:{message}")


def test_line_breaks_and_tabs_are_white_space():
    text = 'scenes: [{id: a, prompt: "one\\ttwo\\nthree", subtitle: "up\\ndown", duration: 5s}]'
    scene = parsed(text).scenes[0]
    assert (scene.prompt, scene.subtitle) == ("one two three", "up\ndown")


def test_everything_that_was_written_is_understood() -> None:
    board = parsed(GOOD)
    rooftop, subway, back = board.scenes
    assert replace(board, scenes=()) == Storyboard(
        (), "Rooftop, subway, rooftop", 7, "tiny", "echo-forcing", {"recent_frames": 3}, (192, 128), 16.0,
        Timing.CUMULATIVE, "film.yaml")
    assert rooftop == Scene("rooftop", "Static shot, cinematic realism. A rooftop", 10.0, subtitle="Rooftop",
                            memory={}, line=10, column=5)
    assert (subway.prompt, subway.transition) == (
        "Static shot, cinematic realism. A dim subway platform",
        Kind.HARD_CUT,
    )
    assert (back.transition, back.recall, back.seed, back.memory) == (Kind.RECALL, "rooftop", 3, {"decay": 0.5})


def test_what_is_left_out_is_left_open() -> None:
    board = parsed(scenes(A, B))
    assert (board.title, board.model, board.policy, board.size, board.fps, board.seed) == (None,) * 6
    assert [scene.transition for scene in board.scenes] == [None, Kind.SMOOTH]


@pytest.mark.parametrize(("spelling", "kind", "recall"), [
    ("hard cut", Kind.HARD_CUT, None), ("hard_cut", Kind.HARD_CUT, None), ("hard-cut", Kind.HARD_CUT, None),
    ("hardcut", Kind.HARD_CUT, None), ("cut", Kind.HARD_CUT, None), ("Hard Cut", Kind.HARD_CUT, None),
    ("smooth", Kind.SMOOTH, None), ("recall:a", Kind.RECALL, "a"), ("'recall: a'", Kind.RECALL, "a"),
    ("recall:auto", Kind.RECALL, AUTO), ("Recall:AUTO", Kind.RECALL, AUTO),
])
def test_spellings_of_transitions(spelling: str, kind: Kind, recall: str | None) -> None:
    scene = parsed(scenes(A, f"{B}, transition: {spelling}")).scenes[1]
    assert (scene.transition, scene.recall) == (kind, recall)


def test_a_picture_comes_in_after_a_cut_unless_somebody_says_otherwise() -> None:
    text = scenes(f"{A}, picture: one.png", f"{B}, picture: ' two.jpg', fit: stretch",
                  "id: c, prompt: x, duration: 5, picture: three.webp, transition: smooth, focus: '0.25, 1'")
    one, two, three = parsed(text).scenes
    assert [scene.transition for scene in (one, two, three)] == [None, Kind.HARD_CUT, Kind.SMOOTH]
    four, = parsed(scenes(f"{A}, clip: a.mp4, from: 3s, for: 2.5s")).scenes
    assert four.opening == Opening("a.mp4", what="clip", begins=3.0, seconds=2.5)
    assert (one.opening, two.opening) == (Opening("one.png"), Opening("two.jpg", Fit.STRETCH))
    assert three.opening == Opening("three.webp", Fit.COVER, (0.25, 1.0))
    assert parsed(text).file("one.png") == Path("one.png")


def test_every_file_is_looked_at_where_the_storyboard_is() -> None:
    seen = []
    rules = replace(RULES, file_problem=lambda *seen_: seen.append(seen_) or f"{seen_[1]} is no good")
    with pytest.raises(StoryboardError, match=r"films/film.yaml:2:37: scene 'a': picture films/../x.png is no good"):
        parse(scenes(f"{A}, picture: ../x.png"), "films/film.yaml", rules)
    assert seen == [("picture", Path("films/../x.png"), None)]


def test_an_aspect_is_the_models_size_of_that_shape() -> None:
    """YAML reads 9:16 as nine minutes and sixteen seconds; the author does not."""
    assert [parsed(f"aspect: {aspect}\n{scenes(A)}").size for aspect in ("3:2", "'3:2'")] == [(192, 128)] * 2
    assert "cannot make pictures of this size" in mistakes("aspect: 9:16\n" + scenes(A))[0]


def test_a_bare_number_is_a_fine_id() -> None:
    board = parsed(scenes("id: 1, prompt: x, duration: 5", "id: 2, prompt: x, duration: 5, transition: recall:1"))
    assert [scene.id for scene in board.scenes] == ["1", "2"]


def test_a_subtitle_keeps_its_lines_and_a_prompt_does_not() -> None:
    text = ("scenes:\n- id: a\n  duration: 1\n  prompt: |\n    x\n    y\n"
            "  subtitle: |\n    \n    One   two\n      three\n")
    scene = parsed(text).scenes[0]
    assert (scene.prompt, scene.subtitle) == ("x y", "One two\nthree")


def test_scenes_may_begin_at_times() -> None:
    text = scenes("id: a, prompt: x", "id: b, prompt: x, at: 5.1", "id: c, prompt: x, at: 0:08.2")
    assert [scene.seconds for scene in parsed("length: 12\n" + text).scenes] == [5.1, 3.1, 3.8]
    assert [scene.seconds for scene in parsed(text.replace("8.2}", "8.2, duration: 1s}")).scenes] == [5.1, 3.1, 1.0]


def test_a_length_gives_the_last_scene_its_end() -> None:
    text = "length: 12.3s\n" + scenes(A, "id: b, prompt: x")
    assert [scene.seconds for scene in parsed(text).scenes] == [5.0, 7.3]
    assert len(parsed("length: 10\n" + scenes(A, B)).scenes) == 2


NO_TIME = "is not a time; write it as 10s, 2.5s, 500ms, 1m30s or 00:01:30"

# (storyboard, where, message): one mistake each.
WRONG = {
    "unknown key": ("sede: 7\n" + scenes(A), "1:1", "the storyboard has no key 'sede' (did you mean 'seed'?)"),
    "unknown key of a scene": (
        scenes("id: a, promt: y, prompt: x, duration: 5"),
        "2:13",
        "scene 'a': a scene has no key 'promt' (did you mean 'prompt'?)",
    ),
    "unknown key unlike any": (
        "zzzz: 7\n" + scenes(A),
        "1:1",
        "the storyboard has no key 'zzzz'; it may have version, ",
    ),
    "duplicate key": ("seed: 7\nseed: 8\n" + scenes(A), "2:1", "'seed' appears a second time (first on line 1)"),
    "duplicate key of a scene": (scenes(f"{A}, prompt: y"), "2:37",
                                 "scene 'a': 'prompt' appears a second time (first on line 2)"),
    "merge key": ("<<: {seed: 1}\n" + scenes(A), "1:1", "merging with '<<' is not understood"),
    **{f"{slip} for {key}, which is not missing too": (text, place, f"has no key '{slip}' (did you mean '{key}'?)")
       for slip, key, text, place in (
        ("durtion", "duration", scenes("id: a, prompt: x, durtion: 3s"), "2:24"),
        ("Duration", "duration", scenes(A, "id: b, prompt: x, Duration: 3s"), "3:24"),
        ("att", "at", scenes("id: a, prompt: x, at: 0", "id: b, prompt: x, att: 5, duration: 5"), "3:24"),
        ("ID", "id", scenes("ID: a, prompt: x, duration: 5"), "2:6"),
        ("promt", "prompt", scenes("id: a, promt: x, duration: 5"), "2:13"),
        ("lenght", "length", "lenght: 9\n" + scenes(A, "id: b, prompt: x"), "1:1"),
        ("secnes", "scenes", scenes(A).replace("scenes", "secnes"), "1:1"),
        ("flim", "film", "continue: {flim: day.mp4}\n" + scenes(A), "1:12"),
    )},
    "key that is a list": ("[a, b]: 1\n" + scenes(A), "1:1", "a key must be a plain word, not a list"),
    "duplicate id": (scenes(A, A), "3:6", "scene 'a': id 'a' belongs to the scene on line 2 already"),
    "recall of nobody": (
        GOOD.replace("recall:rooftop", "recall:roof"),
        "21:5",
        "scene 'back': recall of 'roof', but no earlier scene has that id (did you mean 'rooftop'?)",
    ),
    "an id in other letters": (scenes(A, f"{B}, transition: 'recall:A'"), "3:37", "(did you mean 'a'?)"),
    "recall of a later scene": (
        scenes(A, f"{B}, transition: recall:c", "id: c, prompt: x, duration: 5"),
        "3:37",
        "scene 'b': recall of 'c', which comes later (line 4)",
    ),
    "recall of itself": (scenes(A, f"{B}, transition: recall:b"), "3:37", "scene 'b': recall of itself"),
    "recall of nothing": (scenes(A, f"{B}, transition: 'recall:'"), "3:37", "scene 'b': recall of which scene?"),
    "recall alone": (scenes(A, f"{B}, transition: recall"), "3:37", "scene 'b': recall of which scene?"),
    "unknown transition": (
        scenes(A, f"{B}, transition: smoth"),
        "3:37",
        "scene 'b': no transition is called 'smoth' (did you mean 'smooth'?)",
    ),
    "an id for a transition": (scenes(A, f"{B}, transition: a"), "3:37", "(did you mean 'recall:a'?)"),
    "first scene's transition": (
        scenes(f"{A}, transition: smooth"),
        "2:37",
        "scene 'a': the first scene has no transition; leave it out",
    ),
    "aspect that is none": ("aspect: wide\n" + scenes(A), "1:1", "aspect must be WIDTH:HEIGHT, such as 9:16 or 1:1"),
    "aspect of nothing": ("aspect: '0:1'\n" + scenes(A), "1:1", "aspect must be WIDTH:HEIGHT"),
    "aspect that is a ribbon": ("aspect: '100:1'\n" + scenes(A), "1:1", "at most 32:1"),
    "aspect and size": (
        "size: 192x128\naspect: '3:2'\n" + scenes(A), "2:1", "there is a size, on line 1; leave one of them out"),
    "fit without a picture": (scenes(f"{A}, fit: contain"), "2:37", "scene 'a': has 'fit', but no picture that it"),
    "focus without a picture": (scenes(f"{A}, focus: '0, 1'"), "2:37", "scene 'a': has 'focus', but no picture"),
    "unknown fit": (scenes(f"{A}, picture: x.png, fit: fill"), "2:53", "fit must be one of cover, contain, stretch"),
    "focus in words": (scenes(f"{A}, picture: x.png, focus: left"), "2:53", "focus must be two numbers from 0 to 1"),
    "focus outside": (scenes(f"{A}, picture: x.png, focus: [0.5, 1.5]"), "2:53", "focus must be two numbers"),
    "focus of three": (scenes(f"{A}, picture: x.png, focus: [0, 0, 0]"), "2:53", "focus must be two numbers"),
    "focus where nothing is cut": (
        scenes(f"{A}, picture: x.png, fit: contain, focus: [0, 0]"),
        "2:67",
        "with 'fit: contain' nothing is cut",
    ),
    "no film to continue": (f"continue: ''\n{scenes(A)}", "1:1", "continue is empty; write a name, or leave the line"),
    "a state and no film": ("continue: {state: no}\n" + scenes(A), "1:11", "continue names no film; add 'film: ../"),
    "a state that is neither": (
        "continue: {film: a.mp4, state: maybe}\n" + scenes(A), "1:25", "state must be true or false, not 'maybe'"),
    "an address to continue": (
        f"continue: https://example.org/a.mp4\n{scenes(A)}", "1:1", "is an address; files are read from this machine"),
    "a picture and a clip": (
        scenes(f"{A}, picture: x.png, clip: y.mp4"), "2:37", "begins with a picture and with a clip"),
    "from without a clip": (scenes(f"{A}, picture: x.png, from: 1s"), "2:53", "has 'from', but no clip that it could"),
    "for without a clip": (scenes(f"{A}, for: 1s"), "2:37", "scene 'a': has 'for', but no clip that it could be for"),
    "from before the beginning": (scenes(f"{A}, clip: x.mp4, from: -1s"), "2:50", "from '-1s' is negative"),
    "for nothing": (scenes(f"{A}, clip: x.mp4, for: 0"), "2:50", "for is zero"),
    "for longer than the scene": (
        scenes(f"{A}, clip: x.mp4, for: 5s"), "2:50", "the clip takes 5s, and the scene lasts 5s; leave it some time"),
    "for too long": (
        scenes("id: a, prompt: x, duration: 5m, clip: x.mp4, for: 2m"), "2:51", "for 2m is too long"),
    "soundtrack without a name": (scenes(f"{A}, soundtrack: ' '"), "2:37", "scene 'a': soundtrack is empty"),
    "soundtrack that is an address": (
        scenes(f"{A}, soundtrack: 'https://x/y.mp3'"), "2:37", "is an address; files are read from this machine"),
    "picture without a name": (scenes(f"{A}, picture: ' '"), "2:37", "scene 'a': picture is empty"),
    "picture that is a number": (scenes(f"{A}, picture: 7"), "2:37", "scene 'a': picture is a number, not text"),
    "picture on another machine": (
        scenes(f"{A}, picture: 'https://example.org/a.png'"),
        "2:37",
        "scene 'a': picture 'https://example.org/a.png' is an address; files are read from this machine",
    ),
    "zero duration": (scenes("id: a, prompt: x, duration: 0s"), "2:24", "scene 'a': duration is zero"),
    "negative duration": (scenes("id: a, prompt: x, duration: -5s"), "2:24", "scene 'a': duration '-5s' is negative"),
    "infinite duration": (scenes("id: a, prompt: x, duration: .inf"), "2:24", "'inf' is not a finite time"),
    "infinite in words": (scenes("id: a, prompt: x, duration: infinity"), "2:24", "'infinity' is not a finite time"),
    "not a number": (scenes("id: a, prompt: x, duration: .nan"), "2:24", "'nan' is not a finite time"),
    "absurd duration": (scenes("id: a, prompt: x, duration: 100000h"), "2:24", "is longer than 168h"),
    "absurd sum": (
        scenes(*(f"id: s{n}, prompt: x, duration: 100h" for n in range(2))),
        "3:5",
        "the film would last 200h; the most is 168h",
    ),
    "duration in words": (scenes("id: a, prompt: x, duration: soon"), "2:24", f"duration 'soon' {NO_TIME}"),
    "duration that is yes": (scenes("id: a, prompt: x, duration: yes"), "2:24", NO_TIME),
    "duration that is a list": (scenes("id: a, prompt: x, duration: [5]"), "2:24", "duration is a list"),
    "too short to be seen": (
        scenes(A, "id: b, prompt: x, duration: 0.1", "id: c, prompt: x, duration: 5"),
        "3:24",
        "scene 'b': 0.1s is too short to be shown here",
    ),
    "shorter than a picture": (scenes("id: a, prompt: x, duration: 0.01"), "2:24", "shorter than one picture (0.062s)"),
    "no duration": (scenes("id: a, prompt: x"), "2:5", "scene 'a': how long does it last?"),
    "empty prompt": (scenes("id: a, prompt: '  ', duration: 5"), "2:13", "scene 'a': the prompt is empty"),
    "prompt of nothing": (scenes("id: a, prompt: , duration: 5"), "2:13", "scene 'a': the prompt is empty"),
    "no prompt": (scenes("id: a, duration: 5"), "2:5", "scene 'a': has no prompt"),
    "prompt that is a list": (scenes("id: a, prompt: [x, y], duration: 5"), "2:13", "scene 'a': prompt is a list"),
    "prompt that is a number": (
        scenes("id: a, prompt: 42, duration: 5"),
        "2:13",
        "prompt is a number, not text; put it in quotes: '42'",
    ),
    "no id": (scenes("prompt: x, duration: 5"), "2:5", "scene 1: has no id; add a short name, such as 'id: scene-1'"),
    "id with a space": (scenes("id: a b, prompt: x, duration: 5"), "2:6", "scene 1: id 'a b' must have 1 to 64 char"),
    "id that is reserved": (scenes("id: auto, prompt: x, duration: 5"), "2:6", "is reserved for recall:auto"),
    "id that is yes": (scenes("id: yes, prompt: x, duration: 5"), "2:6", "id is yes or no, not text; put it in quotes"),
    "a file of weights": ("model: gen.pt\n" + scenes(A), "1:1", "'gen.pt' is one file of weights, and a model is a "
                          "folder of several; name the model that a generator's checkpoint belongs to, and give the "
                          "file to --generator"),
    "unknown model": ("model: tinny\n" + scenes(A), "1:1", "no model is called 'tinny' (did you mean 'tiny'?)"),
    "empty model": ("model: ''\n" + scenes(A), "1:1", "model is empty"),
    "unknown policy": (
        "memory: windw\n" + scenes(A),
        "1:1",
        "no memory policy is called 'windw' (did you mean 'window'?)",
    ),
    "unknown setting": (
        "memory: {policy: window, recnt: 3}\n" + scenes(A),
        "1:26",
        "memory policy 'window' has no setting 'recnt'",
    ),
    "memory that is a list": ("memory: [window]\n" + scenes(A), "1:1", "memory must be a policy's name or a mapping"),
    "setting that is a date": ("memory: {cut: 2020-01-01}\n" + scenes(A), "1:10", "cut is a date"),
    "unknown setting of a transition": (
        scenes(A, f"{B}, memory: {{recnt: 3}}"),
        "3:46",
        "scene 'b': memory policy 'echo-forcing' has no setting 'recnt'",
    ),
    "a policy for one scene": (scenes(A, f"{B}, memory: {{policy: window}}"), "3:46", "a film has one policy"),
    "memory of no transition": (scenes(f"{A}, memory: {{decay: 1}}"), "2:37", "the first scene has no transition"),
    "size the model cannot do": (
        "size: 200x100\n" + scenes(A),
        "1:1",
        "model 'tiny' cannot make pictures of this size. Try 192x128.",
    ),
    "size of one number": ("size: 832\n" + scenes(A), "1:1", "size must be WIDTHxHEIGHT in pixels"),
    "size of nothing": ("size: 0x0\n" + scenes(A), "1:1", "size must be WIDTHxHEIGHT in pixels"),
    "seed that is negative": ("seed: -1\n" + scenes(A), "1:1", "seed must lie between 0 and 9223372036854775807"),
    "seed that is text": ("seed: seven\n" + scenes(A), "1:1", "seed must be a whole number, not 'seven'"),
    "fps of nothing": ("fps: 0\n" + scenes(A), "1:1", "fps must be a number between 1 and 240, not '0'"),
    "timing unknown": (
        "timing: exact\n" + scenes(A),
        "1:1",
        "timing must be one of cumulative, reference, not 'exact'",
    ),
    "newer version": ("version: 2\n" + scenes(A), "1:1", "version 2 cannot be read"),
    "title of nothing": ("title:\n" + scenes(A), "1:1", "title is empty"),
    "scenes of nothing": ("seed: 1\nscenes:\n", "2:1", "a storyboard needs scenes"),
    "no scenes": ("seed: 1\n", "1:1", "a storyboard needs scenes"),
    "empty list of scenes": ("scenes: []\n", "1:1", "a storyboard needs scenes"),
    "scenes by name": ("scenes: {a: {prompt: x}}\n", "1:1", "scenes must be a list"),
    "a scene of text": (scenes(A) + "  - rooftop\n", "3:5", "scene 2: a scene must be 'key: value' lines, not text"),
    "a list for a storyboard": ("- a\n- b\n", "1:1", "the storyboard must be 'key: value' lines, not a list"),
    "both at and duration": (
        scenes("id: a, prompt: x, at: 0, duration: 5", "id: b, prompt: x, at: 5, duration: 5"),
        "2:31",
        "has both 'at' (line 2) and 'duration' (line 2)",
    ),
    "at beside durations": (
        scenes("id: a, prompt: x, at: 0", B),
        "3:24",
        "scene 'b': has a 'duration' (line 3), but another scene has an 'at' (line 2)",
    ),
    "at in one scene alone": (
        "length: 9\n" + scenes("id: a, prompt: x, at: 0", "id: b, prompt: x"),
        "4:5",
        "scene 'b': has no 'at', but the scene on line 3 has",
    ),
    "first at later": (
        "length: 9\n" + scenes("id: a, prompt: x, at: 1"),
        "3:24",
        "the first scene begins at 0, not at 1s",
    ),
    "at that goes back": (
        "length: 9\n" + scenes("id: a, prompt: x, at: 0", "id: b, prompt: x, at: 5", "id: c, prompt: x, at: 4"),
        "5:24",
        "at 4s is not later than the scene before, which begins at 5s (line 4)",
    ),
    "no end": (scenes("id: a, prompt: x, at: 0"), "2:5", "scene 'a': when does it end?"),
    "length before the end": (
        "length: 4\n" + scenes("id: a, prompt: x, at: 0", "id: b, prompt: x, at: 5"),
        "1:1",
        "length is 4s, but the last scene begins only at 5s (line 4)",
    ),
    "two ends": (
        "length: 9\n" + scenes("id: a, prompt: x, at: 0", "id: b, prompt: x, at: 5, duration: 3"),
        "1:1",
        "length is 9s, but the last scene ends at 8s (duration on line 4)",
    ),
    "length against durations": (
        "length: 9\n" + scenes(A, B),
        "1:1",
        "length is 9s, but the scenes last 10s (the last duration is on line 4)",
    ),
    "no time left": (
        "length: 5\n" + scenes(A, "id: b, prompt: x"),
        "4:5",
        "scene 'b': no time is left: length (line 1)",
    ),
}


def test_the_name_of_a_model_sends_no_escapes_to_a_terminal() -> None:
    for name in ("\\e[31mgen.pt", "\\e[31mtinny"):
        assert all(map(str.isprintable, mistakes(f'model: "{name}"\n' + scenes(A))))


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_named_with_its_place(name: str) -> None:
    text, place, message = WRONG[name]
    noted = mistakes(text)
    assert len(noted) == 1, noted
    assert noted[0].startswith(f"film.yaml:{place}: ")
    assert message in noted[0]


def test_a_key_that_is_unlike_the_missing_one_does_not_stand_for_it() -> None:
    said = mistakes(scenes("id: a, prompt: x, colour: red"))
    assert len(said) == 2 and "has no key 'colour'; it may have" in said[1] and "how long does it last?" in said[0]


def test_all_mistakes_are_told_in_one_run_in_the_order_of_lines() -> None:
    texts = ["sede: 7", "size: big", "scenes:", "  - {id: a, prompt: '', duration: 5}",
             "  - {id: a, prompt: x, duration: -1, transition: recall:b}", "  - nothing", "seed: x"]
    noted = mistakes("\n".join(texts))
    assert [line.split(":")[1] for line in noted] == ["1", "2", "4", "5", "5", "5", "6", "7"]


@pytest.mark.parametrize(("name", "said"), [("a", "'a'"), ("3", "'3'"), ("' a  '", "'a'"), ("a b", "1"), ("auto", "1"),
                                            ("true", "1"), ("[a]", "1"), ("", "1")])
def test_every_message_about_a_scene_names_it_in_the_same_way(name: str, said: str) -> None:
    """Also those that are noted before the id has been read, or beside one that cannot be used."""
    noted = mistakes(scenes(f"promt: y, id: {name}, prompt: '', duration: -1"))
    assert len(noted) >= 3 and all(f": scene {said}: " in line for line in noted), noted


def test_a_model_given_from_outside_decides_the_sizes() -> None:
    text = "model: other/folder\nsize: 200x100\n" + scenes(A)
    assert parse(text, "film.yaml", RULES).size == (200, 100)
    with pytest.raises(StoryboardError, match="cannot make pictures"):
        parse(text, "film.yaml", replace(RULES, model="tiny"))


def test_without_rules_every_name_is_accepted() -> None:
    board = parse("model: m\nmemory: {policy: p, s: 1, t: {u: [1, x]}}\n" + scenes(A), "film.yaml")
    assert (board.model, board.policy, board.memory) == ("m", "p", {"s": 1, "t": {"u": [1, "x"]}})


def test_fifty_mistakes_are_told_and_the_others_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    for module in (fields, parse_module):
        monkeypatch.setattr(module, "did_you_mean", lambda word, known: looked.append(word) or "")
    keys = "".join(f"key{number}: 1\n" for number in range(2000))
    wrong = scenes(A, *(f"id: b{number}, prompt: x, duration: 1, transition: recall:c{number}"
                        for number in range(2000)))
    with pytest.raises(StoryboardError) as caught:
        parse(keys + wrong, "film.yaml")
    lines = caught.value.message.splitlines()
    assert len(lines) == 51 and lines[49].startswith("film.yaml:50:1: ") and lines[50] == "film.yaml: and 3,950 more"
    assert (len(caught.value.mistakes), caught.value.count) == (50, 4000)
    assert len(looked) <= 50


def test_the_first_mistakes_are_told_whenever_they_are_found() -> None:
    many = scenes(*(f"id: b{number}, prompt: x, duration: 1, colour: red" for number in range(60)), A)
    with pytest.raises(StoryboardError, match="^film.yaml:1:1: no model is called"):
        parse("model: none\n" + many, "film.yaml", RULES)


def test_a_film_that_is_too_long_is_a_mistake_with_a_place() -> None:
    with pytest.raises(StoryboardError, match=r"^film.yaml:2:\d+: scene 'a': the film would have 12,096,000 blocks"):
        parse("fps: 240\n" + "scenes: [{id: a, prompt: x, duration: 168h}]", "film.yaml", RULES)


def test_very_many_settings_are_one_mistake() -> None:
    many = "memory:\n" + "".join(f"  key{number}: 1\n" for number in range(2000)) + scenes(A)
    with pytest.raises(StoryboardError) as caught:
        parse(many, "film.yaml", RULES)
    assert caught.value.message.splitlines() == [
        "film.yaml:2:3: memory has 2,000 settings, more than any policy knows; is this the right file?"]


def test_a_language_has_three_letters() -> None:
    assert parsed("language: deu\n" + scenes(A)).language == "deu" and parsed(scenes(A)).language is None
    with pytest.raises(StoryboardError, match=r":1:\d+: language must be three letters of ISO 639-2, .* not 'de'"):
        parse("language: de\n" + scenes(A))
