"""`import` and `export`: real commands, real files."""

import io
import json
import os
import random
import re
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from echo_cli.cli.app import run
from echo_cli.storyboard.parse import load
from tests.formats import files


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_one_film_goes_to_standard_output_and_what_is_left_out_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    Path("take.json").write_text(files.SCOPE)
    assert run(["import", "take.json"]) == 0
    out, err = capsys.readouterr()
    Path("take.yaml").write_text(out)
    assert [scene.prompt for scene in load("take.yaml").scenes] == ["a fox in snow", "a fox in a forest"]
    assert "take.json: left out: prompts[0]: the prompt of weight 40: a hen" in err
    assert "# Left out: prompts[0]: the prompt of weight 40: a hen" in out


def test_what_was_left_out_is_said_of_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("take.json").write_text(files.SCOPE)
    Path("take.txt").write_text(files.SCOPE)
    assert run(["import", "take.json", "take.txt", "-o", "out.v2"]) == 2
    assert "two of the files would become out.v2/take.yaml" in (err := capsys.readouterr().err)
    assert [line.partition(":")[0] for line in err.splitlines() if "a hen" in line] == ["take.json", "take.txt"]


def test_a_storyboard_is_not_written_under_the_name_of_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    Path("take.json").write_text(files.SCOPE)
    assert run(["import", "take.json", "-o", "take.mp4"]) == 2 and not Path("take.mp4").exists()
    assert capsys.readouterr().err.endswith("take.mp4: a storyboard's name ends in .yaml\nhint: Write -o take.yaml.\n")


def test_formats_are_known_by_the_names_of_their_tools(capsys: pytest.CaptureFixture[str]) -> None:
    Path("schedule.txt").write_text(files.FIZZNODES)
    for name in ("deforum", "FizzNodes", "schedule"):
        assert run(["import", "schedule.txt", "--from", name]) == 0
    Path("empty.srt").write_text("\n")
    Path("story.yaml").write_text("version: 1\nscenes: []\n")
    capsys.readouterr()
    for name, said in (("empty.srt", "the file is empty"), ("story.yaml", "this is a storyboard already")):
        assert run(["import", name]) == 2 and capsys.readouterr().err.startswith(f"{name}:1:1: {said}\n")


