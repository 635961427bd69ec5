"""`validate` as people run it: the table, the object, the schema, and every mistake with exit code 2."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from echo_cli.cli import app
from echo_cli.models.tiny.words import concepts_of, unknown_words
from echo_cli.render.prepare import storyboard_rules
from echo_cli.storyboard.parse import load
from echo_cli.storyboard.schema import schema
from tests.storyboard.test_document import BROKEN
from tests.storyboard.test_parse import WRONG, A, scenes

EXAMPLES = sorted((Path(__file__).parents[2] / "storyboards").glob("*.yaml"))

FILM = """\
title: There and back
seed: 3
scenes:
  - {id: meadow, prompt: a red ball in a green meadow, duration: 10s}
  - {id: city, prompt: a blue box in the city, duration: 10s, transition: cut}
  - {id: back, prompt: a green ball in a meadow, duration: 10.3s, transition: recall:auto}
"""


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = app.run(["validate", *arguments])
    return code, *capfd.readouterr()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.yaml"
    path.write_text(FILM)
    return path


def test_the_table_says_what_becomes_of_every_scene(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, reply, errors = run(capfd, str(film))
    assert (code, errors) == (0, "")
    lines = reply.splitlines()
    assert lines[0] == ("There and back  0:30.312 at 16 fps: 485 pictures, 123 latent frames, 41 blocks; model tiny, "
                        "memory echo, seed 3")
    assert lines[3].split() == [
        "city",
        "hard",
        "cut",
        "0:10",
        "–",
        "0:20",
        "0:10.312",
        "–",
        "0:20.062",
        "+0.312s",
        "13",
        "(14–26)",
        "39",
        "(42–80)",
        "156",
        "(165–320)",
    ]
    assert lines[5].startswith("back recalls meadow (similarity 0.") and "; next city, 0.000)" in lines[5]
    assert lines[6] == (
        "blocks of 0.75s; boundaries moved by 0.312s at most; 4 pictures of the last block are trimmed; "
        "the film is 0.012s longer than the 0:30.3 asked"
    )
    film.write_text("scenes: [{id: a, prompt: a red ball, duration: 1.03s}]")
    assert "the film is 0.030s shorter than the 0:01.03 asked" in run(capfd, str(film))[1]


def test_a_recall_by_name_may_be_of_a_place_that_is_less_like_it(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text("scenes:\n- {id: one, prompt: a red ball on a beach, duration: 2s}\n"
                    "- {id: two, prompt: a blue star in the city, duration: 2s}\n"
                    "- {id: three, transition: 'recall:two', prompt: a red ball on a beach, duration: 2s}\n")
    assert re.search(
        r"^three recalls two \(similarity 0\.\d+; one is more similar, 1\.000\)$", run(capfd, str(film))[1], re.M
    )


def test_the_object_says_the_same(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, reply, _ = run(capfd, "--json", str(film))
    result = json.loads(reply)
    assert (code, result["valid"], result["pictures"], result["blocks"], result["frames"]) == (0, True, 485, 41, 123)
    city, back = result["scenes"][1:]
    assert city["transition"] == "hard cut"
    assert (city["blocks"], city["frames"], city["pictures"]) == ([14, 27], [42, 81], [165, 321])
    assert city["asked"] == {"begins": 10.0, "ends": 20.0}
    assert city["real"] == {"begins": 10.3125, "ends": 20.0625} and city["moved"] == 0.3125
    assert back["recall"]["scene"] == "meadow" and back["recall"]["runner_up"] == {"scene": "city", "score": 0.0}
    assert result["canonical"]["scenes"][2]["transition"] == "recall:auto"


def test_words_that_tiny_has_never_met_are_named(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text(FILM.replace("a blue box", "a blue zeppelin"))
    assert run(capfd, str(film))[1].endswith("tiny does not know these words and will not show them: zeppelin\n")
    assert json.loads(run(capfd, "--json", str(film))[1])["unknown_words"] == ["zeppelin"]
    assert json.loads(run(capfd, "--json", str(film), "--model", "wan2.1-t2v-1.3b")[1])["unknown_words"] == []


def test_what_a_style_says_against_the_prompts_is_told(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text("style: golden light, shallow depth of field\n" + FILM)
    warnings = json.loads(run(capfd, "--json", str(film))[1])["warnings"]
    assert any(warning.startswith("tiny shows one place at a time, and ") for warning in warnings)
    assert any("'golden', 'blue'" in warning for warning in warnings) and len(warnings) < 8


@pytest.mark.parametrize(("words", "code"), [
    ("h264 --crf 60", 2), ("h265 --crf 60", 2), ("vp9 --crf 63", 0), ("vp9 --crf 64", 2), ("av1 --preset 99", 2),
    ("prores-422", 0), ("prores-4444", 0), ("prores --crf 3", 2), ("libx265 --crf 60", 2), ("h264_nvenc --crf 99", 0)])
def test_a_codec_is_checked_under_every_name(words: str, code: int, film: Path,
                                             capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, str(film), "--codec", *words.split())[0] == code


@pytest.mark.parametrize("setting", ["match: idf", "least_similarity: 0.5", "keyframes: 9"])
def test_a_setting_of_the_film_in_a_scene_is_sent_to_the_film(setting: str, film: Path,
                                                              capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text(FILM.replace("transition: recall:auto", f"transition: recall:auto, memory: {{{setting}}}"))
    code, _, said = run(capfd, str(film))
    assert code == 2 and f"'{setting.partition(':')[0]}' is a setting of the film; write it" in said


def test_a_policy_without_a_library_recalls_nothing_and_embedding_is_chosen_later(
        film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text("memory: window\n" + FILM)
    assert json.loads(run(capfd, "--json", str(film))[1])["scenes"][2]["recall"] is None
    film.write_text("memory: {match: embedding}\n" + FILM)
    assert "back recalls a scene that is chosen by embedding when the film is rendered" in run(capfd, str(film))[1]


def test_many_files_one_line_each_and_the_bad_ones_do_not_hide_the_good(film: Path, tmp_path: Path,
                                                                        capfd: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("sede: 1\n" + scenes(A))
    code, reply, errors = run(capfd, "--json", str(bad), "x" * 300, str(film), str(tmp_path / "none.yaml"))
    first, long, second, third = map(json.loads, reply.splitlines())
    assert code == 2
    assert first == {"storyboard": str(bad), "valid": False, "mistakes": [
        {"line": 1, "column": 1, "message": "the storyboard has no key 'sede' (did you mean 'seed'?)"}]}
    assert (long["valid"], second["valid"], third["valid"]) == (False, True, False)
    assert errors.splitlines()[-1] == "3 of 4 storyboards have mistakes"


def test_a_model_whose_path_is_too_long_does_not_hide_the_next_storyboard(film: Path, tmp_path: Path,
                                                                          capfd: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(f"model: ./{'x' * 300}\n" + scenes(A))
    code, reply, errors = run(capfd, "--json", str(bad), str(film))
    assert code == 2 and [json.loads(line)["valid"] for line in reply.splitlines()] == [False, True]
    assert "the name is too long for this file system\nhint: Check the path.\n" in errors


def test_standard_input() -> None:
    tool = [sys.executable, "-c", "from echo_cli.cli.app import main; main()", "validate", "-"]
    assert subprocess.run(tool, input=FILM, text=True, capture_output=True).stdout.startswith("There and back")
    bad = subprocess.run(tool, input="scenes: 1\n", text=True, capture_output=True)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("<stdin>:1:1: scenes must be a list")


def test_the_schema_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    code, printed, _ = run(capfd, "--schema")
    assert code == 0
    assert json.loads(printed) == schema()


@pytest.mark.parametrize("name", [*WRONG, *BROKEN])
def test_every_mistake_is_exit_code_2_and_nothing_on_standard_output(name: str, tmp_path: Path,
                                                                     capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "film.yaml"
    path.write_text((WRONG | BROKEN)[name][0], encoding="utf-8")
    code, reply, errors = run(capfd, str(path))
    assert (code, reply) == (2, "")
    assert errors.startswith(f"{path}:") and "Traceback" not in errors


def test_what_is_no_storyboard_at_all(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, str(tmp_path)) == (2, "", f"{tmp_path}: is a folder, not a storyboard\n"
                                         "hint: Name a YAML file inside it.\n")
    assert run(capfd)[0] == 2
    (tmp_path / "latin.yaml").write_bytes("title: é\n".encode("latin-1"))
    assert run(capfd, str(tmp_path / "latin.yaml"))[2].startswith(f"{tmp_path}/latin.yaml:1:8: byte 0xe9 is not UTF-8")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    assert run(capfd, str(tmp_path / "photo.png"))[2].startswith(
        f"{tmp_path}/photo.png: is a binary file, not a storyboard\nhint: Name a text file")


def test_another_model_may_be_asked_for(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text("size: 64x48\n" + FILM)
    assert "'tiny' cannot make pictures of 64x48: " in run(capfd, str(film))[2]
    assert run(capfd, str(film), "--model", "wan2.1-t2v-1.3b")[0] == 0
    assert run(capfd, str(film), "--model", "wann")[0] == 2


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_right_and_in_words_that_tiny_knows(path: Path) -> None:
    board = load(str(path), storyboard_rules())
    for scene in board.scenes:
        assert unknown_words(scene.prompt) == []
        said = concepts_of(scene.prompt)
        assert all(len(said[what]) == 1 for what in ("place", "time", "subject", "colour", "motion")), scene.prompt
    assert path.read_text().startswith("# ")


def test_the_examples_teach_what_there_is() -> None:
    assert len(EXAMPLES) >= 8
    boards = {path.stem: yaml.safe_load(path.read_text()) for path in EXAMPLES}
    assert sum(scene.seconds for scene in load(str(EXAMPLES[0].parent / "quickstart.yaml")).scenes) <= 20
    kinds = {str(scene.get("transition", "smooth")).partition(":")[0] for board in boards.values()
             for scene in board["scenes"]}
    assert kinds == {"smooth", "hard cut", "recall"}
    assert any(scene.get("transition") == "recall:auto" for board in boards.values() for scene in board["scenes"])
    keys = {key for board in boards.values() for key in board}
    assert keys >= {"style", "memory", "timing", "length", "model", "aspect"}


def test_the_portrait_example_is_the_models_own_size_turned(capfd: pytest.CaptureFixture[str]) -> None:
    path = EXAMPLES[0].parent / "portrait.yaml"
    for model, size in (("wan2.1-t2v-1.3b", [480, 832]), ("tiny", [96, 160])):
        code, reply, _ = run(capfd, str(path), "--elsewhere", "--json", "--model", model)
        film = json.loads(reply)
        assert (code, film["size"]) == (0, size) and "may look worse" in film["warnings"][0]


def test_settings_are_checked_one_by_one_against_the_policy(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text(
        "memory: {policy: echo-forcing, recnt_frames: 3, smooth: {clear_after: -1, positions: tail}}\n" + FILM
    )
    assert run(capfd, str(film))[2].splitlines() == [
        f"{film}:1:32: memory policy 'echo-forcing' has no setting 'recnt_frames' (did you mean 'recent_frames'?)",
        f"{film}:1:58: memory policy 'echo-forcing', 'smooth': "
        "'clear_after' must be a whole number of at least 0, not -1",
    ]
    own = FILM.replace("transition: cut", "transition: cut, memory: {first_weight: 2, jump_value: 3}")
    film.write_text(own)
    assert run(capfd, str(film))[2] == (f"{film}:5:89: scene 'city': a hard cut transition of 'echo': "
                                        "'first_weight' must be a number of at least 0 and at most 1, not 2\n")
    film.write_text("memory: window\n" + own)
    assert run(capfd, str(film))[2].count("memory policy 'window' has no settings for a single transition") == 2


def test_lines_may_end_as_on_windows(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_bytes(FILM.replace("recall:auto", "recall:roof").replace("\n", "\r\n").encode())
    assert run(capfd, str(film))[2].startswith(f"{film}:6:67: scene 'back': recall of 'roof'")


@pytest.mark.parametrize("width", [40, 80, 140])
def test_it_fits_the_columns_that_there_are_and_breaks_no_word(
        width: int, film: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(capfd, str(film))[1]
    monkeypatch.setenv("COLUMNS", str(width))
    reply = run(capfd, str(film))[1]
    assert max(map(len, reply.splitlines())) <= width
    assert set(reply.split()) <= set(whole.split())
    heads = next(line for line in reply.splitlines() if line.startswith("scene ")).split()
    assert heads == {40: ["scene", "begins", "gets"], 80: ["scene", "begins", "asked", "gets", "moved", "pictures"],
                     140: ["scene", "begins", "asked", "gets", "moved", "blocks", "frames", "pictures"]}[width]


def test_a_scene_whose_name_is_wider_than_the_screen_gives_way(
        film: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    film.write_text(FILM.replace("meadow,", "m" * 60 + ",", 1))
    monkeypatch.setenv("COLUMNS", "40")
    reply = run(capfd, str(film))[1].splitlines()
    assert "m" * 39 + "…" in reply


def test_a_dozen_unknown_words_are_listed(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = " ".join(f"zeppelin{chr(97 + number)}" for number in range(20))
    film.write_text(FILM.replace("a blue box", words))
    reply = run(capfd, str(film))[1].splitlines()[-1]
    assert reply.startswith("warning: tiny does not know these words") and reply.count("zeppelin") == 12
    assert reply.endswith(" and 8 more")


def test_strict_fails_on_warnings(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(capfd, "--strict", str(film))[0] == 0
    film.write_text(FILM.replace("a blue box", "a blue zeppelin"))
    assert run(capfd, str(film))[0] == 0
    code, reply, errors = run(capfd, "--strict", "--json", str(film))
    assert (code, errors) == (2, "1 of 1 storyboard has warnings, which --strict does not allow\n")
    assert json.loads(reply)["warnings"] == ["tiny does not know these words and will not show them: zeppelin"]


def test_one_of_a_thing_is_no_plural(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text("scenes: [{id: a, prompt: a red ball, duration: 0.5s}]")
    reply = run(capfd, str(film))[1]
    assert "8 pictures, 3 latent frames, 1 block; " in reply and "1 picture of the last block is trimmed" in reply


@pytest.mark.parametrize(("size", "why"), [
    ("20000x20000", "size must have sides of at most 16,384 pixels, not 20,000"),
    ("192", "size must be WIDTHxHEIGHT in pixels, such as 832x480; '192' is not a size")])
def test_a_size_that_cannot_be_says_why(size: str, why: str, film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text(f"size: {size}\n{FILM}")
    assert run(capfd, str(film))[2] == f"{film}:1:1: {why}\n"


def test_more_mistakes_than_are_shown_are_counted_in_the_object(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text("".join(f"key{number}: 1\n" for number in range(70)) + FILM)
    result = json.loads(run(capfd, "--json", str(film))[1])
    assert (len(result["mistakes"]), result["more"]) == (50, 20)


def test_the_second_storyboard_is_read_also_where_the_first_names_a_model_that_is_not_here(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scenes = "scenes: [{id: a, prompt: a red ball, duration: 1s}]\n"
    Path("lacks.yaml").write_text(f"model: ./nowhere\n{scenes}")
    Path("fine.yaml").write_text(scenes)
    Path("wrong.yaml").write_text("scenes: []\n")
    assert app.run(["validate", "lacks.yaml", "fine.yaml"]) == 3
    out, err = capfd.readouterr()
    assert out.startswith("fine.yaml") and "nowhere: no model is in this folder" in err
    assert err.endswith("1 of 2 storyboards has a model that is not here\n")
    assert app.run(["validate", "lacks.yaml", "wrong.yaml"]) == 2
    assert "wrong.yaml:" in capfd.readouterr().err
    assert app.run(["validate", "lacks.yaml"]) == 3 and " of 1 " not in capfd.readouterr().err


@pytest.mark.parametrize(("top", "why"), [
    ("memory: {window: 3}", "a window of 3 frames leaves no room"),
    ("size: 288x512", "makes stripes of pictures of 288x512"),
    ("memory: {policy: sink, anchor_frames: 21}", "leave no room for recent ones")])
def test_what_generate_refuses_is_a_mistake(top: str, why: str, film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text(f"{top}\n{FILM}")
    code, reply, errors = run(capfd, str(film))
    assert (code, reply) == (2, "") and errors.startswith(f"{film}: ") and why in errors
    assert app.run(["generate", str(film), "--dry-run"]) == 2
    assert why in capfd.readouterr().err


def test_a_recall_that_cannot_be_is_a_warning(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text(f"memory: window\n{FILM}")
    assert "\nwarning: memory policy 'window' keeps no scenes, so nothing is recalled in 'back'" in run(
        capfd, str(film))[1]
    assert run(capfd, "--strict", str(film))[0] == 2


def test_what_this_machine_lacks_is_a_warning_an_error_or_nothing(film: Path, tmp_path: Path,
                                                                  capfd: pytest.CaptureFixture[str],
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path))
    lack = "model 'wan2.1-t2v-1.3b' is not on this machine"
    arguments = (str(film), "--model", "wan2.1-t2v-1.3b")
    code, reply, _ = run(capfd, *arguments)
    assert code == 0 and f"warning: {lack}" in reply
    assert run(capfd, *arguments, "--elsewhere")[0] == 0 and lack not in run(capfd, *arguments, "--elsewhere")[1]
    code, reply, errors = run(capfd, *arguments, "--here")
    assert (code, reply) == (3, "") and lack in errors


def test_defaults_are_in_the_film_that_is_shown(film: Path, capfd: pytest.CaptureFixture[str],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_MEMORY", "window")
    _, reply, _ = run(capfd, str(film), "--json")
    shown = json.loads(reply)
    assert shown["policy"] == "window" and any("keeps no scenes" in warning for warning in shown["warnings"])
    monkeypatch.setenv("ECHO_MEMORY", "windo")
    code, _, errors = run(capfd, str(film))
    assert code == 2 and "ECHO_MEMORY: no memory policy is called 'windo' (did you mean 'window'?)" in errors


def test_a_recall_of_nothing_that_has_been_seen_is_told(film: Path, capfd: pytest.CaptureFixture[str]) -> None:
    film.write_text("scenes:\n- {id: one, prompt: a red ball on a beach, duration: 2s}\n"
                    "- {id: two, transition: 'recall:auto', prompt: a blue star in the city, duration: 2s}\n")
    code, reply, _ = run(capfd, str(film))
    assert code == 0 and ("two begins with a hard cut: the most similar scene, one, scores 0.000, below "
                          "memory.least_similarity=0.3; recall:one recalls it anyway") in reply
    film.write_text("memory: echo-forcing\n" + film.read_text())
    assert "two recalls one" in run(capfd, str(film))[1]


def test_a_name_that_no_film_can_have_is_still_validated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(b"caf\xe9.yaml")
    Path(name).write_text("scenes: [{id: a, prompt: a red ball, duration: 1s}]")
    assert app.run(["validate", name, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["reuse"] is None
