"""Interrupted films by the real command: what it says, what it leaves, and that the same command goes on."""

import json
import os
import random
import re
import signal
import subprocess
from pathlib import Path

import pytest

from echo_cli.cli.app import run
from echo_cli.files import sha256
from echo_cli.models import loaders
from echo_cli.render.keeper import Keeper
from echo_cli.video import read
from tests.cli.test_generate import LONG, encoders, gone, names, start
from tests.render import stage

OPTIONS = ("--scale", "1", "--preset", "ultrafast")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.settle(tmp_path / "here", monkeypatch)


def generate(*arguments: str, story: str = "story.yaml") -> int:
    return run(["generate", *OPTIONS, *arguments, "--", story])


def strike(monkeypatch: pytest.MonkeyPatch, block: int, then) -> None:
    """`then` happens once, after so many blocks."""
    due, count = Keeper.due, [0]

    def counted(keeper: Keeper) -> bool:
        count[0] += 1
        if count[0] == block:
            then()
        return due(keeper)

    monkeypatch.setattr(Keeper, "due", counted)


def stop(monkeypatch: pytest.MonkeyPatch, block: int, number: signal.Signals = signal.SIGTERM) -> None:
    strike(monkeypatch, block, lambda: os.kill(os.getpid(), number))


def hashes(folder: Path = Path(".")) -> dict[str, str]:
    return {path.name: sha256(path) for path in folder.iterdir() if path.suffix in (".mp4", ".srt", ".png")}


def test_the_same_command_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "whole") == 0
    stop(monkeypatch, 3)
    assert generate("-o", "film") == 75
    err = capsys.readouterr().err
    assert re.search(r"SIGTERM: stopping after this block, within 25 seconds; a second signal stops at once", err)
    assert re.search(r"stopped by SIGTERM after block [45] of 6; kept [\d.]+ [kM]B in film.resume "
                     r"\(never more than [\d.]+ MB\)", err)
    assert "hint: Everything up to block" in err and "Run the same command again to resume." in err
    assert (
        names() >= {"film.resume", "film.trace.json.partial"}
        and "film.lock" not in names()
        and "film.mp4" not in names()
    )
    assert generate("-o", "film", "--dry-run") == 0
    assert re.search(r"interrupted after block [45] of 6: will be resumed from there", capsys.readouterr().out)
    assert generate("-o", "film", "--json") == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert result["sittings"] == 2 and re.search(r"film.mp4: resuming after block [45] of 6", err)
    assert result["sitting_seconds"] < result["wall_seconds"]
    assert f" s of it loading; {result['wall_seconds']:.1f} s with the sittings before\n" in err
    assert sha256(Path("film.mp4")) == sha256(Path("whole.mp4"))
    assert {name.replace("whole", "film") for name in names()} == {name for name in names() if name.startswith("film")}


