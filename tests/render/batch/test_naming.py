"""Names of films: what the fields give, what is refused, and no name twice."""

from dataclasses import replace
from pathlib import Path

import pytest

from echo_cli.errors import UsageError
from echo_cli.render.batch.naming import check_distinct, check_name, needs_reading, outputs_for
from echo_cli.storyboard.parse import parse

BOARD = replace(parse("seed: 7\nscenes: [{id: a, prompt: a ball, duration: 1s}]"), model="models/own/", policy="sink")


def film(name: str, source: str = "shots/s1.yaml", folder: str = "out") -> str:
    return str(outputs_for(source, BOARD, name, folder).film.path)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("{stem}", "out/s1.mp4"),
        ("{stem}-{seed}", "out/s1-7.mp4"),
        ("{stem}-{seed:04}.mp4", "out/s1-0007.mp4"),
        ("{folder}/{stem}", "out/shots/s1.mp4"),
        ("{model}_{memory}", "out/own_sink.mp4"),
        ("{stem}.{seed}", "out/s1.7.mp4"),
        ("frames/{stem}/%06d.png", "out/frames/s1/%06d.png"),
        ("{{x}}{stem}", "out/{x}s1.mp4"),
    ],
)
def test_fields_are_filled(name: str, path: str) -> None:
    check_name(name)
    assert film(name) == path


def test_a_stem_that_ends_like_another_kind_of_film_is_only_a_name() -> None:
    assert film("{stem}", "cut.mov.yaml") == "out/cut.mov.mp4"
    assert film("{stem}", "v1.2.yaml") == "out/v1.2.mp4"
    with pytest.raises(UsageError, match=".avi is not written here"):
        film("{stem}.avi")


def test_the_hash_tells_storyboards_apart() -> None:
    other = outputs_for("shots/s1.yaml", replace(BOARD, seed=8), "{hash}", "out").film.path
    assert str(other) != film("{hash}") and len(other.stem) == 8


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "--name '': names no film"),
        ("{sead}", "did you mean 'seed'"),
        ("{}", "no field"),
        ("{0}", "no field"),
        ("{stem", "not understood"),
        ("stem}", "not understood"),
        ("{stem.__class__}", "no field"),
        ("{stem[0]}", "no field"),
        ("{seed:zz}", "not understood"),
        ("{stem!x}", "not understood"),
        ("{stem:{seed}}", "not understood"),
    ],
)
def test_what_is_no_name_is_refused(name: str, said: str) -> None:
    with pytest.raises(UsageError, match="--name") as caught:
        check_name(name)
    assert said in caught.value.message


@pytest.mark.parametrize("name", ["../{stem}", "/tmp/{stem}", "a/../../{stem}", ".", " "])
def test_a_name_stays_in_the_folder(name: str) -> None:
    with pytest.raises(UsageError, match="not a name inside the folder"):
        film(name)


def test_which_names_need_the_storyboards() -> None:
    assert not needs_reading("{folder}-{stem}") and needs_reading("{stem}-{seed}") and needs_reading("{hash}")


def test_no_two_films_may_share_a_file() -> None:
    def distinct(*films: tuple[str, str], name: str = "{stem}") -> None:
        check_distinct([(source, outputs_for(source, BOARD, name, folder)) for source, folder in films])

    distinct(("a/x.yaml", "out"), ("a/y.yaml", "out"))
    distinct(("a/x.yaml", "one"), ("b/x.yaml", "two"))
    distinct(("a/x.yaml", "out"), ("b/x.yaml", "out"), name="{folder}-{stem}")
    with pytest.raises(UsageError, match=r"a/x\.yaml and b/x\.yaml would both become out/../out/x\.mp4"):
        distinct(("a/x.yaml", "out"), ("b/x.yaml", str(Path("out/../out"))))
    with pytest.raises(UsageError, match="would both become"):  # the films differ, but not what lies beside them
        check_distinct([("a", outputs_for("a/x.yaml", BOARD, "{stem}", "o")),
                        ("b", outputs_for("b/y.yaml", BOARD, "x%04d.png", "o"))])
