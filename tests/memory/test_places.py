"""Frames stay where they stand in the window, and the block is turned to meet them."""

import json

import pytest
import torch

from echo_cli.memory import store as stores
from echo_cli.memory.places import Standing, Wanted, in_order, in_place
from echo_cli.memory.table import POLICIES
from echo_cli.rollout.rollout import Begun, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.state import pack, unpack
from tests.small import GRID, SHORT, STORY, model, policy_for, prompts_for, run, story


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stores keep frames in place, as they do on a GPU."""
    made = stores.KVStore.__init__

    def in_place(self: stores.KVStore, *given, **named) -> None:
        made(self, *given, **named)
        self.in_place = True

    monkeypatch.setattr(stores.KVStore, "__init__", in_place)


def past(*frames: tuple[int, int]) -> list[Wanted]:
    return [Wanted(slot, position, False) for slot, position in frames]


def test_a_window_that_slides_moves_nothing() -> None:
    standing = [Standing(slot, slot) for slot in range(6)]
    # Frames 2 to 5 stay, a block of two takes the places of frames 0 and 1, and all positions move by two.
    result = in_place(standing, past((2, 0), (3, 1), (4, 2), (5, 3)), 2, (4, 5), 96)
    assert result == ((2, 3, 4, 5), (0, 1), 2, {0, 1, 2, 3})


def test_a_frame_at_another_distance_takes_a_free_place() -> None:
    standing = [Standing(slot, slot) for slot in range(6)]
    result = in_place(standing, past((9, 0), (3, 1), (4, 2), (1, 3)), 2, (4, 5), 96)
    assert result.shift == 2 and result.past == (0, 3, 4, 1) and result.block == (2, 5) and result.kept == {1, 2}


def test_a_fading_frame_never_stays() -> None:
    result = in_place([Standing(0, 0), Standing(1, 1), None], [Wanted(0, 0, True), Wanted(1, 1, False)], 1, (2, 2), 96)
    assert result.kept == {1} and result.past == (0, 1)


def test_at_the_end_of_the_table_the_window_is_laid_out_again() -> None:
    standing = [Standing(slot, slot + 90) for slot in range(6)]
    result = in_place(standing, past((2, 0), (3, 1), (4, 2), (5, 3)), 2, (4, 5), 96)
    assert result.shift == 0 and not result.kept
    assert in_place(standing, past((2, 0), (3, 1)), 2, (2, 3), 96).shift == 92


def test_in_order_only_what_is_already_there_stays() -> None:
    result = in_order([Standing(0, 0), Standing(4, 1), None], past((0, 0), (3, 1)), 1)
    assert result == ((0, 1), (2,), 0, {0})


@pytest.mark.parametrize("name", POLICIES)
@torch.inference_mode()
def test_a_window_that_is_kept_shows_what_one_laid_out_again_shows(name: str, request: pytest.FixtureRequest) -> None:
    timeline = story(STORY if name == "echo-forcing" else SHORT)
    plain_run = run(name, timeline)
    request.getfixturevalue("kept")
    for plain, moved in zip(plain_run, run(name, timeline), strict=True):
        torch.testing.assert_close(moved.latents, plain.latents, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_suppressed_frames_keep_their_bias_wherever_they_stand(request: pytest.FixtureRequest) -> None:
    timeline, settings = story(SHORT), {"forgetting": "suppress"}
    plain_run = run("echo-forcing", timeline, settings)
    request.getfixturevalue("kept")
    for plain, moved in zip(plain_run, run("echo-forcing", timeline, settings), strict=True):
        torch.testing.assert_close(moved.latents, plain.latents, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["window", "recache", "echo-forcing", "scene-queries"])
@torch.inference_mode()
def test_a_film_resumed_with_frames_in_place_is_the_same_bits(name: str, kept: None) -> None:
    timeline, transformer = story(SHORT), model()

    def blocks(begun: Begun | None = None):
        return rollout(timeline, transformer, prompts_for(timeline), policy_for(name, timeline),
                       KeyedNoise(1, timeline.scenes), GRID, begun=begun)

    whole, states = [], []
    for result in blocks():
        whole.append(result.latents)
        tensors, plain = pack(result.state())
        states.append(unpack({key: tensor.clone() for key, tensor in tensors.items()}, json.loads(json.dumps(plain))))
    for stop in (5, 8, 10, 13):
        rest = [result.latents for result in blocks(Begun(stop, states[stop - 1]))]
        assert all(torch.equal(one, two) for one, two in zip(rest, whole[stop:], strict=True))
