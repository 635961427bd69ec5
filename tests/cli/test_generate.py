"""The real command, from storyboard to files, with a model too small to be pretty; every exit code for its case."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import echo_cli
from echo_cli.cli.app import run
from echo_cli.cli.messages import ObjectLines
from echo_cli.errors import EchoError
from echo_cli.files import sha256
from echo_cli.models.registry import MODELS
from echo_cli.render.prepare import prepare
from echo_cli.render.request import Request
from echo_cli.render.signals import SIGNALS
from echo_cli.trace.reader import read_trace
from echo_cli.video import ffmpeg, read
from tests.formats import files
from tests.render import stage

ROOT = Path(__file__).parents[2]
LONG = "scenes: [{id: a, prompt: a red ball, duration: 10m}]"
FINAL = ("film.mp4", "film.trace.json", "film.manifest.json", "film.srt")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a storyboard in it, and the small model under the name `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("story.yaml").write_text(stage.STORY)
    return folder


def generate(*arguments: str) -> int:
    return run(["generate", "story.yaml", "--scale", "1", "--preset", "ultrafast", *arguments])


def names(folder: Path = Path(".")) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"story.yaml"}


def test_a_storyboard_becomes_three_files_and_its_subtitles(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == 0
    out, err = capsys.readouterr()
    assert out == "story.mp4\n"
    assert re.search(r"^Progress: 100\.0% \| block 6/6 \| scene 3/3 again \| picture 66/66 ", err, re.M)
    assert "story.mp4: 66 pictures, 4.125 s of film in" in err
    assert names() == {"story.mp4", "story.trace.json", "story.manifest.json", "story.srt", "story.states"}
    assert sum(1 for _ in read.pictures(Path("story.mp4"))) == 66


def test_its_seconds_count_from_the_start_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", "story.yaml", "--scale", "1", "--preset", "ultrafast"]
    assert run([*arguments, "-o", "a.mp4"], before=1000.0) == 0
    said = re.search(r"^a\.mp4: 66 pictures, 4\.125 s of film in (1\d{3}\.\d) s, (1\d{3}\.\d) s of it loading; "
                     r"0\.1 pictures/s$", capsys.readouterr().err, re.M)
    assert said and float(said[1]) >= float(said[2]) >= 1000
    assert run([*arguments, "-o", "b.mp4", "--json"], before=1000.0) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["wall_seconds"] > result["loading_seconds"] > 1000
    timings = json.loads(Path("b.manifest.json").read_text())["timings"]
    assert (timings["wall_seconds"], timings["loading_seconds"]) == (result["wall_seconds"], result["loading_seconds"])


def test_the_same_again_is_skipped_another_is_refused_and_force_makes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "film.mp4", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (
        made["status"] == "made" and made["pictures"] == 66 and set(made["outputs"]) == {"film", "trace", "subtitles"}
    )
    before = {path: path.stat().st_mtime_ns for path in Path(".").iterdir()}

    assert generate("-o", "film.mp4", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"status": "skipped", "film": "film.mp4"} and "skipped" in err
    assert generate("-o", "film.mp4", "--seed", "6") == 5
    assert "film.mp4 was made from something else" in (reply := capsys.readouterr().err) and "--force" in reply
    assert "seed was 5, now 6" in reply
    assert {path: path.stat().st_mtime_ns for path in Path(".").iterdir()} == before

    assert generate("-o", "film.mp4", "--seed", "6", "--force") == 0
    assert json.loads(Path("film.manifest.json").read_text())["identity"]["seed"] == 6


def test_a_storyboard_is_another_one_only_if_its_author_changed_it(capsys: pytest.CaptureFixture[str]) -> None:
    def refusal(*arguments: str) -> str:
        assert run([*arguments, "--scale", "1", "--preset", "ultrafast"]) == 5
        return capsys.readouterr().err

    assert generate() == 0
    capsys.readouterr()
    for command, option in (("generate", "-o"), ("batch", "--out-dir")):
        reply = refusal(command, "story.yaml", "--seed", "6")
        assert "story.mp4 was made from something else: seed was 5, now 6\n" in reply
        assert f"write elsewhere with {option}.\n" in reply
    for options, said in ((("--memory", "window"), "memory was echo, now window"),
                          (("--size", "64x64"), "size was 96x64, now 64x64")):
        reply = refusal("generate", "story.yaml", *options)
        assert said in reply and "another storyboard" not in reply
    Path("story.yaml").write_text(stage.STORY.replace("seed: 5", "seed: 6"))
    assert "something else: seed was 5, now 6\n" in refusal("generate", "story.yaml")
    Path("story.yaml").write_text(stage.STORY.replace("a red", "a blue", 1))
    assert "else: another storyboard, seed was 5, now 6\n" in refusal("generate", "story.yaml", "--seed", "6")


def test_standard_output_takes_one_thing(capsys: pytest.CaptureFixture[str]) -> None:
    for options, said in ((["-o", "-"], "-o - and --json both write"),
                          (["-o", "-", "--progress", "openjd"], "-o - and --json and --progress openjd all write")):
        assert generate("--json", *options) == 2
        assert said in capsys.readouterr().err


def test_a_log_that_cannot_be_written_names_its_own_option(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("generate", "batch"):
        assert run([command, "story.yaml", "--log-file", "."]) == 5
        assert capsys.readouterr().err == "cannot write .: it is a folder\nhint: Choose another name with --log-file.\n"
    assert names() == set()


def test_quiet_prints_nothing_but_what_json_or_a_stream_asks_for(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for arguments in (["--dry-run"], [], []):  # planned, made, skipped
        assert generate("--quiet", *arguments) == 0
        assert capfdbinary.readouterr() == (b"", b"")
    assert generate("--quiet", "--json") == 0
    out, err = capfdbinary.readouterr()
    assert json.loads(out)["status"] == "skipped" and err == b""
    assert generate("--quiet", "--show-settings") == 0 and capfdbinary.readouterr() == (b"", b"")
    assert generate("--quiet", "--json", "--dry-run") == 0
    assert json.loads(capfdbinary.readouterr().out)["status"] == "planned"
    assert generate("--quiet", "-o", "-") == 0
    out, err = capfdbinary.readouterr()
    assert out[4:8] == b"ftyp" and err == b""


def events(reply: str) -> list[dict]:
    return [json.loads(line) for line in reply.splitlines()]


@pytest.mark.parametrize("spelled", [["--progress", "json"], ["--progress=json"]])
def test_progress_json_leaves_nothing_but_objects_on_standard_error(
    spelled: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from echo_cli.render.session import Session

    make = Session.make

    def warned(*given: object) -> object:
        print("a library", "complains", file=sys.stderr)
        print("left open", end="", file=sys.stderr)
        return make(*given)

    monkeypatch.setattr(Session, "make", warned)
    Path("story.yaml").write_text(stage.STORY.replace("red", "vermilion"))
    assert generate(*spelled, "--memory", "window", "--verbose") == 0
    reply = events(capsys.readouterr().err)
    assert {event["event"] for event in reply} == {"progress", "message", "warning"}
    messages = [event["message"] for event in reply if event["event"] != "progress"]
    assert "a library complains" in messages
    assert any("does not know these words" in text and "vermilion" in text for text in messages)
    assert any("keeps no scenes" in text for text in messages)
    assert sys.stderr is not None and not isinstance(sys.stderr, ObjectLines)

    assert generate(*spelled) == 5
    *_, last = events(capsys.readouterr().err)
    assert last["event"] == "error" and last["exit_code"] == 5 and "story.mp4" in last["message"] and last["hint"]
    assert generate(*spelled, "--nonsense", "--debug") == 2
    assert events(capsys.readouterr().err)[-1]["exit_code"] == 2


@pytest.mark.parametrize(("text", "arguments", "code", "where"), [
    ("scenes: [{id: a, prompt: a ball, duration: 0s}]", (), 2, "story.yaml:1:34"),
    (stage.STORY, ("--seed", "x"), 2, None),
    (stage.STORY, ("--device", "cuda:77"), 3, None),
])
def test_a_failure_is_one_object_too(text: str, arguments: tuple[str, ...], code: int, where: str | None,
                                     capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(text)
    assert generate("--json", *arguments) == code
    out, err = capsys.readouterr()
    failed = json.loads(out)
    assert set(failed) == {"status", "exit_code", "error", "hint", "where"}
    assert (failed["status"], failed["exit_code"], failed["where"]) == ("failed", code, where)
    assert failed["error"] in err and (failed["hint"] or "") in err


def test_a_film_that_was_removed_is_in_nobodys_way() -> None:
    assert generate("--subtitles", "none") == 0
    Path("story.mp4").unlink()
    assert generate("--subtitles", "none", "--seed", "6") == 0
    assert json.loads(Path("story.manifest.json").read_text())["identity"]["seed"] == 6


@pytest.mark.parametrize("identity", [{}, {"seed": 5}, {"settings": 3}])
def test_a_manifest_that_does_not_say_of_which_film_protects_the_film(
    identity: dict, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate() == 0
    manifest = json.loads(Path("story.manifest.json").read_text()) | {"identity": identity}
    Path("story.manifest.json").write_text(json.dumps(manifest))
    assert generate() == 5
    assert "story.mp4 exists" in capsys.readouterr().err
    for film in (Path("story.mp4"), Path("story.srt")):
        film.unlink()
    assert generate() == 0


@pytest.mark.parametrize(("option", "name"), [("--device", "abacus"), ("--dtype", "float8")])
def test_a_device_or_dtype_that_does_not_exist_is_wrong_whatever_stands_there(
    option: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("story.mp4").write_bytes(b"precious")
    for more in ((), ("--dry-run",)):
        assert generate(option, name, *more) == 2
        assert f"no {option[2:]} is called '{name}'" in capsys.readouterr().err
    assert names() == {"story.mp4"}


def test_the_devices_and_dtypes_that_the_command_line_knows_are_the_engines() -> None:
    from echo_cli.render.request import DTYPES, Request
    from echo_cli.runtime import DTYPES as COMPUTED

    assert ("auto", *COMPUTED) == DTYPES
    for device in ("auto", "cpu", "cuda", "cuda:0", "cuda:13"):
        assert Request("story.yaml", device=device).device == device


def test_a_film_without_a_manifest_is_never_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    Path("film.mp4").write_text("mine")
    assert generate("-o", "film.mp4") == 5
    assert "film.mp4 exists" in capsys.readouterr().err and Path("film.mp4").read_text() == "mine"
    assert names() == {"film.mp4"}


@pytest.mark.parametrize(
    ("arguments", "code", "reply"),
    [
        (["--model", "tinny"], 2, "did you mean 'tiny'"),
        (["--memory", "echo-forcin"], 2, "echo-forcing"),
        (["--set", "memory.recent=3"], 2, "did you mean 'memory.recent_frames'"),
        (["--set", "recent_frames=3"], 2, "did you mean 'memory.recent_frames'"),
        (["--set", "memory.zzz=3"], 2, "memory.smooth.…"),
        (["--set", "memory.recent_frames"], 2, "it has no '='"),
        (["--set", "memory.recent_frames=many"], 2, "must be a whole number"),
        (["--set", "memory.recent_frames=4"], 2, "22 frames"),
        (["--memory", "sink", "--set", "memory.recent_frames=3"], 2, "no setting 'memory.recent_frames' of sink"),
        (["--size", "100x64"], 2, "multiple of 32"),
        (["--size", "big"], 2, "WIDTHxHEIGHT"),
        (["--scale", "0"], 2, "1 to 16"),
        (["--codec", "nope"], 2, "Unknown encoder 'nope'"),
        (["--preset", "warp"], 2, "warp"),
        (["-o", "film.avi"], 2, ".avi"),
        (["--font", "no.ttf", "--subtitles", "burn", "--dry-run"], 2, "no.ttf: No such file"),
        (["-o", "-", "--json"], 2, "standard output"),
        (["-o", "-", "--subtitles", "srt"], 2, "subtitles"),
        (["--progress", "openjd", "--json"], 2, "standard output"),
        (["--progress", "loud"], 2, "loud"),
        (["--seed", "-1"], 2, "--seed"),
        (["--device", "abc"], 2, "abc"),
        (["--device", "cuda:99"], 3, "cuda:99"),
        (["--dtype", "int3"], 2, "int3"),
        (["--model", "wan2.1-t2v-1.3b"], 3, "wan2.1-t2v-1.3b"),
        (["-o", "story.yaml/film.mp4"], 5, "not a folder"),
        (["-o", "x" * 252], 5, "too long"),
    ],
)
def test_what_cannot_be_is_told_with_its_exit_code_and_leaves_nothing(
        capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, reply: str) -> None:
    assert generate(*arguments) == code
    out, err = capsys.readouterr()
    assert reply in err and "hint:" in err and "Traceback" not in err and names() == set()
    assert json.loads(out)["exit_code"] == code if "--json" in arguments else out == ""


def test_a_wrong_storyboard_is_told_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(stage.STORY.replace("recall:meadow", "recall:meadov"))
    assert generate() == 2
    assert re.search(
        r"story.yaml:9:\d+: scene 'again': recall of 'meadov'.*did you mean 'meadow'", capsys.readouterr().err
    )
    assert run(["generate", "nothing.yaml"]) == 2


@pytest.mark.parametrize("name", ["-a film.yaml", "it's \"one\"\n%d.yaml", "фильм 🎬.yaml", os.fsdecode(b"\xff.yaml"),
                                  "x" * 210 + ".yaml"])
def test_storyboards_of_any_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").rename(name)
    code = run(["generate", "--scale", "1", "--preset", "ultrafast", "--quiet", "--", name])
    if name == os.fsdecode(b"\xff.yaml"):
        assert code == 2 and r"\xff.mp4: this locale cannot decode the name" in capsys.readouterr().err
        assert run(["generate", "--quiet", name, "-o", "films/"]) == 2
        assert r"-o films/\xff.mp4: this locale cannot decode" in capsys.readouterr().err
        assert run(["batch", name, "--plan"]) == 2
        assert r"hint: Choose another name with --name, or" in capsys.readouterr().err
        assert run(["generate", "--scale", "1", "--preset", "ultrafast", "--quiet", name, "-o", "film"]) == 0
        assert json.loads(Path("film.manifest.json").read_text())["source"] == r"\xff.yaml"
        return
    assert code == 0
    manifest = json.loads(Path(name).with_suffix(".manifest.json").read_text())
    assert manifest["source"] == name and manifest["outputs"]["film"]["name"] == Path(name).with_suffix(".mp4").name
    assert sum(1 for _ in read.pictures(Path(name).with_suffix(".mp4"))) == 66
    assert (
        run(["generate", "--scale", "1", "--preset", "ultrafast", "--", name]) == 0
        and "skipped" in capsys.readouterr().err
    )


def test_words_the_model_never_met_are_told_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text("scenes: [{id: a, prompt: a red trenchcoat and a zeppelin, duration: 0.5s}]")
    assert generate() == 0
    assert "does not know these words" in (err := capsys.readouterr().err) and "trenchcoat, zeppelin" in err
    assert "echo-cli models info tiny" in err
    assert generate("--force", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_a_dry_run_makes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--dry-run", "--set", "memory.smooth.clear_after=2", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (
        plan["status"] == "planned"
        and plan["pictures"] == 66
        and plan["settings"]["memory"]["smooth"]["clear_after"] == 2
    )
    assert names() == set()
    assert generate("--dry-run", "-o", "a.mp4") == 0
    assert "a.mp4: 66 pictures of 96x64 at 16 fps, 4.125 s in 3 scenes and 6 blocks" in capsys.readouterr().out
    Path("story.yaml").write_text("scenes: [{id: a, prompt: a red ball, duration: 0.5s}]")
    assert generate("--dry-run", "-o", "a.mp4") == 0
    assert "0.5 s in 1 scene and 1 block;" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "code", "reply"), [
    (("--codec", "libx266"), 2, "ffmpeg cannot encode with"),
    (("--codec", "mpeg4", "--crf", "20"), 2, "--crf 20: the encoder mpeg4 has no such setting"),
    (("--device", "cuda:7"), 3, "device 'cuda:7' is not here"),
    (("-o", "story.yaml/a.mp4"), 5, "a part of its path is a file, not a folder"),
])
def test_a_dry_run_tries_what_a_run_tries(arguments: tuple[str, ...], code: int, reply: str,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--dry-run", "--here", *arguments) == code
    assert reply in " ".join(capsys.readouterr().err.split())
    assert generate("--dry-run", *arguments) == (2 if code == 2 else 0)
    assert reply in " ".join(capsys.readouterr().err.split())
    assert generate("--dry-run", "--elsewhere", *arguments) == 0
    assert reply not in " ".join(capsys.readouterr().err.split())
    assert names() == set()


@pytest.mark.parametrize(("codec", "crf", "bounds"), [
    ("libx264", "99", "0 to 51"), ("libx264", "-1", "0 to 51"), ("libx265", "51.5", "0 to 51"),
    ("libvpx-vp9", "64", "0 to 63"), ("libvpx", "3", "4 to 63"), ("libaom-av1", "99", "0 to 63"),
    ("libsvtav1", "99", "0 to 63"),
])
def test_a_quality_that_the_encoder_does_not_have_is_refused_everywhere(
        codec: str, crf: str, bounds: str, capsys: pytest.CaptureFixture[str]) -> None:
    in_python = f"crf {crf}: {codec} takes {bounds}"
    reply = f"--{in_python}"
    for command in (["generate", "story.yaml"], ["generate", "story.yaml", "--dry-run", "--elsewhere"],
                    ["batch", "story.yaml"], ["batch", "story.yaml", "--plan", "--elsewhere"],
                    ["validate", "story.yaml", "--elsewhere"]):
        assert run([*command, "--codec", codec, "--crf", crf]) == 2, command
        assert reply in capsys.readouterr().err
    with pytest.raises(EchoError, match=f"^{re.escape(in_python)}"):
        echo_cli.generate("story.yaml", codec=codec, crf=float(crf))
    assert names() == set()


def test_pictures_have_no_quality_of_a_film() -> None:
    assert generate("--dry-run", "-o", "frames/%d.png", "--crf", "99") == 0


def test_a_dry_run_shows_the_memory_that_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--dry-run") == 0
    assert re.search(r"^memory: needs about .* free on this machine", capsys.readouterr().out, re.M)
    assert generate("--dry-run", "--device", "cpu") == 0
    assert re.search(r"^memory: needs about .* free on this machine", capsys.readouterr().out, re.M)
    assert generate("--dry-run", "--device", "cpu", "--memory", "window", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["memory"].startswith("memory: needs about")
    assert plan["warnings"] == [
        "memory policy 'window' keeps no scenes, so nothing is recalled in 'again'; echo, echo-forcing and "
        "scene-queries can recall"]


def test_small_pictures_are_enlarged_until_they_are_pleasant(capsys: pytest.CaptureFixture[str]) -> None:
    small = "(made at 96x64, enlarged %d times; the decoder draws 192x128)"
    for size, reply in (("96x64", "of 768x512 " + small % 8), ("832x480", "of 832x480 at"),
                        ("96x64 --scale 3", "of 288x192 " + small % 3), ("96x64 --scale 2", "of 192x128 at"),
                        ("64x256", "of 512x2048 (made at 64x256, enlarged 8 times; the decoder draws 128x512)")):
        assert run(["generate", "story.yaml", "--dry-run", "--size", *size.split()]) == 0
        assert reply in capsys.readouterr().out


def test_a_dry_run_for_another_machine_needs_no_torch() -> None:
    program = ("import sys; from echo_cli.cli.app import run;"
               "run(['generate', 'story.yaml', '--dry-run', '--elsewhere']);"
               "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


def test_the_command_line_wins_over_the_storyboard() -> None:
    Path("story.yaml").write_text("memory: {policy: echo-forcing, anchor_frames: 9, recent_frames: 6}\n" + stage.STORY)
    assert (
        generate("-o", "a.mp4", "--memory", "sink", "--size", "64x64", "--seed", "1", "--set", "memory.anchor_frames=6")
        == 0
    )
    settings = json.loads(Path("a.manifest.json").read_text())["identity"]
    assert settings["seed"] == 1 and settings["settings"]["size"] == [64, 64]
    assert settings["settings"]["memory"] == {"policy": "sink", "window": None, "anchor_frames": 6}
    assert generate("-o", "b.mp4") == 0
    memory = json.loads(Path("b.manifest.json").read_text())["identity"]["settings"]["memory"]
    assert (memory["anchor_frames"], memory["recent_frames"]) == (9, 6)


def test_verbose_says_how_and_where_the_time_went(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--verbose", "--progress", "none") == 0
    err = capsys.readouterr().err
    assert "on cpu in torch.float32" in err and re.search(r"time: denoise \d", err) and "sha256" in err
    assert "Progress" not in err


def test_progress_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--progress", "json") == 0
    lines = [event for event in events(capsys.readouterr().err) if event["event"] == "progress"]
    assert lines[-1]["event"] == "progress" and lines[-1]["percent"] == 100 and lines[-1]["block"] == 6
    assert generate("--progress", "openjd", "--force") == 0
    assert "openjd_progress: 100.0\nopenjd_status: block 6/6 | " in capsys.readouterr().out
    assert generate("--progress", "openjd", "--seed", "9") == 5
    out = capsys.readouterr().out
    assert re.search(r"^openjd_fail: story.mp4 was made from something else", out, re.M)
    assert out.count("openjd_fail") == 1


@pytest.mark.parametrize(("arguments", "said"), [
    (["generate", "bad.yaml"], "bad.yaml:1:1: the storyboard must be"), (["generate", "nofile.yaml"], "nofile.yaml"),
    (["generate", "story.yaml", "--model", "nosuch"], "no model is called 'nosuch'"),
    (["generate", "story.yaml", "--nonsense"], "echo-cli generate: No such option: --nonsense"),
    (["batch", "story.yaml", "other/story.yaml"], "other/story.yaml and story.yaml would both become"),
    (["batch", "nothing"], "1 storyboard: 1 failed"),
])
def test_a_task_that_fails_before_a_picture_says_so_to_its_farm(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("bad.yaml").write_text("nonsense")
    Path("other").mkdir()
    Path("other/story.yaml").write_text(stage.STORY)
    assert run([*arguments, "--progress", "openjd"]) == 2
    out, err = capsys.readouterr()
    assert out.startswith(f"openjd_fail: {said}") and out.count("\n") == 1 and err
    assert run([*arguments, "--json"]) == 2 and "openjd" not in capsys.readouterr().out
    if "--nonsense" not in arguments:  # the variable is read with the options
        monkeypatch.setenv("ECHO_PROGRESS", "openjd")
        assert run(arguments) == 2 and capsys.readouterr().out == out


def test_a_sequence_of_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", "frames/%06d.png") == 0
    assert capsys.readouterr().out == "frames/%06d.png\n"
    assert names(Path("frames")) == {f"{number:06d}.png" for number in range(66)} | {
        f"frames.{end}" for end in ("trace.json", "manifest.json", "srt", "states")}
    assert generate("-o", "frames/%06d.png") == 0 and "skipped" in capsys.readouterr().err
    Path("frames/000007.png").unlink()
    assert generate("-o", "frames/%06d.png") == 0 and Path("frames/000007.png").exists()


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "storyboards").glob("*.yaml")))
def test_every_storyboard_that_teaches_becomes_a_film(name: str) -> None:
    assert run(["generate", str(ROOT / "storyboards" / name), "-o", "film", "--scale", "1", "--preset", "ultrafast",
                "--quiet"]) == 0
    facts = json.loads(Path("film.manifest.json").read_text())["film"]
    assert (
        sum(1 for _ in read.pictures(Path("film.mp4"))) == facts["pictures"] == round(facts["seconds"] * facts["fps"])
    )


# Faults and signals, in the middle of a run


def meanwhile(act, trace: Path = Path("film.trace.json.partial")) -> None:
    """Calls `act(pid of the encoder)` once a few blocks are in the trace."""
    def watch() -> None:
        wait_for_blocks(lambda: True, trace)
        act(encoders(os.getpid())[0])

    threading.Thread(target=watch, daemon=True).start()


def wait_for_blocks(alive, trace: Path = Path("film.trace.json.partial")) -> None:
    while not trace.exists() or trace.read_text().count('"kind":"block"') < 3:
        assert alive()
        time.sleep(0.01)


def encoders(pid: int) -> list[int]:
    """The ffmpegs that a process has started and not yet buried; Python starts processes of its own."""
    children = [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return [int(child) for child in children if "ffmpeg" in program(child)]


def program(pid: str) -> str:
    """What a process runs; nothing if it has ended meanwhile."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/comm").read_text()
    return ""


