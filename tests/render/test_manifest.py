"""Skipped, refused or made: what a manifest decides."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from echo_cli.files import publish
from echo_cli.render.manifest import Identity, Standing, differences, prepare, read, refuse, standing
from echo_cli.render.outputs import Outputs, outputs_of
from echo_cli.video.target import Output

IDENTITY = Identity("a" * 64, "b" * 64, 7, {"size": [96, 64], "memory": {"policy": "sink", "window": None}}, "1.0")


@pytest.fixture(params=["film.mp4", "%03d.png"])
def outputs(request: pytest.FixtureRequest, tmp_path: Path) -> Outputs:
    """A film made and whole."""
    made = outputs_of(str(tmp_path / request.param), "")
    files = [made.film.path] if made.film.encoder is None else [made.film.picture(0), made.film.picture(1)]
    for path in files:
        path.write_bytes(b"12345")
    made.trace.write_text("{}")
    outputs = {"film": Output(made.film.path, "c", 5 * len(files)), "trace": Output(made.trace, "d", 2)}
    film = {"width": 96, "height": 64, "fps": 24.0, "pictures": 2, "seconds": 0.08}
    prepare(made.manifest, IDENTITY, outputs, {"film": film})
    publish(made.manifest)
    return made


def test_the_same_run_is_done(outputs: Outputs) -> None:
    assert standing(outputs, IDENTITY) is Standing.DONE


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"seed": 8}, "seed was 7, now 8"),
        ({"storyboard": "e" * 64}, "another storyboard"),
        ({"weights": "f" * 64}, "other weights"),
        ({"version": "1.1"}, "version was 1.0, now 1.1"),
        (
            {"settings": {"size": [96, 64], "memory": {"policy": "sink", "window": 9}}},
            "memory.window was not set, now 9",
        ),
        (
            {"settings": {"size": [192, 128], "memory": {"policy": "sink", "window": None}}},
            "size was 96x64, now 192x128",
        ),
        ({"settings": {"size": [96, 64], "memory": {"policy": "echo", "library": 64}}}, "memory was sink, now echo"),
    ],
)
def test_another_run_is_refused_and_told_why(outputs: Outputs, change: dict, reason: str) -> None:
    other = replace(IDENTITY, **change)
    assert standing(outputs, other) is Standing.TAKEN
    problem = refuse(outputs, other, "story.yaml")
    assert reason in problem.message and "--force" in problem.hint and problem.exit_code == 5


def test_files_and_encodings_are_named_by_what_differs() -> None:
    before = {"audio": None, "font": "a" * 64, "encoding": ["-c:v", "libx264", "-crf", "18", "-preset", "fast"]}
    after = {"audio": "c" * 64, "font": "d" * 64, "encoding": ["-c:v", "libx264", "-crf", "30", "-preset", "fast"]}
    assert differences(before, after) == [
        "audio was not set, now a file", "another font", "encoding was -crf 18, now -crf 30"]


def test_a_film_that_lost_bytes_is_made_again_without_asking(outputs: Outputs) -> None:
    next(iter(outputs.film.existing())).write_bytes(b"123")
    assert standing(outputs, IDENTITY) is Standing.FREE
    for path in outputs.film.existing():
        path.unlink()
    assert standing(outputs, IDENTITY) is Standing.FREE


@pytest.mark.parametrize("film", [None, 3, {}, {"pictures": None}, {"pictures": "9"}, {"fps": True}])
def test_a_manifest_that_does_not_say_how_large_its_film_is_is_damaged(outputs: Outputs, film: object) -> None:
    content = json.loads(outputs.manifest.read_text())
    if film:
        content["film"] = {**content["film"], **film} if isinstance(film, dict) else film
    else:
        content.pop("film")
    outputs.manifest.write_text(json.dumps(content))
    assert read(outputs.manifest) is None and standing(outputs, IDENTITY) is Standing.TAKEN


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": "echo-manifest", "version": 2}', "\x00\xff",
                                     '{"identity": 3}',
                                     '{"format": "echo-manifest", "version": 1, "outputs": {"film": 3}}'])
def test_a_damaged_or_foreign_manifest_protects_what_is_there(outputs: Outputs, content: str) -> None:
    outputs.manifest.write_text(content, encoding="latin-1")
    assert read(outputs.manifest) is None
    assert standing(outputs, IDENTITY) is Standing.TAKEN
    assert "exists" in refuse(outputs, IDENTITY, "story.yaml").message


def test_nothing_there_is_free_and_a_lone_companion_is_not(tmp_path: Path) -> None:
    outputs = outputs_of(str(tmp_path / "film.mp4"), "")
    assert standing(outputs, IDENTITY) is Standing.FREE
    assert standing(outputs_of("-", ""), IDENTITY) is Standing.FREE
    outputs.trace.write_text("what a failed run left")
    assert standing(outputs, IDENTITY) is Standing.FREE
    outputs.subtitles.write_text("somebody's own")
    assert standing(outputs, IDENTITY) is Standing.TAKEN


def test_every_prefix_of_a_manifest_is_no_manifest(outputs: Outputs) -> None:
    whole = outputs.manifest.read_text()
    for length in range(0, len(whole) - 2, 7):
        outputs.manifest.write_text(whole[:length])
        assert standing(outputs, IDENTITY) is Standing.TAKEN
    assert json.loads(whole)["identity"]["weights"] == "b" * 64


@pytest.mark.parametrize("outputs", ["film.mp4"], indirect=True)
def test_a_film_of_another_kind_keeps_its_manifest(outputs: Outputs) -> None:
    other = outputs_of(str(outputs.film.path.with_name("film.webm")), "")
    assert standing(other, IDENTITY) is Standing.TAKEN
    assert f"belongs to {next(iter(outputs.film.existing()))}" in refuse(other, IDENTITY, "story.yaml").message
    for path in outputs.film.existing():
        path.unlink()
    assert standing(other, IDENTITY) is Standing.FREE
