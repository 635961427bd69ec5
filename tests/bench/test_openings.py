"""What a picture does to a film of `tiny`: twenty fresh scenes of the little world, with it and without."""

import pytest
import torch
from torch import Tensor

from echo_cli.bench.metrics import background, decibels
from echo_cli.memory.table import read_settings
from echo_cli.models.backend import Backend
from echo_cli.models.loaders import load_backend
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.rollout.rollout import Given
from echo_cli.runtime import Runtime
from echo_cli.storyboard.nouns import Scene, timeline_of
from echo_cli.world.stories import HELD_OUT, StoryKind, sample_stories

SEEDS = range(HELD_OUT + 2000, HELD_OUT + 2020)
FOLLOWING = 64  # pictures: four seconds


@pytest.fixture(scope="module")
def backend() -> Backend:
    torch.set_num_threads(1)
    return load_backend("tiny", Runtime(torch.device("cpu"), torch.float32))


def rendered(backend: Backend, prompt: str, given: Given | None) -> Tensor:
    """Six blocks of one scene: [picture, 3, y, x]."""
    timeline = timeline_of([Scene("a", prompt, 4.5)], [6], backend.spec.geometry)
    policy = plan_policy("window", read_settings("window", {}), backend, timeline)
    state, pictures = None, []
    with torch.inference_mode():
        for result in film(backend, timeline, policy, 3, openings=lambda scene: given):
            made, state = backend.codec.decode(result.latents, state)
            pictures.append(made[0])
    return torch.cat(pictures)


@pytest.mark.slow
def test_a_film_begins_with_its_picture_and_stays_in_its_place(backend: Backend) -> None:
    """The place is compared where the picture shows it: outside the square around its subject."""
    gains = []
    for seed in SEEDS:
        small, large = (sample_stories([seed], 3, StoryKind.HOLD, detail=detail) for detail in (1, 2))
        picture, prompt = large.render(0, 1)[0, 0], small.prompts[0][0][1]
        place = torch.ones(picture.shape[-2:])
        left, top, right, bottom = (int(2 * edge) for edge in small.truth.box[0, 0].tolist())
        place[max(0, top - 6):max(0, bottom + 14), max(0, left - 6):max(0, right + 6)] = 0

        def likeness(pictures: Tensor, picture: Tensor = picture, place: Tensor = place) -> float:
            off = ((background(pictures) - picture).square() * place).sum() / (3 * place.sum())
            return float(-10 * off.log10())

        with torch.inference_mode():
            latents, _ = backend.codec.encode_piece(small.render(0, 1)[:, :1], None)
            carried = backend.codec.decode(latents, None)[0][0, 0]
        begun, free = (rendered(backend, prompt, given) for given in (Given(latents), None))
        assert abs(float(decibels(begun[0], picture) - decibels(carried, picture))) < 0.5
        gains.append(likeness(begun[1:1 + FOLLOWING]) - likeness(free[1:1 + FOLLOWING]))
        print(f"{gains[-1]:+.1f} dB  {prompt}")
    print(f"mean {sum(gains) / len(gains):+.1f} dB, better in {sum(gain > 0 for gain in gains)} of {len(gains)}")
    assert all(gain > 0 for gain in gains) and sum(gains) / len(gains) > 6