def test_many_films_become_a_folder_that_validate_likes(capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.txt").write_text(files.ECHO_FORCING)
    assert run(["import", "prompts.txt"]) == 0
    assert sorted(path.name for path in Path("prompts").iterdir()) == ["prompts-1.yaml", "prompts-2.yaml"]
    assert run(["validate", "prompts/prompts-1.yaml", "prompts/prompts-2.yaml"]) == 0
    assert run(["import", "prompts.txt"]) == 5
    assert "exists" in capsys.readouterr().err
    assert run(["import", "prompts.txt", "--force"]) == 0
    assert run(["import", "prompts.txt", "-o", "one.yaml"]) == 2


def test_a_folder_of_captions(capsys: pytest.CaptureFixture[str]) -> None:
    shots = Path("shots")
    shots.mkdir()
    (shots / "1.json").write_text('{"caption": "A pier at dawn"}')
    (shots / "2.json").write_text('{"caption": "The scene transitions. A market at noon"}')
    (shots / "shot_durations.txt").write_text("2, 4")
    assert run(["import", "shots", "-o", "film.yaml"]) == 0
    film = load("film.yaml")
    results = [(scene.prompt, scene.seconds) for scene in film.scenes]
    assert results == [("A pier at dawn", 1.5), ("A market at noon", 3)]
    (shots / "shot_durations.txt").write_text("2")
    assert run(["import", "shots"]) == 2
    assert "1 lengths for 2 shots" in capsys.readouterr().err


def test_standard_input_may_be_any_format(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def piped(text: str, *command: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False))
        return run(list(command)), capsys.readouterr().out

    code, out = piped(files.OTIO, "import", "-")
    assert code == 0 and out.startswith("# Imported from standard input (otio).\n")
    assert "title: The cut" in out and "id: street\n" in out
    code, out = piped(files.OTIO, "validate", "-", "--json", "--model", "wan2.1-t2v-1.3b", "--elsewhere")
    assert code == 0 and json.loads(out)["storyboard"] == "<stdin>, imported"
    code, out = piped(files.SRT, "export", "-", "--to", "chapters")
    assert (code, out.splitlines()[0]) == (0, "0:00 cat-mat")
    code, out = piped("{scenes: [{id: a, prompt: 'prompts: a cat', duration: 2s}]}", "export", "-", "--to", "chapters")
    assert (code, out) == (0, "0:00 a\n")


def test_a_size_that_the_model_does_not_render_is_left_out(capsys: pytest.CaptureFixture[str],
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    Path("take.json").write_text(files.SCOPE)
    assert run(["import", "take.json", "-o", "take.yaml"]) == 0
    assert "its size 832x480, which tiny does not render; add 'size: 832x480'" in capsys.readouterr().err
    assert load("take.yaml").size is None and run(["validate", "take.yaml"]) == 0
    monkeypatch.setenv("ECHO_MODEL", "wan2.1-t2v-1.3b")
    assert run(["import", "take.json", "-o", "wan.yaml"]) == 0
    assert load("wan.yaml").size == (832, 480)


def test_switch_frames_beside_the_prompts_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    Path("lines.jsonl").write_text(files.LONGLIVE)
    Path("lines.yaml").write_text("title: another file of the same name\n")
    assert run(["import", "lines.jsonl", "-o", "a/"]) == 0
    assert "each lasts 40 latent frames" in capsys.readouterr().err
    Path("lines.yaml").write_text(files.LONGLIVE_TIMES.replace("80", "60"))
    assert run(["import", "lines.jsonl", "-o", "b/"]) == 0
    assert [scene.seconds for scene in load("b/lines-1.yaml").scenes] == [10, 5, 15]


def test_a_storyboard_is_quoted_as_a_person_would(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one.txt").write_text("It's late: she won't sleep[5s] | \"No\", it's early: [sic][5s]")
    assert run(["import", "one.txt", "-o", "one.yaml"]) == 0
    assert 'prompt: "It\'s late: she won\'t sleep"' in Path("one.yaml").read_text()
    assert [scene.prompt for scene in load("one.yaml").scenes] == [
        "It's late: she won't sleep", '"No", it\'s early: [sic]']


@pytest.mark.slow
def test_two_thousand_damaged_files_end_in_a_storyboard_or_in_an_error_with_a_place(
        capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(2000)
    for number in range(2000):
        text = dice.choice(list(files.EVERY.values()))
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(text) + 1)
            junk = dice.choice(("", "0", "-1", "NaN", '"', "{", "]", "|", "\n", "\x00", "1e999", "9" * 20, "é", "<"))
            text = text[:place] + junk + text[place + dice.choice((0, 1, 1, 3, 20, 200)):]
        Path("file").write_bytes(text.encode("latin-1" if dice.random() < 0.1 else "utf-8"))
        code = run(["import", "file", "--frames", "120", "-q", "-o", f"{number}/"])
        said = capsys.readouterr().err
        placed = re.match(r"file:\d+:\d+: ", said) or ("\0" in text and "file: is a binary file" in said)
        assert (code == 0 and Path(f"{number}").is_dir()) or (code == 2 and placed), said


def test_folders_of_captions_keep_their_names_and_the_order_of_their_numbers() -> None:
    for name, count in (("heist", 11), ("picnic", 2)):
        (Path("films") / name).mkdir(parents=True)
        for number in range(1, count + 1):
            (Path("films") / name / f"{number}.json").write_text(f'{{"caption": "shot {number}"}}')
    assert run(["import", "films", "-q", "-o", "boards/new/"]) == 0
    assert sorted(path.name for path in Path("boards/new").iterdir()) == ["heist.yaml", "picnic.yaml"]
    assert [scene.prompt for scene in load("boards/new/heist.yaml").scenes] == [f"shot {n}" for n in range(1, 12)]


@pytest.mark.parametrize(("make", "why"), [
    (Path.mkdir, "Is a directory"),
    (os.mkfifo, "it is a pipe or a device, not a file"),
    (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
], ids=["folder", "pipe", "link"])
def test_a_caption_that_cannot_be_read_is_named(make: Callable[[Path], object], why: str,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    Path("shots").mkdir()
    make(Path("shots/1.json"))
    assert run(["import", "shots"]) == 2
    assert capsys.readouterr().err.splitlines()[0] == f"shots/1.json:1:1: the caption cannot be read: {why}"


def test_the_folder_of_an_output_is_made() -> None:
    Path("cues.srt").write_text(files.SRT)
    assert run(["import", "cues.srt", "-q", "-o", "new/boards/cues.yaml"]) == 0
    assert run(["export", "new/boards/cues.yaml", "-q", "-o", "new/cuts/cues.otio"]) == 0
    assert Path("new/cuts/cues.otio").exists()


def test_errors_name_the_place(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.otio").write_text(files.OTIO[:300])
    assert run(["import", "a.otio"]) == 2
    assert "a.otio:" in capsys.readouterr().err
    assert run(["import", "a.otio", "--from", "otoi"]) == 2
    assert "did you mean 'otio'?" in capsys.readouterr().err
    assert run(["import", "missing.srt"]) == 2


def test_export_by_suffix_or_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    Path("prompts.srt").write_text(files.SRT)
    assert run(["import", "prompts.srt", "-o", "film.yaml", "-q"]) == 0
    assert run(["export", "film.yaml", "-o", "film.fcpxml"]) == 0
    assert run(["import", "film.fcpxml", "-o", "again.yaml"]) == 0
    assert load("again.yaml").scenes[1].prompt == load("film.yaml").scenes[1].prompt == "A dog at the door"
    assert run(["export", "film.yaml", "-o", "film.fcpxml"]) == 5
    assert run(["export", "film.yaml"]) == 2
    assert "Name one with --to" in capsys.readouterr().err
    assert run(["export", "film.yaml", "--to", "longlive", "-o", "lines.jsonl"]) == 0
    assert "switch_frame_indices: 18, 42" in Path("lines.yaml").read_text()


@pytest.mark.parametrize("words", [["--to", "longlive", "-o", "film.jsonl"], ["--to", "vtt", "-o", "./film.yaml"]])
def test_what_is_exported_is_not_overwritten(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("film.yaml").write_text(text := "scenes: [{id: a, prompt: a red ball, duration: 1s}]")
    assert run(["export", "film.yaml", *words, "--force"]) == 5
    assert "film.yaml is what is exported" in capsys.readouterr().err and Path("film.yaml").read_text() == text


def test_quiet_prints_nothing_but_the_storyboard_or_the_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    Path("take.json").write_text(files.SCOPE)  # with something that is left out
    assert run(["import", "take.json", "-q", "-o", "take.yaml"]) == 0
    assert run(["export", "take.yaml", "-q", "-o", "take.srt"]) == 0
    assert capsys.readouterr() == ("", "")
    assert run(["import", "take.json", "-q", "-o", "-"]) == 0
    assert capsys.readouterr() == (Path("take.yaml").read_text(), "")
    assert run(["export", "take.yaml", "-q", "--to", "srt", "-o", "-"]) == 0
    assert capsys.readouterr() == (Path("take.srt").read_text(), "")


def test_validate_and_export_read_what_generate_reads(capsys: pytest.CaptureFixture[str]) -> None:
    Path("cut.otio").write_text(files.OTIO)
    Path("take.json").write_text(files.SCOPE)
    assert run(["validate", "cut.otio", "take.json", "--json", "--model", "wan2.1-t2v-1.3b", "--elsewhere"]) == 0
    cut, take = map(json.loads, capsys.readouterr().out.splitlines())
    assert cut["storyboard"] == "cut.otio, imported"
    assert [scene["id"] for scene in cut["scenes"]] == ["roof", "street"]
    assert "left out: prompts[0]: the prompt of weight 40: a hen" in take["warnings"]
    assert run(["export", "take.json", "--to", "srt"]) == 0
    out, err = capsys.readouterr()
    assert "00:00:11,500" in out and "left out: prompts[0]: the prompt of weight 40: a hen" in err
    Path("prompts.txt").write_text(files.ECHO_FORCING)
    for command in (["validate", "prompts.txt"], ["export", "prompts.txt", "--to", "vtt"]):
        assert run(command) == 2
        assert "prompts.txt has 2 films" in capsys.readouterr().err


def test_export_names_what_is_wrong_with_a_json_file(capsys: pytest.CaptureFixture[str]) -> None:
    Path("board.json").write_text('{"scenes": [{"id": "a", "prompt": "a red ball", "duration": "2s"}]}')
    assert run(["export", "board.json", "--to", "chapters"]) == 0
    assert capsys.readouterr().out == "0:00 a\n"
    assert run(["export", "film.trace.json", "--to", "srt"]) == 2
    assert "film.trace.json does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "place", "why"), [
    ('{"scenes": [}', "1:13", "a value is missing here"),
    ('{"scenes": ', "1:12", "a value is missing here"),
    ('{"scenes": [] "a"}', "1:15", "a ',' or a closing bracket is missing here"),
    ('{"scenes": "a}', "1:12", "a text begins here and has no closing quote"),
])
def test_broken_json_is_not_called_yaml(text: str, place: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.json").write_text(text)
    assert run(["validate", "broken.json"]) == 2
    assert capsys.readouterr().err.startswith(f"broken.json:{place}: not valid JSON: {why}\n")


def test_a_broken_result_of_a_bench_is_named_in_plain_words(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.json").write_text('{"kind": ')
    assert run(["bench", "compare", "broken.json", "broken.json"]) == 2
    assert "broken.json: cannot be read: not valid JSON at line 1, column 10\n" in capsys.readouterr().err