def test_another_film_is_refused_until_the_first_is_discarded(monkeypatch: pytest.MonkeyPatch,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    stop(monkeypatch, 2, signal.SIGINT)
    assert generate("-o", "film") == 75
    monkeypatch.setattr(loaders.FAMILIES["random"], "load", None)  # it is known before a model is loaded
    for flag in ((), ("--resume",)):
        assert generate("-o", "film", "--seed", "9", *flag) == 2
        assert "seed was 5, now 9" in (err := capsys.readouterr().err) and "--restart" in err


def test_a_discarded_one_is_begun_anew(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    stop(monkeypatch, 2)
    assert generate("-o", "film") == 75
    assert generate("-o", "film", "--seed", "9", "--restart") == 0
    assert "going on" not in capsys.readouterr().err and "film.resume" not in names()
    assert json.loads(Path("film.manifest.json").read_text())["identity"]["seed"] == 9
    assert generate("-o", "film", "--seed", "9", "--resume") == 0 and "skipped" in capsys.readouterr().err


def test_nothing_to_go_on_from_is_no_mistake() -> None:
    assert generate("-o", "film", "--resume") == 0


def test_a_finished_film_is_skipped_without_a_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("-o", "film") == 0
    monkeypatch.setattr(loaders.FAMILIES["random"], "load", None)
    assert generate("-o", "film") == 0 and "skipped" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stream_says_that_it_cannot_go_on() -> None:
    Path("story.yaml").write_text(LONG)
    process = start("story.yaml", "-o", "-", "--progress", "plain", stderr=subprocess.PIPE)
    process.stdout.read(2000)  # it flows
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 75 and names() == set()
    assert b"A film on standard output cannot be resumed. Run it again" in err


@pytest.mark.parametrize("name", ["it's \"one\"\n%d;$(x).mp4", "x" * 251 + ".mp4", *(
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("-a film.mp4", "фильм 🎬.mp4", "it's \"one\"\n$(x) %03d.png"))])
def test_any_name_goes_on(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, 2)
    assert generate("-o", name, "--quiet") == 75
    assert generate("-o", name, "--quiet") == 0
    Path("plain").mkdir()
    assert generate("-o", "plain/film" + name[-9 if "03d" in name else -4:], "--quiet") == 0
    assert set(hashes().values()) == set(hashes(Path("plain")).values())
    assert not [left for left in names() if left.endswith((".partial", ".resume", ".lock"))]


def test_a_second_process_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("story.yaml").write_text(LONG)
    first = start("story.yaml", "-o", "film.mp4", "--quiet", "--checkpoint-every", "0")
    while not Path("film.lock").exists() or not Path("film.lock").read_bytes():
        assert first.poll() is None
    try:
        monkeypatch.setattr(loaders.FAMILIES["random"], "load", None)  # at once: before a model is loaded
        assert generate("-o", "film.mp4") == 75
        assert f"film.mp4 is being rendered by process {first.pid} on " in capsys.readouterr().err
    finally:
        first.kill()
        first.communicate()


@pytest.mark.slow
def test_a_killed_process_is_gone_on_with() -> None:
    Path("story.yaml").write_text(LONG.replace("10m", "20s"))
    assert generate("-o", "whole.mp4", "--quiet") == 0
    process = start("story.yaml", "-o", "film.mp4", "--quiet", "--checkpoint-every", "0.05")
    while not Path("film.resume/checkpoint.json").exists():
        assert process.poll() is None
    running = encoders(process.pid)
    process.kill()
    process.communicate()
    assert all(map(gone, running)) and "film.mp4" not in names() and "film.lock" in names()
    assert generate("-o", "film.mp4", "--json") == 0
    assert sha256(Path("film.mp4")) == sha256(Path("whole.mp4")) and "film.lock" not in names()


def test_an_encoder_that_dies_costs_a_sitting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate("-o", "whole.mp4", "--quiet") == 0
    monkeypatch.setattr("echo_cli.render.keeper.TWICE", -1)
    strike(monkeypatch, 4, lambda: os.kill(encoders(os.getpid())[0], signal.SIGKILL))
    assert generate("-o", "sub/film.mp4", "--checkpoint-every", "1e-9") == 5
    err = capsys.readouterr().err
    assert "ffmpeg was killed (signal 9)" in err and "is kept in sub/film.resume" in err
    assert generate("-o", "sub/film.mp4", "--quiet") == 0 and sha256(Path("sub/film.mp4")) == sha256(Path("whole.mp4"))


def test_how_often_and_how_much_was_kept_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "film", "--checkpoint-every", "1e-9", "--verbose") == 0
    assert re.search(r"checkpoints: [1-6], of [\d.]+ [kM]B at most \(never more than [\d.]+ MB\), in \d+\.\d\d s",
                     capsys.readouterr().err)
    assert generate("-o", "other", "--checkpoint-every", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["checkpoints"]["count"] == 0
    assert generate("-o", "third", "--checkpoint-every", "-1") == 2


def test_a_log_begins_with_version_machine_and_settings(monkeypatch: pytest.MonkeyPatch,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    stop(monkeypatch, 3)
    assert generate("-o", "film", "--log-file", "logs/film.log", "--quiet") == 75
    assert generate("-o", "film", "--log-file", "logs/film.log", "--verbose") == 0
    lines = Path("logs/film.log").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 ", line) for line in lines)
    messages = [line.partition(" ")[2] for line in lines]
    assert re.match(r"echo-cli [\d.]+, Python [\d.]+, torch [\d.]+", messages[0])
    assert re.match(r"machine: .* cores, [\d.]+ GB", messages[1])
    assert messages[2].startswith("command: [") and "film: film.mp4" in messages and "seed: 5" in messages
    assert any(line.startswith("memory: {'policy': 'echo'") for line in messages)
    assert any(line.startswith("ended with exit code 75: stopped by SIGTERM") for line in messages)
    assert any(line.startswith("film.mp4: resuming after block") for line in messages)
    assert any(line.startswith("Progress: 100.0% | block 6/6") for line in messages)
    assert sum(line.startswith("echo-cli ") for line in messages) == 2
    assert "Traceback" not in Path("logs/film.log").read_text()


def test_a_log_tells_of_a_wrong_storyboard_and_of_a_fault_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("wrong.yaml").write_text("scenes: 3")
    assert generate("--log-file", "film.log", story="wrong.yaml") == 2
    assert "ended with exit code 2: wrong.yaml" in Path("film.log").read_text()
    strike(monkeypatch, 2, lambda: 1 / 0)
    assert generate("--log-file", "film.log") == 1
    assert "ZeroDivisionError: division by zero" in Path("film.log").read_text()
    assert generate("--log-file", "story.yaml/film.log") == 5


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten disks, from one that has room for next to nothing to one that is full when segments are joined."""
    if os.geteuid():
        pytest.skip("needs the right to mount a file system")
    Path("story.yaml").write_text(LONG.replace("10m", "40s"))
    options = ("--quiet", "--checkpoint-every", "0.1", "--crf", "12")
    assert generate("-o", "whole.mp4", *options) == 0
    most, dice = Path("whole.mp4").stat().st_size * 2 + 4_000_000, random.Random(3)
    full = 0
    for number in range(10):
        disk = tmp_path / f"disk-{number}"
        disk.mkdir()
        room = dice.randrange(most * number // 10, most * (number + 1) // 10) // 4096 * 4096 + 4096
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={room}", "echo-test", disk], capture_output=True
        ).returncode:
            pytest.skip("needs the right to mount a file system")
        try:
            code = generate("-o", str(disk / "film.mp4"), *options)
            if code:
                full += 1
                assert code == 5 and "the disk is full" in (err := capsys.readouterr().err) and "Traceback" not in err
                assert not names(disk) & {"film.mp4", "film.manifest.json", "film.trace.json"}
                subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
                assert generate("-o", str(disk / "film.mp4"), *options, "--resume") == 0
            assert sha256(disk / "film.mp4") == sha256(Path("whole.mp4"))
            assert sum(1 for _ in read.pictures(disk / "film.mp4")) == 640
        finally:
            subprocess.run(["umount", "-l", disk], check=True)
    assert full >= 8
