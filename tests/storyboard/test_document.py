"""Files that are not YAML, not text or not there, and YAML's own traps."""

from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.storyboard.canonical import storyboard_hash
from echo_cli.storyboard.document import LARGEST, decode
from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.parse import load, parse

SCENES = "scenes:\n  - {id: a, prompt: x, duration: 5}\n"

# (text, where, message)
BROKEN = {
    "empty": ("", "1:1", "the storyboard is empty"),
    "only a comment": ("# film\n", "1:1", "the storyboard is empty"),
    "tab as indentation": ("scenes:\n\t- id: a\n", "2:1", "a tab; YAML needs spaces"),
    "tab before a value": ("seed:\t7\n" + SCENES, "1:6", "a tab; YAML needs spaces"),
    "colon in a text": ("title: Recall: the film\n" + SCENES, "1:14", "a ': ' is not allowed here"),
    "open bracket": ("scenes: [\n", "2:1", "the end of the file"),
    "open quote": ("title: 'x\n", "2:1", "a quote was opened and not closed"),
    "unknown alias": ("title: *name\n" + SCENES, "1:8", "undefined alias 'name'"),
    "two documents": (SCENES + "---\n" + SCENES, "3:1", "a second document begins here"),
    "python object": ("title: !!python/object:os.system x\n" + SCENES, "1:8", "tag 'tag:yaml.org,2002:python/obj"),
    "own tag on a mapping": ("memory: !x {policy: window}\n" + SCENES, "1:9", "tag '!x' is not understood"),
    "control character": ("seed: 1\ntitle: a\x07b\n" + SCENES, "2:9", "character U+0007 is not allowed"),
    "nul": ("\x00", "1:1", "character U+0000 is not allowed"),
    "too deep": ("scenes: " + "[" * 1000, "1:1", "nested too deeply"),
    "alias of itself": ("memory: &m {policy: *m}\n" + SCENES, "1:1", "an alias contains itself"),
    "half a character": ('title: "a red \\uD800 ball"\n' + SCENES, "1:8", "escape \\uD800 is half a character"),
    "half a character as a key": ('"\\uDC00": x\n' + SCENES, "1:1", "escape \\uDC00 is half a character"),
    "number that is none": ("seed: !!int x\n" + SCENES, "1:1", "seed is a number that cannot be understood: 'x'"),
    "number that begins with a zero": ("seed: 010\n" + SCENES, "1:1",
                                       "seed is '010', which YAML takes for an octal number; write 10, or put it in"),
}


SYNTAX = {
    "scenes:\n  - id: \"a\n    prompt: x\n": "a quote was opened and not closed",
    "scenes: [{id: a}\n": "',' or ']' is missing before 'the end of the file'",
    'scenes: [}\n': "a value is missing before '}'",
    'scenes:\n  - id: "a\\q"\n': "'\\q' means nothing in double quotes",
    "scenes:\n  - id: a\n   prompt: x\n": "this line does not line up with the lines above",
    "scenes:\n   - id: a\n  - id: b\n": "a '-' that does not line up with the lines above",
    "scenes:\n  - id: @a\n": "a text cannot begin with '@'",
    "scenes:\n  - id: a\n    prompt\n    duration: 2s\n": "a ':' is missing after a name",
    "title: x\nscenes\n": "a ':' is missing after a name",
    "%YAML 3.0\n---\nscenes: 3\n": "written in a version of YAML that cannot be read",
}


@pytest.mark.parametrize("text", SYNTAX)
def test_what_is_not_yaml_is_said_in_words_for_authors(text: str) -> None:
    with pytest.raises(StoryboardError) as caught:
        parse(text, "film.yaml")
    assert SYNTAX[text] in caught.value.message
    assert not any(word in caught.value.message for word in ("while ", "scalar", "token", "<block", "node", "flow"))


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_is_named_with_its_place(name: str) -> None:
    text, place, message = BROKEN[name]
    with pytest.raises(StoryboardError) as caught:
        parse(text, "film.yaml")
    assert caught.value.message.startswith(f"film.yaml:{place}: ")
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_exploding_aliases_are_refused_without_exploding() -> None:
    rows = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    with pytest.raises(StoryboardError, match=r"film.yaml:1:1: aliases .* repeat each other into millions"):
        parse("\n".join(rows), "film.yaml")


def test_a_harmless_alias_is_fine() -> None:
    board = parse("scenes:\n  - {id: a, prompt: &p a meadow, duration: &d 5}\n  - {id: b, prompt: *p, duration: *d}\n")
    assert [(scene.prompt, scene.seconds) for scene in board.scenes] == [("a meadow", 5.0)] * 2


def test_encodings() -> None:
    assert decode("\ufefftitle: é".encode(), "f") == "title: é"
    with pytest.raises(StoryboardError, match=r"f:2:4: byte 0xe9 is not UTF-8"):
        decode("ab\ndéé".encode("latin-1").replace(b"d\xe9", "dé!".encode()), "f")
    with pytest.raises(StoryboardError, match="f:1:1: the file is UTF-16"):
        decode("title: x".encode("utf-16"), "f")
    with pytest.raises(UsageError, match="larger than 64 MB"):
        decode(b" " * (LARGEST + 1), "f")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text(SCENES)
    with pytest.raises(UsageError, match=r"quickstrt.yaml: there is no such file \(did you mean '.*quickstart.yaml'"):
        load(str(tmp_path / "quickstrt.yaml"))
    for name in ("nowhere/film.yaml", "nothere.yaml", "*.yaml", "st.yaml"):
        (tmp_path / "rec.yaml").touch()
        (tmp_path / "t.yaml").touch()
        with pytest.raises(UsageError, match="there is no such file$"):
            load(str(tmp_path / name))


def test_a_folder_and_a_name_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder, not a storyboard"):
        load(str(tmp_path))
    with pytest.raises(UsageError, match="cannot be read"):
        load(str(tmp_path / "x\0y"))
    with pytest.raises(UsageError, match="cannot be read: File name too long"):
        load(str(tmp_path / ("x" * 300)))


def test_characters_that_json_escapes_in_two_halves_are_whole() -> None:
    board = parse('{"title": "\\ud83c\\udfac", "scenes": [{"id": "a", "prompt": "x", "duration": 5}]}')
    assert board.title == "🎬" and len(storyboard_hash(board)) == 64