def gone(pid: int) -> bool:
    for _ in range(200):
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_stops_it_at_a_block_with_75(number: signal.Signals, capsys: pytest.CaptureFixture[str],
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echo_cli.render.signals.heeded", lambda: SIGNALS)  # also where the tests run under nohup
    Path("story.yaml").write_text(LONG)
    meanwhile(lambda encoder: os.kill(os.getpid(), number))
    assert generate("-o", "film.mp4") == 75
    assert re.search(rf"stopped by {number.name} after block \d+ of 801", capsys.readouterr().err)
    assert encoders(os.getpid()) == [] and names() == {"film.trace.json.partial", "film.resume"}
    assert read_trace(Path("film.trace.json.partial")).notice


def test_under_nohup_a_film_outlives_its_terminal() -> None:
    process = start("story.yaml", "-o", "film.mp4", stderr=subprocess.DEVNULL,
                    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while not Path("film.lock").exists():
        assert process.poll() is None
    process.send_signal(signal.SIGHUP)
    assert process.communicate() and process.returncode == 0 and Path("film.mp4").exists()


def test_a_stopped_sequence_is_made_when_it_is_asked_for_again(capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(LONG.replace("10m", "60s"))

    def stop(encoder: int) -> None:
        while not Path("frames/000003.png").exists():  # the encoder is some pictures behind the trace
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    meanwhile(stop, Path("frames/frames.trace.json.partial"))
    assert generate("-o", "frames/%06d.png") == 75
    assert 0 < len(names(Path("frames"))) < 961 and not Path("frames/frames.manifest.json").exists()
    assert generate("-o", "frames/%06d.png", "--seed", "8") == 2  # not what was begun there
    assert generate("-o", "frames/%06d.png") == 0
    assert len(names(Path("frames"))) == 963


def test_a_killed_encoder_is_a_failed_output(capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(LONG)
    meanwhile(lambda encoder: os.kill(encoder, signal.SIGKILL))
    assert generate("-o", "film.mp4") == 5
    err = capsys.readouterr().err
    assert "ffmpeg was killed (signal 9)" in err and "Traceback" not in err
    assert encoders(os.getpid()) == [] and names() == {"film.trace.json.partial"}


def test_a_full_disk_is_a_failed_output(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("story.yaml").write_text(LONG)
    assert generate("-o", str(small_disk / "film.mp4"), "--crf", "1") == 5
    err = capsys.readouterr().err
    assert "the disk is full" in err and "Traceback" not in err
    assert encoders(os.getpid()) == [] and not names(small_disk) & set(FINAL)


def test_a_locked_disk_is_told_before_the_first_block(locked_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("-o", str(locked_disk / "film.mp4")) == 5
    err = capsys.readouterr().err
    assert "the file system is read-only" in err and "Progress" not in err


# The command as a process of its own


def start(*arguments: str, **options) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "tests.render.stage",
        "generate",
        *arguments,
        "--scale",
        "1",
        "--preset",
        "ultrafast",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}, **options)


def test_from_standard_input_to_standard_output_and_nothing_else(tmp_path: Path) -> None:
    process = start("-", "-o", "-", "--progress", "plain", stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate(stage.STORY.encode())
    (tmp_path / "piped.mp4").write_bytes(out)
    assert process.returncode == 0 and out[4:8] == b"ftyp"
    assert sum(1 for _ in read.pictures(tmp_path / "piped.mp4")) == 66
    assert names() == set() and b"standard output: 66 pictures" in err


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    Path("story.yaml").write_text(LONG)
    process = start("story.yaml", "-o", "-", "--progress", "none", stderr=subprocess.PIPE)
    assert process.stdout and process.stdout.read(100)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, b"")
    process.stderr.close()


def test_subtitles_are_drawn_with_the_font_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    font = Path("/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf")
    if not font.exists():
        pytest.skip("needs the package fonts-dejavu-core")
    assert generate("--subtitles", "burn", "-o", "plain.mp4") == 0
    assert generate("--subtitles", "burn", "-o", "bold.mp4", "--font", str(font)) == 0
    assert sha256(Path("plain.mp4")) != sha256(Path("bold.mp4"))
    assert generate("--subtitles", "burn", "-o", "none.mp4", "--font", "story.yaml") == 2
    assert "it is not a font that can be read" in capsys.readouterr().err


def test_a_recall_that_cannot_be_is_a_warning_and_no_contradiction(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--memory", "window") == 0
    assert ("warning: memory policy 'window' keeps no scenes, so nothing is recalled in 'again'; "
            "echo, echo-forcing and scene-queries can recall\n") in capsys.readouterr().err
    assert run(["inspect-cache", "story.trace.json"]) == 0
    reply = capsys.readouterr().out
    assert "nothing for again: memory window keeps no scenes" in reply and "no scene recalled another" not in reply


def test_a_kill_leaves_a_trace_that_can_be_read_and_no_ffmpeg() -> None:
    Path("story.yaml").write_text(LONG)
    process = start("story.yaml", "-o", "film.mp4", "--quiet")
    wait_for_blocks(lambda: process.poll() is None)
    encoder, = encoders(process.pid)
    process.kill()
    process.communicate()
    assert gone(encoder) and not names() & set(FINAL)
    assert read_trace(Path("film.trace.json.partial")).notice


def test_a_file_of_another_tool_is_imported_first(capsys: pytest.CaptureFixture[str]) -> None:
    how = ("--scale", "1", "--preset", "ultrafast", "--size", "64x64")
    Path("take.json").write_text(files.SCOPE)
    assert run(["import", "take.json", "-o", "take.yaml"]) == 0
    assert run(["generate", "take.json", *how]) == 0
    assert "warning: left out: prompts[0]: the prompt of weight 40: a hen" in capsys.readouterr().err
    assert run(["generate", "take.yaml", *how]) == 0  # the same film
    assert "skipped" in capsys.readouterr().err

    Path("cues.srt").write_text(files.SRT)
    assert run(["generate", "cues.srt", *how, "--force"]) == 2
    assert Path("cues.srt").read_text() == files.SRT and "-o" in capsys.readouterr().err

    Path("prompts.txt").write_text(files.ECHO_FORCING)
    assert run(["generate", "prompts.txt", *how]) == 2
    assert "prompts.txt has 2 films" in (reply := capsys.readouterr().err) and "echo-cli import prompts.txt" in reply


@pytest.mark.parametrize("name", ["story", "story.txt", "story.json", "story.srt"])
@pytest.mark.parametrize("text", [
    stage.STORY,
    "{version: 1, scenes: [{id: a, prompt: a red ball, duration: 1s}]}",
    '{"scenes": [{"id": "a", "prompt": "a red ball", "duration": "1s"}]}',
    "title: '00:00:01,000 --> 00:00:02,000'\nscenes:\n- {id: a, prompt: a red ball, duration: 1s}\n",
])
def test_a_storyboard_is_never_taken_for_another_format(name: str, text: str) -> None:
    Path(name).write_text(text)
    job = prepare(Request(name, "film.mp4"))
    assert (job.notes, job.storyboard.source) == ((), name)


def test_every_setting_is_shown_with_who_decided_it(capsys: pytest.CaptureFixture[str],
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    Path("echo.toml").write_text('crf = 30\nseed = 3\nmemory = "window"\n')
    monkeypatch.setenv("ECHO_PRESET", "slow")
    assert generate("--show-settings", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: (each["value"], each["source"]) for name, each in shown.items() if each["source"] != "default"} == {
        "seed": (5, "story.yaml"), "crf": (30, "echo.toml:1"), "memory": ("window", "echo.toml:3"),
        "scale": (1, "command line"), "preset": ("ultrafast", "command line")}
    assert run(["generate", "story.yaml", "--show-settings"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["preset", "slow", "ECHO_PRESET"] in lines and ["device", "auto", "default"] in lines
    assert names() == {"echo.toml"}


def test_a_film_is_made_with_the_projects_defaults(capsys: pytest.CaptureFixture[str],
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    Path("echo.toml").write_text('memory = "window"\nprogress = "json"\n')
    monkeypatch.setenv("ECHO_OUTPUT", "films/")
    assert generate() == 0
    assert all(json.loads(line) for line in capsys.readouterr().err.splitlines())
    made = json.loads(Path("films/story.manifest.json").read_text())["identity"]
    assert made["settings"]["memory"]["policy"] == "window" and made["seed"] == 5
    Path("echo.toml").write_text("seed = 3\ncrf = 99\n")
    for command in ("generate", "validate"):
        capsys.readouterr()
        assert run([command, "story.yaml"]) == 2
        assert capsys.readouterr().err.startswith("echo.toml:2: --crf 99: libx264 takes 0 to 51")
        assert run([command, "story.yaml", "--crf", "98"]) == 2
        assert capsys.readouterr().err.startswith("--crf 98: libx264 takes 0 to 51")
    Path("echo.toml").write_text("model = ''\n")
    assert run(["generate", "story.yaml"]) == 2
    assert capsys.readouterr().err.startswith("echo.toml:1:1: 'model' is empty; leave the line out")
    Path("echo.toml").write_text("memroy = 1\n")
    assert generate() == 2
    assert capsys.readouterr().err.startswith("echo.toml:1:1: there is no option 'memroy' (did you mean 'memory'?)")


@pytest.mark.parametrize(("toml", "variables", "arguments", "policy", "source"), [
    ("[settings]\nkeyframes = 9\n", {"ECHO_MEMORY": "window"}, [], "window", "default"),
    ("[settings]\nkeyframes = 9\n", {"ECHO_MEMORY": "echo"}, [], "echo", "echo.toml:1"),
    ("[settings]\nkeyframes = 9\n", {}, ["--memory", "window"], "window", "default"),
    ("memory = 'window'\n[settings]\nwindow = 15\n", {"ECHO_MEMORY": "sink"}, [], "sink", "default"),
    ("memory = 'window'\n", {"ECHO_SETTINGS": "memory.window=15"}, [], "window", "ECHO_SETTINGS"),
])
def test_settings_of_a_file_belong_to_the_memory_that_it_names(
    toml: str, variables: dict[str, str], arguments: list[str], policy: str, source: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("echo.toml").write_text(toml)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert generate("--show-settings", "--json", *arguments) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["memory"]["value"] == policy
    assert shown["settings"]["source"] == source


@pytest.mark.parametrize(("toml", "variables", "said"), [
    ("output = 'x.avi'\n", {}, "echo.toml:1: -o /"), ("", {"ECHO_OUTPUT": "x.avi"}, "ECHO_OUTPUT: -o x.avi: "),
    ("\n[settings]\nkeyframes = 'x'\n", {}, "echo.toml:3:1: memory policy 'echo': 'keyframes' must be"),
    ("", {"ECHO_SETTINGS": "memory.keyframes=x"}, "ECHO_SETTINGS: memory policy 'echo': 'keyframes' must be"),
    ("\nsize = [1, 2]\n", {}, "echo.toml:2: model 'random-small' cannot make pictures of 1x2"),
    ("log_file = 3\n", {}, "echo.toml:1:1: --log-file 3: must be a path"),
    ("", {"ECHO_QUIET": "maybe"},
     "ECHO_QUIET: 'maybe' is neither on nor off\nhint: Say 1, true, yes or on, or 0, false, no or off.\n"),
])
def test_a_default_that_cannot_be_is_told_with_its_place(
    toml: str, variables: dict[str, str], said: str, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("echo.toml").write_text(toml)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert run(["generate", "story.yaml", "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith(said)


def test_a_film_of_another_kind_is_made_skipped_resumed_and_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "story.yaml", "--scale", "1", "-o", "film.webm", "--preset", "8"]
    assert run(words) == 0 and sum(1 for _ in read.pictures(Path("film.webm"))) == 66
    made = json.loads(Path("film.manifest.json").read_text())
    assert made["identity"]["settings"]["encoding"] == [
        "-c:v", "libvpx-vp9", "-threads", "4", "-crf", "24", "-cpu-used", "8", "-b:v", "0", "-f", "webm"]
    assert run(words) == 0 and "skipped" in capsys.readouterr().err
    assert generate("-o", "film.mp4") == 5
    assert "film.manifest.json belongs to film.webm" in capsys.readouterr().err
    assert run([*words, "--codec", "h264"]) == 2
    assert "a .webm film cannot hold h264" in capsys.readouterr().err
    assert run(["generate", "story.yaml", "--scale", "1", "-o", "frames/%03d.webp"]) == 0
    assert len(list(Path("frames").glob("*.webp"))) == 66


def test_a_sound_track_is_part_of_the_film(capsys: pytest.CaptureFixture[str]) -> None:
    ffmpeg.run(["-f", "lavfi", "-i", "sine=440:duration=2", "-y", "tone.wav"])
    assert generate("--audio", "tone.wav", "-o", "film.mp4") == 0
    heard = ffmpeg.run(["-i", "film.mp4", "-map", "0:a", "-f", "s16le", "-"]).stdout
    assert len(heard) > 100_000 and sum(1 for _ in read.pictures(Path("film.mp4"))) == 66
    assert generate("--audio", "tone.wav", "-o", "film.mp4") == 0 and "skipped" in capsys.readouterr().err
    Path("tone.wav").rename("same.wav")
    assert generate("--audio", "same.wav", "-o", "film.mp4") == 0, "the same sound under another name"
    ffmpeg.run(["-f", "lavfi", "-i", "sine=880:duration=2", "-y", "tone.wav"])
    assert generate("--audio", "tone.wav", "-o", "film.mp4") == 5
    assert "else: another audio" in capsys.readouterr().err
    ffmpeg.run(["-i", "film.mp4", "-map", "0:v", "-c", "copy", "silent.mp4"])
    for wrong, reply in (("story.yaml", "no sound that ffmpeg can read"), ("none.wav", "No such file"),
                         ("silent.mp4", "silent.mp4: no sound in it\nhint: Name a sound file")):
        assert generate("--audio", wrong, "-o", "a.mp4") == 2 and reply in capsys.readouterr().err
    assert run(["generate", "story.yaml", "--scale", "1", "--audio", "tone.wav", "-o", "a.gif"]) == 2
    assert "--audio: a .gif film has no sound" in capsys.readouterr().err


def test_the_trace_shows_what_a_scene_is_remembered_by(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate() == 0
    assert run(["inspect-cache", "story.trace.json", "--scene", "meadow"]) == 0
    assert "frames 0–5, as they were" in capsys.readouterr().out
    assert run(["inspect-cache", "story.trace.json", "--html", "page.html"]) == 0
    page = Path("page.html").read_text()
    assert page.count('alt="Keyframe of meadow"') == 3 and "its first frames" in page


def test_the_trace_shows_which_cells_were_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate("--set", "memory.recall_strength=0") == 0
    assert run(["inspect-cache", "story.trace.json", "--scene", "again"]) == 0
    assert "what was replaced in the remembered frames" in " ".join(capsys.readouterr().out.split())
    assert run(["inspect-cache", "story.trace.json", "--html", "page.html"]) == 0
    assert "veiled cells were replaced by the new scene" in Path("page.html").read_text()


def test_the_trace_says_why_nothing_was_recalled(capsys: pytest.CaptureFixture[str]) -> None:
    board = stage.STORY.replace("recall:meadow", "recall:auto").replace("the red ball in the meadow at night", "a box")
    Path("story.yaml").write_text(board)
    assert generate() == 0
    assert run(["inspect-cache", "story.trace.json", "--scene", "again"]) == 0
    reply = " ".join(capsys.readouterr().out.split())
    assert "hard cut" in reply and "no earlier scene is similar enough to be recalled: the best scores 0." in reply
