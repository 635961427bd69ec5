"""What prompts say of where and when they are, and whether a place has been seen."""

from collections import Counter

import pytest

from echo_cli.memory.settings import LEAST_SIMILARITY
from echo_cli.models.tiny.words import PLACES, TIMES
from echo_cli.storyboard import whereabouts as words
from echo_cli.storyboard.matching import similarities
from echo_cli.storyboard.whereabouts import stem, whereabouts

FILM = ("A chef chops onions in a busy restaurant kitchen", "A tram on a city street at night", "A rooftop at dawn")


def nearest(prompt: str) -> tuple[int, float]:
    row = similarities([*FILM, prompt], "places")[len(FILM)]
    return max(((index, row[index]) for index in range(len(FILM))), key=lambda each: each[1])


@pytest.mark.parametrize(("prompt", "scene"), [
    ("the chef is back in his kitchen, tasting a sauce", 0), ("Downtown again: a bicycle", 1),
    ("On the roof once more, in the morning", 2)])
def test_a_place_is_found_by_other_words(prompt: str, scene: int) -> None:
    place, similarity = nearest(prompt)
    assert place == scene and similarity > LEAST_SIMILARITY["places"]


@pytest.mark.parametrize("prompt", ["The chef buys fish at the harbour market at dawn", "A tram in a dark forest",
                                    "A chef chops onions in a cabin at night"])
def test_a_place_that_has_not_been_seen_is_like_none(prompt: str) -> None:
    assert nearest(prompt)[1] < LEAST_SIMILARITY["places"]


@pytest.mark.parametrize(("kind", "table"), [("place", PLACES), ("hour", TIMES)])
def test_the_places_and_hours_of_the_little_world_are_known(kind: str, table: dict[str, tuple[str, ...]]) -> None:
    for concept, synonyms in table.items():
        groups = {named for name in synonyms if name != "winter" for named in whereabouts(name) if named[0] != "word"}
        assert len(groups) == 1 and {named[0] for named in groups} == {kind}, concept


def test_no_name_is_in_two_groups() -> None:
    names = [name.strip() for table in (words._PLACES, words._HOURS) for name in table.replace("\n", ",").split(",")]
    twice = [name for name, times in Counter(filter(None, names)).items() if times > 1]
    assert not twice


@pytest.mark.parametrize(("word", "stemmed"), [
    ("beaches", "beach"), ("cities", "city"), ("grass", "grass"), ("circus", "circus"), ("dunes", "dune")])
def test_words_lose_their_plural(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed


def test_the_longest_name_wins_and_other_words_are_kept() -> None:
    assert list(whereabouts("Boats at the golden hour, a record shop")) == [
        ("word", "boat"), ("word", "at"), ("word", "the"), ("hour", "sunset"), ("word", "a"), ("place", "shop")]
