"""One field is one option: commands, help, log, identity and planned command all follow from it."""

import contextlib
import io
import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Literal, get_args

import pytest
import typer

from echo_cli.cli.generate import generate
from echo_cli.cli.options import Answer, takes
from echo_cli.cli.plain_help import plain
from echo_cli.errors import UsageError
from echo_cli.models.running import Offload, Pictures
from echo_cli.render.batch.plan import command
from echo_cli.render.batch.request import BatchRequest
from echo_cli.render.log import Log
from echo_cli.render.options import Decides, Option, Options, Panel, fields_of
from echo_cli.render.progress import Style
from echo_cli.render.request import FilmOptions, PictureOptions, Request
from echo_cli.video.subtitles import Subtitles
from tests.render import stage


@dataclass(frozen=True)
class WithGrain(Request):
    """The one edit: a field."""

    grain: Annotated[int, Option(
        help="Film grain, from 0 to 9.", panel=Panel.PICTURE, metavar="N", least=0,
        decides=Decides.FILM_IF_CHANGED)] = 0


def call(words: list[str]) -> tuple[WithGrain, str]:
    """What a command that takes the new request makes of these words, and its help."""
    read: list[WithGrain] = []

    def make(request: WithGrain, answer: Answer) -> None:
        read.append(request)

    app = typer.Typer(rich_markup_mode=None)
    app.command()(takes(WithGrain, Answer)(make))
    typed = plain(typer.main.get_command(app))
    typed.main(words, standalone_mode=False)
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        typed.main(["--help"], standalone_mode=False)
    return read[0], written.getvalue()


def test_a_new_option_is_one_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    request, written = call(["a.yaml", "--grain", "3"])
    monkeypatch.setenv("ECHO_GRAIN", "4")
    assert call(["a.yaml"])[0].grain == 4 and call(["a.yaml", "--grain", "3"])[0] == request
    monkeypatch.delenv("ECHO_GRAIN")
    assert request == WithGrain("a.yaml", grain=3)
    picture = written.partition("\nPicture:\n")[2].partition("\n\n")[0]
    assert "--grain N" in picture and "Film grain, from 0 to 9. [default: 0; at least 0]" in " ".join(picture.split())
    assert command(request)[3:] == ["--grain", "3"] and command(WithGrain("a.yaml"))[3:] == []

    job = replace(stage.job(tmp_path), request=request)
    with Log(tmp_path / "film.log") as log:
        log.settings(dict(job.options))
    assert "grain: 3\n" in (tmp_path / "film.log").read_text()
    assert job.identity("").settings["grain"] == 3
    before = replace(job, request=WithGrain("a.yaml")).identity("")
    assert before == replace(job, request=Request("a.yaml")).identity(""), "films made before it are the same films"
    with pytest.raises(UsageError, match=r"--grain -1: must be a whole number of at least 0"):
        WithGrain("a.yaml", grain=-1)


def test_every_field_says_all_there_is_to_say() -> None:
    for kind in (Request, BatchRequest):
        for field in fields_of(kind):
            assert field.option.help.endswith("."), field.name
            assert isinstance(field.option.panel, Panel)
            assert field.option.metavar or field.choices or bool in field.kinds, f"{field.name} has no metavar"
        flags = [flag for field in fields_of(kind) for flag in (field.option.flags or (field.flag,))]
        assert len(flags) == len(set(flags))


def test_a_field_without_its_annotation_is_refused() -> None:
    @dataclass(frozen=True)
    class Bare(Options):
        grain: int = 0

    with pytest.raises(ValueError, match=r"Bare\.grain has no Option annotation"):
        Bare()


@pytest.mark.parametrize(("name", "kind"), [
    ("decoder", Pictures), ("offload", Offload), ("subtitles", Subtitles), ("progress", Style)])
def test_choices_are_those_of_the_program(name: str, kind: type) -> None:
    assert {choice for field in fields_of(Request) if field.name == name for choice in field.choices} == set(kind)


def test_the_identity_of_a_film_has_the_keys_it_always_had(tmp_path: Path) -> None:
    settings = stage.job(tmp_path).identity("").plain()["settings"]
    assert set(settings) == {"model", "memory", "size", "scale", "dtype", "subtitles", "encoding"}
    assert settings | {"memory": None} == {
        "model": "tiny", "memory": None, "size": [96, 64], "scale": 1, "dtype": "auto", "subtitles": "srt",
        "encoding": ["-c:v", "libx264", "-threads", "4", "-crf", "18", "-preset", "ultrafast"]}
    assert settings["memory"]["policy"] == "echo" and settings["memory"]["recent_frames"] == 3
    job = stage.job(tmp_path, name="%06d.png")
    other = replace(job, request=replace(job.request, decoder="fast", fast=True))  # of a model that has them
    more = other.identity("").plain()["settings"]
    assert set(more) - set(settings) == {"decoder", "fast"} and set(settings) - set(more) == {"encoding"}
    assert (more["decoder"], more["fast"]) == ("fast", True)


