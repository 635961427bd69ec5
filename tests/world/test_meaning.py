"""Meaning: the eye's checks and alignment, right about held-out scenes, and lower for every damage that changes the
meaning."""

import json
from pathlib import Path

import pytest
import torch

from echo_cli.bench.eyesight import CODED, DAMAGES, NOISE, Trial, elsewhere, eyesight, through, trials
from echo_cli.cli import app
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.model import load_codec
from echo_cli.models.tiny.parts import WEIGHTS, part_path
from echo_cli.world.eye import ASPECTS, check
from echo_cli.world.meaning import Meaning, load_meaning
from echo_cli.world.probes import judge

MEANINGFUL = (
    "another place",
    "another place, second half",
    "no subject",
    "frozen, of those that move",
    "backwards, of those that go",
)


@pytest.fixture(scope="module")
def meaning() -> Meaning:
    return load_meaning()


@pytest.fixture(scope="module")
def codec() -> TinyCodec:
    return load_codec(part_path(WEIGHTS, "codec"))


@pytest.fixture(scope="module")
def figures(meaning, codec) -> dict:
    return eyesight(meaning, codec, 6)


@pytest.fixture(scope="module")
def trial() -> Trial:
    return next(trials(8))


@pytest.mark.slow
def test_the_right_prompt_is_ranked_above_one_with_one_wrong_aspect(figures):
    for name, row in figures["shown"].items():
        assert row["ranked"] >= (0.7 if name == NOISE else 0.95), name
        assert row["right"] > row["wrong"] + 0.1 > row["strange"] + 0.3, name


@pytest.mark.slow
def test_the_checks_are_right_about_scenes_through_the_codec_and_soft_ones(figures):
    for name, row in figures["shown"].items():
        if name != NOISE:
            assert row["place"] == row["time"] == 1, name
            assert min(row[aspect] for aspect in ASPECTS) >= (0.6 if "blurred" in name else 0.8), name


@pytest.mark.slow
def test_a_film_that_falls_apart_fits_its_prompt_less(figures):
    shown = figures["shown"]
    assert shown[NOISE]["right"] < shown[CODED]["right"] - 0.1


@pytest.mark.slow
def test_damage_that_changes_the_meaning_is_seen(figures):
    damaged = figures["damaged"]
    assert set(damaged) == set(DAMAGES)
    for name in MEANINGFUL:
        assert damaged[name]["falls"] >= 0.9 and damaged[name]["by"] > 0.05, name
    assert damaged["another place, second half"]["by"] < damaged["another place"]["by"]


@pytest.mark.slow
def test_eyesight_over_many_scenes(meaning, codec):
    figures = eyesight(meaning, codec, 64)
    row = figures["shown"][CODED]
    assert row["ranked"] >= 0.98 and min(row[aspect] for aspect in ASPECTS) >= 0.95
    assert all(figures["damaged"][name]["falls"] >= 0.95 for name in MEANINGFUL)


def test_the_check_that_fails_is_the_one_that_was_damaged(meaning, trial):
    for story, prompt in enumerate(trial.prompts):
        swapped = meaning.attributes(elsewhere(trial)[story], prompt)
        assert swapped["place"] is False and swapped["time"] is True
        for aspect in ("place", "time"):
            assert meaning.attributes(trial.pictures[story], trial.wrong[story][aspect])[aspect] is False


def test_the_learned_eye_and_the_judges_made_by_hand_agree(meaning, codec, trial):
    films = through(trial.pictures[:4], codec)
    verdict = judge(films)
    same = [names[getattr(verdict, aspect)[story]] == meaning.sights(films[story], prompt)[aspect]
            for story, prompt in enumerate(trial.prompts[:4]) for aspect, names in ASPECTS.items()]
    assert sum(same) >= 0.9 * len(same)


def test_what_a_prompt_does_not_say_is_not_judged(meaning, trial):
    film = trial.pictures[0]
    assert {aspect for aspect, held in meaning.attributes(film, "a ball in the city").items() if held is None} == {
        "time",
        "colour",
        "motion",
    }
    assert meaning.attributes(film, "a red ball and a blue box")["colour"] is None
    assert set(meaning.attributes(film, "wobbling").values()) == {None}
    assert meaning.knows("a ball") and not meaning.knows("wobbling")
    with pytest.raises(ValueError, match="wobbling"):
        meaning.alignment(film, "wobbling")


def test_a_change_of_scene_shows_clip_by_clip(meaning, trial):
    one, two = trial.pictures[0], elsewhere(trial)[0]
    place = trial.batch.truth.place[0, 0].item()
    names = list(ASPECTS["place"])
    old, new = (f"a ball in the {names[at % len(names)]}" for at in (place, place + 1))
    fits = meaning.alignments(torch.cat((one[:24], two[:24])), [old, new])
    assert fits.shape == (4, 2)
    assert (fits[:2, 0] > fits[:2, 1]).all() and (fits[2:, 1] > fits[2:, 0]).all()
    assert meaning.alignment(one, old) == pytest.approx(meaning.alignments(one, [old]).mean().item())


def test_the_command_names_the_eye_and_every_figure(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["bench", "meaning", "--scenes", "1", "--json"]) == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert report["scenes"] == 1 and report["eye"] == check() and not err
    assert set(report["shown"]) >= {CODED, NOISE} and set(report["damaged"]) <= set(DAMAGES)
    assert all(0 <= row["ranked"] <= 1 for row in report["shown"].values())


def test_a_missing_eye_is_an_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["bench", "meaning", "--scenes", "1", "--eye", str(tmp_path)]) == 3
    out, err = capfd.readouterr()
    assert "the eye that judges films is missing" in err and not out
