"""Defaults of the environment and of `echo.toml`: every option, in the right order, every mistake with its place."""

import errno
import os
from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.memory.table import DEFAULT_POLICY
from echo_cli.render import defaults
from echo_cli.render.batch.request import BatchRequest
from echo_cli.render.defaults import Default
from echo_cli.render.job import Job
from echo_cli.render.prepare import prepare
from echo_cli.render.request import Request

OPTIONS = defaults.known((Request, BatchRequest))
OPEN = "scenes: [{id: a, prompt: a red ball, duration: 1.5s}]"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, and a person without defaults."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "echo-cli").mkdir(parents=True)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def personal(text: str) -> None:
    defaults.user_file().write_text(text)


def project(text: str) -> None:
    Path("echo.toml").write_text(text)


def mistakes(text: str) -> list[str]:
    project(text)
    with pytest.raises(UsageError) as caught:
        defaults.read(OPTIONS)
    return caught.value.message.splitlines()


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_option_can_have_a_default_from_both_places(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    field = OPTIONS[name]
    special = {"size": "96x64", "device": "cpu", "dtype": "float32", "settings": "memory.window=9", "scale": 3,
               "keep_room": "4 GB"}
    value = special.get(name) or (field.choices[-1] if field.choices else None)
    if value is None:
        value = True if bool in field.kinds else 4 if {int, float} & set(field.kinds) else "some"
    written = "true" if value is True else value if isinstance(value, int) else f'"{value}"'
    project(f"# ours\n{name} = {written}\n")
    wanted = field.checked(field.option.beside(value, Path.cwd()))
    memory = DEFAULT_POLICY if name == "settings" else None
    assert defaults.read(OPTIONS) == {name: Default(wanted, "echo.toml:2", memory)}
    Path("echo.toml").unlink()
    monkeypatch.setenv(field.variable, str(value))
    assert defaults.read(OPTIONS) == {name: Default(field.checked(value if name != "settings" else [value]),
                                                    field.variable)}


def test_the_environment_outranks_the_project_and_the_project_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    personal('seed = 1\ncrf = 1\ndevice = "cpu"\n')
    project("seed = 2\ncrf = 2\n")
    monkeypatch.setenv("ECHO_SEED", "3")
    result = defaults.read(OPTIONS)
    assert {name: default.value for name, default in result.items()} == {"seed": 3, "crf": 2, "device": "cpu"}
    assert result["crf"].source == "echo.toml:2" and result["seed"].source == "ECHO_SEED"
    assert result["device"].source == f"{defaults.user_file()}:3"


def test_a_projects_file_is_found_from_the_folders_below(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    project('output = "films/"\nfont = "fonts/a.ttf"\n')
    Path("deep/er").mkdir(parents=True)
    monkeypatch.chdir("deep/er")
    result = defaults.read(OPTIONS)
    assert result["output"] == Default(f"{folder}/films/", f"{folder}/echo.toml:1")
    assert result["font"].value == f"{folder}/fonts/a.ttf", "paths are relative to the file that names them"


def test_an_empty_variable_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_SEED", "")
    assert defaults.read(OPTIONS) == {}


def test_every_mistake_of_a_file_is_told_with_its_line() -> None:
    assert mistakes('seed = -1\n\nmemroy = "window"\ncheckpoint-every = 3\ncheckpoint_every = 4\ndevice = 3\n') == [
        "echo.toml:1:1: --seed must lie between 0 and 9223372036854775807, not '-1'",
        "echo.toml:3:1: there is no option 'memroy' (did you mean 'memory'?)",
        "echo.toml:5:1: 'checkpoint_every' is given twice",
        "echo.toml:6:1: --device 3: must be text",
    ]
    assert mistakes("output = 3\nfont = [1]\nmodel = [1]\nkeep_room = '1e999'") == [
        "echo.toml:1:1: -o 3: must be a path",
        "echo.toml:2:1: --font [1]: must be a path",
        "echo.toml:3:1: --model [1]: must be text",
        "echo.toml:4:1: --keep-room 1e999: not a size",
    ]
    assert mistakes("settings = 3") == ["echo.toml:1:1: --set 3: must be a mapping or a list"]
    assert mistakes("[settings]\nkeyframes = 2020-01-01\n") == [
        "echo.toml:1:2: --set memory.keyframes: datetime.date(2020, 1, 1) is no value of a setting"]
    assert mistakes('[settings]\nkeyframes = 9\n"recal-strength" = 1\n\nmemory.smooth.recent_frames = "x"\n') == [
        "echo.toml:3:2: memory.recal-strength=1: there is no setting 'memory.recal_strength' of echo (did you mean "
        "'memory.recall_strength'?)",
        "echo.toml:5:15: memory policy 'echo', 'smooth': 'recent_frames' must be a whole number of at least 0, not 'x'"]
    assert mistakes("seed = 1\ncrf = = 2\n") == ["echo.toml:2:7: invalid value"]
    assert mistakes("seed = [") == ["echo.toml:1:1: invalid value"]


def test_a_folder_that_may_not_be_entered_has_no_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    project("seed = 1\n")
    real = os.stat

    def stat(path, *arguments, **options):
        if os.fspath(path).endswith("echo.toml"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert defaults.files() == []


def test_settings_of_a_person_are_not_those_of_the_projects_memory() -> None:
    personal('memory = "window"\n')
    project("[settings]\nkeyframes = 9\n")
    job = prepare(Request(story(), "film.mp4"), defaults.read(OPTIONS))
    assert (job.policy, job.request.settings) == ("window", ())


@pytest.mark.parametrize(("text", "right"), [
    ("sign = 'x'", "sign_cert"), ("key = 'x'", "sign_key"), ("set = 'x'", "settings"),
    ("restart = true", "resume = false"), ("no-compile = true", "compile = false"), ("q = true", "quiet"),
])
def test_a_name_of_the_command_line_is_answered_with_the_files(text: str, right: str) -> None:
    name = text.partition(" ")[0]
    assert mistakes(text) == [f"echo.toml:1:1: there is no option '{name}'; in echo.toml it is '{right}'"]


def test_a_file_that_cannot_be_read_is_told() -> None:
    Path("echo.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(UsageError, match=r"echo\.toml: is not UTF-8"):
        defaults.read(OPTIONS)
    Path("echo.toml").unlink()
    Path("echo.toml").mkdir()
    with pytest.raises(UsageError, match=r"echo\.toml: Is a directory"):
        defaults.read(OPTIONS)


def test_a_variable_with_a_wrong_value_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_CRF", "good")
    with pytest.raises(UsageError, match="ECHO_CRF: --crf 'good': must be a number"):
        defaults.read(OPTIONS)


def test_variables_that_are_no_options_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_DEVIC", "cpu")
    monkeypatch.setenv("ECHO_MODELS", "/models")
    assert defaults.unknown_variables(OPTIONS) == ["ECHO_DEVIC (did you mean 'ECHO_DEVICE'?)"]


def story(board: str = OPEN) -> str:
    Path("story.yaml").write_text(board)
    return "story.yaml"


def settled(board: str, request: dict | None = None, **below) -> tuple[Job, dict[str, str]]:
    given = {name: Default(OPTIONS[name].checked(value), f"from {name}") for name, value in below.items()}
    job = prepare(Request(story(board), "film.mp4", **(request or {})), given)
    return job, dict(job.origins)


def test_a_storyboard_outranks_defaults_and_the_command_line_outranks_it() -> None:
    below = {"seed": 9, "memory": "window", "size": "96x64", "model": "random-small"}
    job, origins = settled(OPEN, **below)
    assert (job.seed, job.policy, job.size, job.model) == (9, "window", (96, 64), "random-small")
    assert origins == {name: f"from {name}" for name in below}
    stated = f"seed: 0\nmemory: sink\nsize: 192x128\nmodel: tiny\n{OPEN}"
    job, origins = settled(stated, **below)
    assert (job.seed, job.policy, job.size, job.model) == (0, "sink", (192, 128), "tiny")
    assert set(origins.values()) == {"story.yaml"}
    job, _ = settled(stated, {"seed": 5, "memory": "none"}, **below)
    assert (job.seed, job.policy) == (5, "none")


def test_the_same_film_has_the_same_identity_whoever_asked_for_it() -> None:
    job, _ = settled(OPEN, seed=9, memory="window", settings=["memory.window=12"])
    asked = prepare(Request("story.yaml", "film.mp4", seed=9, memory="window", settings=["memory.window=12"]))
    assert job.identity("") == asked.identity("") and job.request == asked.request, "a planned command says it all"


def test_settings_belong_to_the_memory_they_were_written_for() -> None:
    settings = {"settings": {"anchor_frames": 9, "history_frames": 6, "history_capacity": 30}}
    assert settled(OPEN, memory="echo-forcing", **settings)[0].settings.history_frames == 6
    other, origins = settled(f"memory: window\n{OPEN}", **settings)
    assert other.policy == "window" and "settings" not in origins
    both, _ = settled(f"memory: {{policy: echo-forcing, history_capacity: 36}}\n{OPEN}",
                      {"settings": ["memory.recent_frames=3"]}, memory="echo-forcing", **settings)
    assert (both.settings.history_capacity, both.settings.anchor_frames) == (36, 9)
    alone, _ = settled(f"memory: {{history_capacity: 36}}\n{OPEN}", memory="window")
    assert (alone.policy, alone.settings.history_capacity) == (DEFAULT_POLICY, 36), "settings alone: the default memory"


@pytest.mark.parametrize(("below", "said"), [
    ({"model": "tinyy"}, "from model: no model is called 'tinyy' (did you mean 'tiny'?)"),
    ({"memory": "windo"}, "from memory: no memory policy is called 'windo' (did you mean 'window'?)"),
    ({"settings": ["memory.windw=3"]}, "from settings: memory.windw=3: there is no setting"),
])
def test_a_default_that_cannot_be_is_refused_with_its_place(below: dict, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        settled(OPEN, **below)
    assert said in caught.value.message


def test_a_default_that_is_not_used_does_not_matter() -> None:
    assert settled(f"model: tiny\n{OPEN}", model="tinyy")[0].model == "tiny"
