"""A planned command is one line, and a shell reads from it the words that were meant."""

import json
import os
import subprocess
import sys

import pytest

from echo_cli.errors import UsageError
from echo_cli.models.running import Offload, Pictures, Running
from echo_cli.render.batch.outcome import Orders
from echo_cli.render.batch.plan import command, line
from echo_cli.render.job import Choices
from echo_cli.render.progress import Style
from echo_cli.video.encoding import Encoding
from echo_cli.video.subtitles import Subtitles

NAMES = ["plain.yaml", "two words.yaml", "it's \"one\".yaml", "-n.yaml", "a\nb\r\t.yaml", "фильм 🎬.yaml",
         os.fsdecode(b"\xff\xe9.yaml"),
         "$HOME `x` $(x) \\ % %s {}*?[].yaml", "a\n%d\\n'x'.yaml", "\u2028line\x85.yaml", "x" * 255]


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_back_the_words(name: str, shell: str) -> None:
    told = line([sys.executable, "-c", "import json,sys; print(json.dumps(sys.argv[1:]))", name])
    assert len(told.splitlines()) == 1
    done = subprocess.run([shell, "-c", os.fsencode(told)], capture_output=True, check=True)
    assert json.loads(done.stdout) == [name]


def test_a_name_that_no_line_can_say_is_refused() -> None:
    with pytest.raises(UsageError, match="ends in a line break"):
        line(["a\n"])


def test_everything_that_was_chosen_is_in_it() -> None:
    here = os.getcwd()
    assert command("a.yaml", "out/a.mp4", Choices(), [], Orders()) == [
        "echo-cli", "generate", f"{here}/a.yaml", "-o", f"{here}/out/a.mp4"]
    chosen = Choices(
        3,
        "tiny",
        "sink",
        {},
        (96, 64),
        2,
        Subtitles.BURN,
        Encoding("libx265", 20.5, "slow"),
        "cuda:1",
        "float16",
        Running(Pictures.FAST, offload=Offload.LAYERS, compiled=False),
    )
    words = command(
        "a.yaml",
        "/out/a.mp4",
        chosen,
        ["memory.anchor_frames=6"],
        Orders("cuda:1", "float16", force=True, restart=True, checkpoint_every=5.0, grace=10.0),
        Style.DEADLINE,
    )
    assert words[5:] == [
        "--seed",
        "3",
        "--model",
        "tiny",
        "--memory",
        "sink",
        "--set",
        "memory.anchor_frames=6",
        "--size",
        "96x64",
        "--scale",
        "2",
        "--subtitles",
        "burn",
        "--crf",
        "20.5",
        "--preset",
        "slow",
        "--codec",
        "libx265",
        "--device",
        "cuda:1",
        "--dtype",
        "float16",
        "--decoder",
        "fast",
        "--offload",
        "layers",
        "--checkpoint-every",
        "5.0",
        "--grace",
        "10.0",
        "--progress",
        "deadline",
        "--no-compile",
        "--force",
        "--restart",
    ]


def test_a_models_folder_is_absolute_too(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert f"{tmp_path}/mine" in command("a.yaml", "a.mp4", Choices(model="./mine"), [], Orders())
