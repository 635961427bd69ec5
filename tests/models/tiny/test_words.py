"""The words of `tiny`: synonyms share a row, strangers are accepted and told, phrases win over words."""

import subprocess
import sys

import pytest
import torch

from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.models.tiny.words import (
    ROWS,
    TABLES,
    TEXT_LENGTH,
    concepts_of,
    contradictions,
    rows_of,
    unknown_words,
)


def test_synonyms_share_a_row_and_fillers_have_none():
    plain = rows_of("red ball left meadow sunset")
    assert rows_of("A Crimson sphere rolls to the leftwards, over a grassy field at DUSK!") == plain
    assert plain[5:] == [0] * (TEXT_LENGTH - 5) and len(set(plain)) == 6


def test_every_synonym_is_read_as_its_own_concept():
    for table, members in TABLES.items():
        for name, synonyms in members.items():
            for synonym in synonyms:
                assert concepts_of(synonym)[table] == [name], synonym


@pytest.mark.parametrize(("prompt", "colours", "places"), [
    ("a red ball on a green meadow", ["red"], ["meadow"]),
    ("a golden star on the golden dunes", ["yellow"], ["desert"]),
    ("a green ball in a pine forest", ["green"], ["forest"]),
])
def test_the_colour_of_a_place_is_not_the_subjects(prompt, colours, places):
    read = concepts_of(prompt)
    assert read["colour"] == colours and read["place"] == places


def test_strangers_are_told_once_and_change_nothing():
    assert unknown_words("A zebra and the Zebra's friend, a zebra, on the beach") == ["zebra", "zebra's", "friend"]
    style = "Anamorphic 35mm, volumetric fog, award winning, intricate, photorealistic, crisp, detailed, moody, raw. "
    assert len(unknown_words(style)) > 8 and rows_of(style) == rows_of("")
    assert rows_of(style + "A red ball in the city") == rows_of("a red ball in the city")


def test_what_is_said_twice_is_told():
    assert contradictions("golden light, depth of field: a blue box bounces in the city") == [
        ("colour", ["golden", "blue"]), ("place", ["field", "city"])]
    assert contradictions("a crimson ball, a red orb at the golden hour on a green meadow at dusk") == []


@pytest.mark.parametrize(
    "prompt", ["", "   ", "…!?", "the of and", "日本の浜辺", "word " * 500, "\0\n\t", "naïve façade"]
)
def test_any_prompt_has_rows(prompt):
    rows = rows_of(prompt)
    assert len(rows) == TEXT_LENGTH and all(0 <= row < ROWS for row in rows)


def test_the_encoder_leaves_the_rest_of_a_row_silent():
    torch.manual_seed(0)
    encoder = WordTextEncoder(8)
    features = encoder.encode(["a red ball", ""])
    assert features.shape == (2, TEXT_LENGTH, 8)
    assert (features[0, :2] != 0).all() and (features[0, 2:] == 0).all() and (features[1] == 0).all()
    assert encoder.unknown_words("a quokka") == ["quokka"]


def test_reading_words_needs_no_torch():
    code = "import sys, echo_cli.models.tiny.words; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
