"""The real command: what it prints, where, and its exit codes."""

import csv
import json
import os
import re
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from echo_cli.cli import complete
from echo_cli.cli.app import run
from echo_cli.cli.streams import PIPE
from echo_cli.render.lock import OneWriter
from tests.render import stage
from tests.trace.story import write_story


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_story(tmp_path_factory.mktemp("run") / "film.trace.json")


def inspect_cache(*arguments: object, width: int = 110) -> subprocess.CompletedProcess[str]:
    words = ["inspect-cache", *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.setenv("COLUMNS", str(width))
        patch.setenv("NO_COLOR", "1")
        code = run(words)
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def test_a_glance_answers_the_four_questions(trace: Path) -> None:
    done = inspect_cache(trace)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("▏rooftop", "bounded: 504 tokens", "back recalled rooftop (0.90)",
                  "rooftop in edge, longest: 5 blocks"):
        assert words in done.stdout


def test_where_there_is_no_terminal_lines_are_longer_and_no_colour_is_explained(trace: Path) -> None:
    piped = inspect_cache(trace, width=0).stdout.splitlines()
    assert 80 < max(map(len, piped)) <= PIPE and max(map(len, inspect_cache(trace, width=90).stdout.splitlines())) <= 90
    assert any("█ anchor" in line for line in piped) and not any("colour" in line for line in piped)


def test_a_film_in_progress_is_told_from_one_that_was_cut_short(tmp_path: Path) -> None:
    growing = write_story(tmp_path / "film.trace.json").rename(tmp_path / "film.trace.json.partial")
    growing.write_bytes(b"\n".join(growing.read_bytes().split(b"\n")[:20]))
    assert "belongs to a run that did not finish" in inspect_cache(growing).stderr
    with OneWriter(tmp_path / "film.lock", tmp_path / "film.mp4"):
        assert "is still being rendered: it holds" in inspect_cache(growing).stderr
        assert inspect_cache(growing, "--html", tmp_path / "page.html").returncode == 0
    assert "The film is still being rendered: " in (tmp_path / "page.html").read_text()
    assert "belongs to a run that did not finish" in inspect_cache(growing).stderr


def test_at_a_second_and_by_number_is_the_same_block(trace: Path) -> None:
    by_time, by_number = inspect_cache(trace, "--at", "10.5s"), inspect_cache(trace, "--block", 14)
    assert by_time.stdout == by_number.stdout
    assert "block 14" in by_time.stdout


def test_one_layer_instead_of_all(trace: Path) -> None:
    report = json.loads(inspect_cache(trace, "--block", 10, "--layer", 2, "--json").stdout)
    assert report["layer"] == 2 and sum(tokens for _, tokens in report["measured"]["chosen"]) == 72
    assert "scores" not in inspect_cache(trace, "--block", 10, "--layer", 2).stdout  # these are of all layers


def test_json_is_one_object(trace: Path) -> None:
    summary = json.loads(inspect_cache(trace, "--json").stdout)["summary"]
    assert (summary["blocks"], summary["budget"]["tokens"], summary["scenes"][3]["recalled"]) == (52, 504, "rooftop")
    assert json.loads(inspect_cache(trace, "--block", 3, "--json").stdout)["block"] == 3
    assert json.loads(inspect_cache(trace, "--scene", "back", "--json").stdout)["answer"]["begins"] == "recall"


def test_json_says_what_failed(trace: Path, tmp_path: Path) -> None:
    for arguments in ((tmp_path / "absent.trace.json",), (trace, "--scene", "nowhere"), (trace, "--nonsense")):
        done = inspect_cache(*arguments, "--json")
        failed = json.loads(done.stdout)
        assert done.returncode == failed["exit_code"] == 2 and failed["status"] == "failed" and failed["hint"]
        assert failed["error"] in done.stderr and failed["where"] is None


def test_csv_reads_back(trace: Path) -> None:
    rows = list(csv.DictReader(inspect_cache(trace, "--csv").stdout.splitlines()))
    assert [int(row["block"]) for row in rows] == list(range(52))


def test_two_runs(trace: Path, tmp_path: Path) -> None:
    other = write_story(tmp_path / "other.trace.json", anchor_frames=9)
    assert "policy.settings.anchor_frames" in inspect_cache(trace, "--diff", other).stdout
    assert json.loads(inspect_cache(trace, "--diff", trace, "--json").stdout)["differing"] == 0


def test_a_page_is_written_under_its_name_alone(trace: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = inspect_cache(trace, "--html", report)
    assert (done.returncode, done.stdout) == (0, f"{report}\n")
    assert report.read_text("utf-8").startswith("<!doctype html>")
    assert os.listdir(tmp_path) == ["report.html"]
    assert inspect_cache(trace, "--html", tmp_path / "new" / "one" / "report.html").returncode == 0
    assert os.listdir(tmp_path / "new" / "one") == ["report.html"]
    done = inspect_cache(trace, "--html", report / "report.html")
    assert done.stderr.endswith("hint: Choose another name with --html.\n")
    assert done.returncode == 5 and "a part of its path is a file" in done.stderr


def test_a_page_overwrites_nothing_but_a_page(trace: Path, tmp_path: Path) -> None:
    report = tmp_path / "index.html"
    report.write_text("<!doctype html><title>My own site</title>")
    done = inspect_cache(trace, "--html", report)
    assert (done.returncode, done.stdout) == (5, "") and "was not written by this command" in done.stderr
    assert "My own site" in report.read_text()
    report.write_text("")
    for _ in range(2):
        assert inspect_cache(trace, "--html", report).returncode == 0
    assert "My own site" not in report.read_text()


@pytest.fixture
def film(trace: Path, tmp_path: Path) -> Path:
    """A folder with a film and what lies beside it."""
    (tmp_path / "film.trace.json").write_bytes(trace.read_bytes())
    (tmp_path / "film.mp4").write_bytes(b"\0" * 64)
    (tmp_path / "film.manifest.json").write_text('{"format": "echo-manifest"}')
    (tmp_path / "film.srt").write_text("1")
    return tmp_path


@pytest.mark.parametrize("named", ["film", "film.mp4", "film.yaml", "film.manifest.json"])
def test_a_film_its_manifest_or_the_bare_name_lead_to_the_trace(film: Path, named: str) -> None:
    by_trace = inspect_cache(film / "film.trace.json", "--block", 14).stdout
    done = inspect_cache(film / named, "--block", 14)
    assert (done.returncode, done.stdout, done.stderr) == (0, by_trace, "")
    assert "in all 52 blocks" in inspect_cache(film / "film.trace.json", "--diff", film / named).stdout
    context = SimpleNamespace(params={"trace": film / named}, args=[])
    assert complete.scene_ids(context, "roof") == ["rooftop"]


def test_what_is_no_name_of_a_film_is_told_which_trace_lies_beside_it(film: Path) -> None:
    done = inspect_cache(film / "film.srt")
    assert done.returncode == 2 and f"hint: Did you mean {film / 'film.trace.json'}?" in done.stderr


def test_the_film_of_a_run_that_did_not_finish_leads_to_what_was_written(film: Path) -> None:
    (film / "film.trace.json").rename(film / "film.trace.json.partial")
    for named in ("film", "film.mp4", "film.manifest.json"):
        done = inspect_cache(film / named)
        assert done.returncode == 2 and f"echo-cli inspect-cache {film / 'film.trace.json.partial'}" in done.stderr


def test_a_killed_run_is_shown_with_a_note(tmp_path: Path) -> None:
    partial = write_story(tmp_path / "film.trace.json", blocks=20)
    done = inspect_cache(partial)
    assert done.returncode == 0 and "20 blocks" in done.stdout
    assert done.stderr.startswith("note: ") and "20 of 52 blocks" in done.stderr


@pytest.mark.parametrize(("arguments", "words"), [
    (["--at", "99s"], "not in the film"),
    (["--at", "soon"], "is not a time"),
    (["--block", "52"], "there is no block 52"),
    (["--scene", "roftop"], "did you mean 'rooftop'"),
    (["--block", "3", "--at", "3s"], "--block and --at ask for different things"),
    (["--csv", "--json"], "ask for different things"),
    (["--layer", "1"], "--layer needs a block"),
    (["--at", "39.02s"], "not in the film, which ends at 0:38.8\nhint: Give a time before the end"),
    (["--block", "10", "--layer", "9"], "there is no layer 9: tiny has 4 layers, 0 to 3"),
    (["--block", "1", "--layer", "9"], "there is no layer 9: tiny has 4 layers, 0 to 3"),
    (["--block", "1", "--layer", "-1"], "there is no layer -1"),
    (["--block", "1", "--layer", "0"], "in block 1 no layer chose anything from history"),
    (["--html", "film.mp4"], "does not end in .html"),
    (["--diff", "nowhere.json"], "nowhere.json does not exist"),
])
def test_a_wrong_question_is_told_and_never_retried(trace: Path, arguments: list[str], words: str) -> None:
    done = inspect_cache(trace, *arguments)
    assert done.returncode == 2
    if "--json" in arguments:
        assert words in json.loads(done.stdout)["error"]
    else:
        assert done.stdout == ""
    assert words in done.stderr and "hint:" in done.stderr and "Traceback" not in done.stderr


def test_the_first_block_in_which_layers_choose_is_named(trace: Path) -> None:
    hint = re.search(r"try --block (\d+), ", inspect_cache(trace, "--block", 1, "--layer", 0).stderr)
    assert hint and inspect_cache(trace, "--block", hint[1], "--layer", 0).returncode == 0
    before = int(hint[1]) - 1
    assert f"in block {before} no layer chose" in inspect_cache(trace, "--block", before, "--layer", 0).stderr


def test_a_memory_that_keeps_no_scenes_says_that_it_recalled_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.settle(tmp_path / "film", monkeypatch)
    assert run(["generate", "story.yaml", "--memory", "window", "--scale", "1", "--quiet"]) == 0
    words = "memory window keeps no scenes, so nothing was recalled"
    shown = inspect_cache("story", "--scene", "again").stdout
    assert re.search(r"begins +recall\nno recall +" + words, shown)
    assert json.loads(inspect_cache("story", "--scene", "again", "--json").stdout)["answer"]["refusal"] == words
    assert "no recall" not in inspect_cache("story", "--scene", "desert").stdout
    done = inspect_cache("story", "--block", 0, "--layer", 0)
    assert done.returncode == 2 and "no later block has a choice either" in done.stderr
    assert inspect_cache("story", "--html", "page.html").returncode == 0 and words in Path("page.html").read_text()


def test_a_pipe_that_closes_early_is_silent(trace: Path) -> None:
    program = f"{sys.executable} -c 'from echo_cli.cli.app import main; main()' inspect-cache {trace} --csv | head -1"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("block,") and done.stderr == ""