def test_values_may_come_as_python_has_them() -> None:
    read = Request("a.yaml", size="832x480", settings={"recent_frames": 3, "smooth": {"clear_after": 2}}, crf=20)
    assert read.size == (832, 480) and Request("a.yaml", size=[832, 480]).size == (832, 480)
    assert read.settings == ("memory.recent_frames=3", "memory.smooth.clear_after=2")
    assert Request("a.yaml", device=None).device == "auto", "None is the default"
    assert Request("a.yaml", codec="h264") == Request("a.yaml", codec="libx264"), "a codec has several names"
    assert replace(read, seed=4) == Request(
        "a.yaml", size=(832, 480), settings=read.settings, crf=20, seed=4), "reading a value twice changes nothing"


@pytest.mark.parametrize(("options", "written"), [
    ({"seed": -1}, "--seed must lie between 0 and 9223372036854775807, not '-1'"),
    ({"seed": 2**63}, "--seed must lie between 0 and 9223372036854775807, not '9223372036854775808'"),
    ({"seed": "x"}, "--seed 'x': must be a whole number"),
    ({"seed": True}, "--seed True: must be a whole number"),
    ({"seed": 1.5}, "--seed 1.5: must be a whole number"),
    ({"wait": -1}, "--wait -1: must be a number of at least 0"),
    ({"grace": float("nan")}, "--grace nan: must be a number"),
    ({"size": (1, 2, 3)}, "not a size"),
    ({"scale": 17}, "1 to 16 times"),
    ({"decoder": "fats"}, "--decoder fats: not one of full, light, fast (did you mean 'fast'?)"),
    ({"output": 3}, "-o 3: must be a path"),
    ({"font": ["a.ttf"]}, "--font ['a.ttf']: must be a path"),
    ({"output": "a\0b.mp4"}, "-o 'a\\x00b.mp4': a path has no zero byte"),
    ({"scenes": ""}, "--scenes '': a path is not empty"),
    ({"settings": 3}, "--set 3: must be a mapping or a list"),
    ({"settings": [3]}, "--set 3: must be NAME=VALUE"),
    ({"settings": {"window": object()}}, "--set memory.window: <object"),
    ({"settings": {3: 3}}, "--set 3: must be NAME=VALUE"),
    ({"keep_room": "1e999"}, "--keep-room 1e999: not a size"),
    ({"force": "yes"}, "--force 'yes': must be True or False"),
    ({"device": "abacus"}, "no device is called 'abacus'"),
    ({"dtype": "float8"}, "no dtype is called 'float8'"),
])
def test_a_value_that_cannot_be_is_refused_at_once(options: dict, written: str) -> None:
    with pytest.raises(UsageError) as caught:
        Request("a.yaml", **options)
    assert written in caught.value.message and (caught.value.hint or "").endswith(".")


@pytest.mark.parametrize("storyboard", [{"scenes": []}, None, b"a.yaml", 3])
def test_what_is_no_storyboard_is_refused(storyboard: object) -> None:
    with pytest.raises(UsageError, match=r"^storyboard .*: must be a path or a Storyboard$"):
        Request(storyboard)


def test_each_command_takes_what_its_class_says() -> None:
    def names(kind: type) -> set[str]:
        return {field.name for field in fields(kind)}

    assert names(PictureOptions) < names(FilmOptions) < names(Request)
    assert names(Request) - names(FilmOptions) == {"storyboard", "output", "scenes"}
    signature = generate.__signature__.parameters
    assert set(signature) == names(Request) | {"prompt", "duration", "dry_run", "show_settings", "open", "here",
                                               "as_json", "debug", "context"}
    assert next(iter(signature)) == "storyboard"
    options = get_args(signature["progress"].annotation)[1]
    assert (options.rich_help_panel, options.help) == ("Reporting", "How to report progress.")


def test_a_batchs_films_have_its_options() -> None:
    batch = BatchRequest(paths=["a.yaml"], seed=3, settings=["memory.window=21"], retries=2, log_file="x.log")
    assert batch.film("a.yaml", "a.mp4") == Request(
        "a.yaml", "a.mp4", seed=3, settings=["memory.window=21"], log_file="x.log", keep_states="none")


def test_a_literal_is_a_choice() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Colours(Options):
        colour: Annotated[Literal["red", "blue"], Option(help="A colour.", panel=Panel.PICTURE)] = "red"

    read: list[Colours] = []
    app = typer.Typer(rich_markup_mode=None)
    app.command()(takes(Colours)(read.append))
    typer.main.get_command(app).main(["--colour", "blue"], standalone_mode=False)
    assert read == [Colours(colour="blue")] and type(read[0].colour) is str and json.dumps(read[0].colour) == '"blue"'
