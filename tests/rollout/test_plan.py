import pytest
import torch

from echo_cli.errors import MissingError, UsageError
from echo_cli.memory.table import read_settings
from echo_cli.models.backend import Backend, text_features
from echo_cli.models.loaders import load_backend
from echo_cli.rollout.plan import Products, film, plan_policy
from echo_cli.runtime import Runtime
from echo_cli.storyboard.matching import stripped
from echo_cli.storyboard.nouns import Kind
from tests.small import SPEC, model, story

PLAN = [(None, None, 1), (Kind.HARD_CUT, None, 1), (Kind.HARD_CUT, None, 1), (Kind.HARD_CUT, None, 1),
        (Kind.RECALL, "auto", 1)]


class Letters:
    """A text encoder whose only concept is how many letters of a prompt are 'o'; it remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def prepare(self, prompts) -> None:
        pass

    def encode(self, prompts) -> torch.Tensor:
        self.asked += prompts
        rows = torch.zeros(len(prompts), SPEC.text_len, SPEC.text_dim)
        for index, prompt in enumerate(prompts):
            rows[index, 0, 0], rows[index, 0, 1] = 1.0, float(prompt.count("o"))
        return rows

    def unknown_words(self, prompt: str) -> list[str]:
        return []


def backend() -> Backend:
    return Backend(SPEC, model(), Letters(), None, "none")


def test_matching_by_embedding_asks_the_text_encoder_for_what_tells_scenes_apart() -> None:
    made, timeline = backend(), story(PLAN)
    policy = plan_policy("echo-forcing", read_settings("echo-forcing", {"match": "embedding"}), made, timeline)
    assert made.text.asked == stripped([scene.prompt for scene in timeline.scenes])
    features = text_features(Letters(), made.text.asked)
    likeness = (features @ features.T)[4, :4].tolist()
    assert policy.recalls[4].scene == likeness.index(max(likeness))
    assert dict(policy.recalls[4].scores) == pytest.approx(dict(enumerate(likeness)), abs=1e-6)


def test_only_the_scenes_that_a_library_holds_are_compared() -> None:
    features = torch.eye(9)[:, :5] + torch.arange(45.0).view(9, 5) / 45
    row, wanted = Products(features, 3)[7], (features @ features[7]).tolist()
    assert len(row.near) == 4 and [row[other] for other in range(9)] == pytest.approx(wanted)


@pytest.mark.parametrize("policy", ["window", "sink", "flush", "recache"])
def test_a_policy_that_keeps_no_scenes_compares_none(policy: str) -> None:
    recalls = plan_policy(policy, read_settings(policy), backend(), story(PLAN)).recalls
    assert recalls and all(len(recall.scores) == 1 for recall in recalls.values())


def test_matching_by_words_does_not_ask_it() -> None:
    made = backend()
    policy = plan_policy("echo-forcing", read_settings("echo-forcing"), made, story(PLAN))
    assert policy.recalls[4].scene == 0 and not made.text.asked


def test_a_film_is_the_seeds() -> None:
    def latents(seed: int) -> torch.Tensor:
        made = backend()
        policy = plan_policy("sink", read_settings("sink"), made, story(PLAN))
        return torch.cat([result.latents for result in film(made, story(PLAN), policy, seed, (48, 32))], 1)

    assert torch.equal(latents(3), latents(3)) and not torch.equal(latents(3), latents(4))


@pytest.mark.parametrize("recall", ["nowhere", "scene4", "scene1"])
def test_a_recall_of_nothing_is_told_before_any_frame(recall: str) -> None:
    timeline = story([*PLAN[:1], (Kind.RECALL, recall, 1)])
    with pytest.raises(UsageError, match=f"recall of '{recall}', but no earlier scene has that id"):
        plan_policy("window", read_settings("window"), backend(), timeline)


def test_models_that_are_not_here() -> None:
    runtime = Runtime.choose("cpu")
    with pytest.raises(UsageError, match="did you mean 'tiny'"):
        load_backend("tinny", runtime)
    with pytest.raises(MissingError, match="wan2.1-t2v-1.3b"):
        load_backend("wan2.1-t2v-1.3b", runtime)


@pytest.mark.parametrize("name", ["echo-infinity", "scene-queries"])
def test_missing_queries_are_an_error_before_any_frame(name: str) -> None:
    with pytest.raises(MissingError, match="none have been trained") as caught:
        plan_policy(name, read_settings(name), backend(), story(PLAN))
    assert "echo-cli train" in caught.value.hint
    assert plan_policy(name, read_settings(name, {"trained": False}), backend(), story(PLAN)).plan.queries is None
