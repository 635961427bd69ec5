"""`generate --prompt`: a scene without a file."""

import json
from pathlib import Path

import pytest

import echo_cli
from echo_cli.cli.app import run
from echo_cli.cli.guard import is_ours
from echo_cli.errors import UsageError
from echo_cli.models.registry import MODELS
from tests.render import stage

QUICK = ("--scale", "1", "--preset", "ultrafast")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and the small model under the name `tiny`."""
    monkeypatch.setitem(MODELS.own, "tiny", stage.ROW)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_prompt_becomes_a_film_named_after_it(place: Path) -> None:
    assert run(["generate", "--prompt", "A red ball, in the city!", "--duration", "1.5s", *QUICK]) == 0
    assert names(place) == {f"a-red-ball-in-the-city.{end}" for end in ("mp4", "trace.json", "manifest.json", "states")}
    manifest = json.loads(Path("a-red-ball-in-the-city.manifest.json").read_text())
    assert manifest["film"]["seconds"] == 1.5
    assert run(["generate", "--prompt", "A red ball, in the city!", "--duration", "1500ms", *QUICK]) == 0  # skipped
    assert json.loads(Path("a-red-ball-in-the-city.manifest.json").read_text()) == manifest


def test_it_takes_the_options_of_a_film(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "--prompt", "a red ball", "-o", "ball.mp4", "--model", "random-small", "--seed", "3",
                "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["film"], plan["seed"], plan["seconds"]) == ("ball.mp4", 3, 5.0)
    assert names(place) == set()


@pytest.mark.parametrize(("arguments", "said"), [
    ([], "no storyboard was named"),
    (["--seed", "3"], "no storyboard was named"),
    (["--duration", "5s"], "--duration is for a scene of --prompt"),
    (["story.yaml", "--prompt", "a red ball"], "story.yaml and --prompt both say what to render"),
    (["--prompt", "  "], "--prompt is empty"),
    (["--prompt", "a red ball", "--duration", "soon"], "--duration: 'soon' is not a time"),
    (["--prompt", "a red ball", "--duration", "0"], "--duration: '0' must be longer than zero"),
    (["--prompt", "a red ball", "--duration", "1ms"], "--prompt: scene 'scene': the film is shorter than one picture"),
    (["--prompt", "a red ball", "--duration", "-1s"], "--duration: '-1s' is negative"),
    (["--prompt", "a red ball \ud800"], "half a character"),
])
def test_what_it_cannot_be_is_said_in_its_own_words(arguments: list[str], said: str, place: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", *arguments]) == 2
    assert said in capsys.readouterr().err
    assert names(place) == set()


def test_a_dry_run_names_the_words_that_the_model_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["generate", "--prompt", "a dragon", "--dry-run", "--elsewhere", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [
        "tiny does not know these words and will not show them: dragon"]


def test_a_batch_takes_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["batch", "--prompt", "a red ball"]) == 2
    assert "--prompt" in capsys.readouterr().err


def test_the_echo_script_takes_a_prompt_for_the_tool() -> None:
    assert is_ours(["generate", "--prompt", "a red ball"])
    assert not is_ours(["generate", "a red ball"])


@pytest.mark.parametrize("seed", [2**53 + 1, 2**63 - 1])
def test_a_film_of_a_large_seed_can_be_inspected_edited_and_rendered_again(
        seed: int, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "--prompt", "a red ball", "--seed", str(seed), "-o", "ball.mp4", *QUICK]
    for seconds in ("1s", "2s"):
        assert run([*words, "--duration", seconds, "--force"]) == 0
    capsys.readouterr()
    assert run(["inspect-cache", "ball.trace.json"]) == 0
    assert f"seed {seed}" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [-1, 2**63, 10**30])
def test_a_seed_has_the_same_limits_wherever_it_is_given(
        seed: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*more: str) -> str:
        assert run(["generate", *more, "--dry-run"]) == 2
        return capsys.readouterr().err.splitlines()[0]

    words = f"seed must lie between 0 and 9223372036854775807, not '{seed}'"
    assert said("--prompt", "a red ball", "--seed", str(seed)) == f"--{words}"
    Path("story.yaml").write_text(f"seed: {seed}\nscenes: [{{id: a, prompt: a red ball, duration: 1s}}]")
    assert said("story.yaml") == f"story.yaml:1:1: {words}"
    Path("echo.toml").write_text(f"seed = {seed}\n")
    assert said("--prompt", "a red ball") == f"echo.toml:1:1: --{words}"
    Path("echo.toml").unlink()
    monkeypatch.setenv("ECHO_SEED", str(seed))
    assert said("--prompt", "a red ball") == f"ECHO_SEED: --{words}"
    with pytest.raises(UsageError, match=f"^{words}"):
        echo_cli.generate(place / "story.yaml", seed=seed)
