"""The whole way from pictures to figures, on films of which it is known what is wrong with them."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.bench.filming import Take
from echo_cli.bench.judging import judge, judge_stayed, moments, wanted, wanted_stayed
from echo_cli.bench.scenarios import SCENARIOS, Scenario, never_left, with_length
from echo_cli.storyboard.nouns import Geometry

from .places import grain, layouts

GEOMETRY = Geometry()


def take(scenario: Scenario, scenes: list[Tensor], seed: int = 1) -> Take:
    """A film of still places, one a scene, with the grain of a codec."""
    pictures, index = {}, 0
    for act, place in zip(scenario.acts, scenes, strict=True):
        for _ in range(act.blocks):
            if index in wanted(scenario):
                shown = grain(place.expand(12 if index else 9, -1, -1, -1), 0.01, seed + index)
                pictures[index] = (shown * 255).round().byte()
            index += 1
    return Take(seed, pictures, 1_000_000, 0.05, torch.zeros(0))


def small(places: Tensor) -> Tensor:
    return F.avg_pool2d(places, 2)


@pytest.fixture(scope="module")
def world() -> dict[str, Tensor]:
    """Places by letter; a small letter is the same kind of place laid out otherwise."""
    kinds = {"P": (3, 0), "A": (0, 0), "B": (1, 2), "C": (2, 1)}
    places = {}
    for number, (letter, kind) in enumerate(kinds.items()):
        places[letter], places[letter.lower()] = small(layouts(*kind, 2, 20 * number))
    return places


def figures(name: str, world: dict[str, Tensor], film: list[Tensor], alone: str) -> dict[str, float]:
    scenario = SCENARIOS[name]
    twin = take(scenario, [world[letter] for letter in alone], 99)
    return judge(scenario, ["" for _ in film], take(scenario, film), twin, GEOMETRY, None).figures


def test_recalls_are_ranked_by_what_came_back(world):
    def recall(between: Tensor, back: Tensor) -> dict[str, float]:
        return figures("recall-1", world, [world["P"], world["A"], between, back], "PABa")

    place, other = world["A"], world["B"]
    right = recall(other, place)
    tenth = recall(other, 0.9 * place + 0.1 * other)
    otherwise, swapped, stuck = recall(other, world["a"]), recall(other, other), recall(place, place)
    for metric, sign in (("recall", 1), ("gain", 1), ("return", 1), ("recall SSIM", 1), ("recall distance", -1)):
        values = [sign * row[metric] for row in (right, tenth, otherwise, swapped)]
        assert values == sorted(values, reverse=True), metric
    assert right["recall"] > 30 and right["gain"] > 10 and right["return"] > 10
    assert abs(otherwise["gain"]) < 1  # the prompt alone
    assert abs(stuck["return"]) < 2 < stuck["gain"]  # who never left cannot come back


def test_cuts_are_ranked_by_what_was_left(world):
    def cut(share: float) -> dict[str, float]:
        old, middle, new = world["A"], world["B"], world["C"]
        first = (1 - share) * middle + share * old
        return figures("cuts", world, [old, first, (1 - share) * new + share * first], "Abc")

    shares = [cut(share) for share in (0.0, 0.1, 0.4, 1.0)]
    left = [row["left over"] for row in shares]
    assert abs(left[0]) < 6 and left[1] - left[0] == pytest.approx(10, abs=3) and left == sorted(left)
    assert left[3] == pytest.approx(100, abs=3)
    assert [row["response"] for row in shares[:2]] == [0, 0] and shares[3]["response"] == 36


def test_a_chain_that_changes_place_has_seams(world):
    place = world["A"]
    kept = figures("chain", world, [place] * 4, "Aaaa")
    lost = figures("chain", world, [place, world["a"], place, world["a"]], "Aaaa")
    assert kept["seam"] < 2 < 5 < lost["seam"]
    assert kept["place kept"] > 30 > 20 > lost["place kept"]


def test_a_long_scene_is_measured_by_how_it_ends():
    scenario = with_length(SCENARIOS["long"], 48)
    place = small(layouts(0, 0, 1))[0]

    def film(fade: float) -> Take:
        pictures = {}
        for block in wanted(scenario):
            shown = place.mean() + (1 - fade * block / 47) * (place - place.mean())
            pictures[block] = (grain(shown.expand(12, -1, -1, -1), 0.005, block) * 255).round().byte()
        return Take(0, pictures, 1, 1.0, torch.zeros(0))

    judgements = [judge(scenario, [""], film(fade), film(0), GEOMETRY, None) for fade in (0.0, 0.2, 0.5)]
    drifts, slopes = ([each.figures[name] for each in judgements] for name in ("drift", "slope"))
    assert drifts[0] < 1 and abs(slopes[0]) < 2 and drifts == sorted(drifts) and slopes == sorted(slopes)
    seconds, values = zip(*judgements[2].curves["contrast drift"], strict=True)
    assert seconds[0] == 0 and seconds[-1] == pytest.approx(47.5 * 0.75)
    assert values[-1] == pytest.approx(-50, abs=3)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_is_judged_from_the_blocks_it_asked_for(name, world):
    scenario = SCENARIOS[name]
    letters = {
        letter: list(world)[index % len(world)]
        for index, letter in enumerate(dict.fromkeys(act.place for act in scenario.acts))
    }
    made = take(scenario, [world[letters[act.place]] for act in scenario.acts])
    judgement = judge(scenario, ["" for _ in scenario.acts], made, made, GEOMETRY, None)
    asked = {"long": "drift", "chain": "seam", "cuts": "left over"}.get(name, "return")
    figures = judgement.figures
    if scenario.shared:
        assert set(figures) == {"shared recall"} and figures["shared recall"] > 30
        return
    assert asked in figures and figures["memory"] == 1 and figures["block"] == pytest.approx(50)
    assert max(wanted(scenario)) == scenario.blocks - 1
    shown = moments(scenario, made)
    assert [scene for scene, *_ in shown] == sorted(scene for scene, *_ in shown) and shown[-1][0] == len(
        scenario.acts
    ) - 1
    assert all(picture.dtype == torch.uint8 and picture.shape == (3, 64, 96) for *_, picture in shown)


def test_a_place_that_stays_is_held_and_one_that_fades_or_is_sharpened_is_not(world):
    scenario, place = SCENARIOS["hold"], world["A"]

    def returned(last: Tensor) -> dict[str, float]:
        made = take(scenario, [world["P"], place, world["B"], place])
        for block in range(scenario.blocks - 12, scenario.blocks):
            made.pictures[block] = (grain(last.expand(12, -1, -1, -1), 0.01, block) * 255).round().byte()
        twin = take(scenario, [world["p"], world["a"], world["b"], world["a"]], 99)
        return judge(scenario, [""] * 4, made, twin, GEOMETRY, None).figures

    faded, sharp = (place.mean() + share * (place - place.mean()) for share in (0.7, 1.3))
    stays, fades, sharpened, lost = map(returned, (place, faded, sharp.clamp(0, 1), world["a"]))
    assert stays["held"] > 30 > fades["held"] > lost["held"]
    assert stays["sharpness kept"] > 97 > 96 > max(fades["sharpness kept"], sharpened["sharpness kept"])
    assert stays["recall"] == fades["recall"]  # only the end differs


def test_a_film_that_never_left_is_the_ceiling(world):
    scenario = never_left(SCENARIOS["hold"])
    assert [(act.place, act.blocks) for act in scenario.acts] == [("P", 4), ("A", 43)]
    assert never_left(SCENARIOS["to-and-fro"]).counts == [10]
    pictures = {block: (grain(world["A"].expand(12, -1, -1, -1), 0.01, block) * 255).round().byte()
                for block in wanted_stayed(scenario)}
    verdict = judge_stayed(scenario, Take(1, pictures, 1, 1.0, torch.zeros(0)), GEOMETRY).figures
    assert verdict["recall"] > 30 and verdict["held"] > 30 and verdict["sharpness kept"] > 97


def test_a_cut_to_what_the_prompt_alone_shows_is_said_to_be_unaided(world):
    film = [world["A"], world["B"], world["C"]]
    scenario = SCENARIOS["cuts"]
    made = take(scenario, film)
    alone = judge(scenario, [""] * 3, made, made, GEOMETRY, None).figures
    assert alone["unaided"] == 100 and figures("cuts", world, film, "ABC")["unaided"] == 0
