"""A planned command is one line, and a shell reads from it the words that were meant."""

import json
import os
import subprocess
import sys
from typing import Any, Literal, get_args, get_origin

import pytest
import typer

from echo_cli.cli.options import takes
from echo_cli.errors import UsageError
from echo_cli.render.batch.plan import command, line
from echo_cli.render.options import Field, fields_of
from echo_cli.render.request import Request

NAMES = ["plain.yaml", "two words.yaml", "it's \"one\".yaml", "-n.yaml", "a\nb\r\t.yaml", "фильм 🎬.yaml",
         os.fsdecode(b"\xff\xe9.yaml"),
         "$HOME `x` $(x) \\ % %s {}*?[].yaml", "a\n%d\\n'x'.yaml", "\u2028line\x85.yaml", "x" * 255]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_back_the_words(name: str, shell: str) -> None:
    said = line([sys.executable, "-c", "import json,sys; print(json.dumps(sys.argv[1:]))", name])
    assert len(said.splitlines()) == 1
    done = subprocess.run([shell, "-c", os.fsencode(said)], capture_output=True, check=True)
    assert json.loads(done.stdout) == [name]


def test_a_name_that_no_line_can_say_is_refused() -> None:
    with pytest.raises(UsageError, match="ends in a line break"):
        line(["a\n"])


SOME = {
    "seed": 3,
    "model": "tiny",
    "memory": "sink",
    "settings": ("memory.anchor_frames=6", "memory.window=21"),
    "size": (96, 64),
    "device": "cuda:1",
    "dtype": "float16",
    "decoder": "fast",
    "fast": True,
    "offload": "layers",
    "compile": False,
    "scale": 2,
    "subtitles": "burn",
    "font": "/fonts/mine.ttf",
    "force": True,
    "crf": 20.5,
    "codec": "libx265",
    "preset": "slow",
    "resume": False,
    "checkpoint_every": 5.0,
    "wait": 60.0,
    "grace": 10.0,
    "progress": "deadline",
    "scenes": "/out/a.scenes",
    "audio": "/sounds/rain.wav",
    "keep_states": "all",
    "keep_room": "5GB",
    "sign_cert": "/keys/chain.pem",
    "sign_key": "/keys/key.pem",
}


def another(field: Field) -> Any:
    """A value that is not the default, by the type of the option alone."""
    types = [each for each in (get_args(field.type) or (field.type,)) if each is not type(None)]
    if bool in types:
        return not field.default
    if get_origin(field.type) is Literal or isinstance(types[0], str):
        return next(each for each in types if each != field.default)
    number = next((each for each in (int, float) if each in types), None)
    return number(7) if number else "another"


# A new option takes part without an edit here, unless its values follow rules of their own.
EVERYTHING = {field.name: another(field) for field in fields_of(Request)
              if field.option.planned and not field.option.argument and field.name != "output"} | SOME


def test_what_was_not_chosen_is_not_in_it() -> None:
    here = os.getcwd()
    assert command(Request("a.yaml", "out/a.mp4")) == [
        "echo-cli", "generate", f"{here}/a.yaml", "-o", f"{here}/out/a.mp4"]


def test_everything_that_was_chosen_is_in_it_and_is_read_back() -> None:
    request = Request("/in/a.yaml", "/out/a.mp4", **EVERYTHING)
    planned = {field.name for field, _ in request.values() if field.option.planned}
    assert planned == {*EVERYTHING, "storyboard", "output"} and set(SOME) <= planned
    assert all(value != field.default for field, value in request.values() if field.name in EVERYTHING)
    words = command(request)
    for said in ("--seed 3", "--set memory.anchor_frames=6 --set memory.window=21", "--size 96x64", "--no-compile",
                 "--crf 20.5", "--checkpoint-every 5.0", "--grace 10.0", "--fast", "--force", "--restart"):
        assert f" {said} " in f" {' '.join(words)} "
    read: list[Request] = []
    app = typer.Typer()
    app.command()(takes(Request)(read.append))
    typer.main.get_command(app).main(words[2:], standalone_mode=False)
    assert read == [request]


def test_a_models_folder_is_absolute_too(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert f"{tmp_path}/mine" in command(Request("a.yaml", "a.mp4", model="./mine"))
