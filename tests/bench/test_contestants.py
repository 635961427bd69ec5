"""A setting that is said not to act makes the same film; one that is said to act makes another."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from echo_cli.bench.contestants import BEYOND, CONTESTANTS, TOGETHER, contestant
from echo_cli.bench.scenarios import SCENARIOS, Scenario, story, timeline_for, with_length
from echo_cli.errors import UsageError
from echo_cli.memory.table import POLICIES
from echo_cli.rollout.rollout import rollout
from echo_cli.runtime import KeyedNoise
from tests import small

SPEC = replace(small.SPEC, depth=1, width=12, heads=1, ffn=8)
GRID = SPEC.grid_of_latents(2, 4)
TRANSFORMER = small.model(spec=SPEC)


def film(name: str, scenario: Scenario) -> Tensor:
    made = CONTESTANTS[name]
    timeline = timeline_for(scenario, story(scenario, 4), SPEC)
    policy = small.policy_for(made.policy, timeline, made.settings, SPEC)
    noise = KeyedNoise(4, timeline.scenes)
    blocks = rollout(timeline, TRANSFORMER, small.prompts_for(timeline, SPEC), policy, noise, GRID)
    return torch.cat([block.latents for block in blocks], 1)


QUICK = (with_length(SCENARIOS["long"], 9), SCENARIOS["to-and-fro"])


@pytest.mark.parametrize("scenario", [pytest.param(scenario, id=scenario.name) for scenario in QUICK] + [
    pytest.param(scenario, id=scenario.name, marks=pytest.mark.slow) for scenario in SCENARIOS.values()
    if scenario.name != "to-and-fro"])
def test_who_is_said_to_make_no_film_of_their_own_makes_none(scenario):
    plain = film("echo-forcing", scenario)
    for name in (*(f"+{part}" for part in BEYOND), f"+{TOGETHER}"):
        acts, same = CONTESTANTS[name].differs(scenario, SPEC), torch.equal(film(name, scenario), plain)
        assert acts != same or (acts and name == "+jump_by_gap"), name  # a gap may be jumped as far either way
    if len(scenario.acts) == 1:
        assert not CONTESTANTS["none"].differs(scenario, SPEC)
        assert torch.equal(film("none", scenario), film("sink", scenario))


def test_every_policy_and_every_setting_beyond_the_release_takes_part():
    assert set(POLICIES) <= set(CONTESTANTS)
    assert len(BEYOND) == 7 and all(any(f"+{part}" == name for name in CONTESTANTS) for part in BEYOND)
    assert set(CONTESTANTS[f"+{TOGETHER}"].settings) == {key for values in BEYOND.values() for key in values}
    assert any(CONTESTANTS[f"+{part}"].differs(scenario, SPEC) for part in BEYOND for scenario in SCENARIOS.values())


def test_everything_forgets_nothing_and_takes_part_where_a_place_returns_and_the_model_has_room():
    everything, scenario = CONTESTANTS["everything"], SCENARIOS["recall-1"]
    timeline = timeline_for(scenario, story(scenario, 4), SPEC)
    policy = small.policy_for(everything.policy, timeline, everything.settings_for(scenario, SPEC), SPEC)
    made = list(rollout(timeline, TRANSFORMER, small.prompts_for(timeline, SPEC), policy,
                        KeyedNoise(4, timeline.scenes), GRID))
    assert not any(block.facts.evicted for block in made[:-1])
    assert {name for name, scenario in SCENARIOS.items() if everything.takes_part(scenario, SPEC)} == {
        "recall-1", "recall-2", "recall-5", "shared", "to-and-fro", "mixed"}


def test_settings_can_be_joined():
    joined = contestant("+jump_by_gap+suppress")
    assert joined.settings == {"jump_by_gap": True, "forgetting": "suppress"} and joined.parts == (
        "jump_by_gap",
        "suppress",
    )
    assert joined.differs(SCENARIOS["cuts"], SPEC) and not joined.differs(SCENARIOS["long"], SPEC)
    with pytest.raises(UsageError, match="no policy or setting is called"):
        contestant("+jump_by_gap+nothing")


def test_any_setting_may_follow_a_policy():
    made = contestant("echo-infinity:update=initial,anchor_frames=3")
    assert (made.policy, made.settings, made.parts) == ("echo-infinity", {"update": "initial", "anchor_frames": 3}, ())
    assert made.differs(SCENARIOS["long"], SPEC) and contestant("echo-forcing:smooth.clear_after=2").settings == {
        "smooth": {"clear_after": 2}
    }
    for name, wrong in (
        ("echo-infinity:updat=initial", "no setting 'memory.updat'"),
        ("echo-infinity:update=never", "must be one of"),
        ("echo-infinite:update=initial", "no policy or setting is called"),
    ):
        with pytest.raises(UsageError, match=wrong):
            contestant(name)


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(UsageError, match="did you mean '.?suppress'") as caught:
        contestant("+supress")
    assert "recache" in caught.value.hint
