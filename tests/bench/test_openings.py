"""What a picture does to a film of `tiny`: twenty fresh scenes of the little world, with it and without."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
from torch import Tensor

from echo_cli.bench.metrics import background, decibels, motion
from echo_cli.memory.table import read_settings
from echo_cli.models.backend import Backend
from echo_cli.models.loaders import load_backend
from echo_cli.models.tiny.words import COLOURS, SUBJECTS
from echo_cli.render.openings import still_of
from echo_cli.rollout.plan import film, plan_policy
from echo_cli.rollout.rollout import Given
from echo_cli.runtime import Runtime
from echo_cli.storyboard.nouns import Kind, Scene, timeline_of
from echo_cli.world.grammar import Saying, say
from echo_cli.world.probes import judge
from echo_cli.world.stories import HELD_OUT, Stories, StoryKind, sample_stories

SEEDS = range(HELD_OUT + 2000, HELD_OUT + 2020)
FOLLOWING = 64  # pictures: four seconds
BLOCK = 3
OFTEN = 0.25  # share of the time in which the subject hides a part of the place, so that the place is not seen there


@pytest.fixture(scope="module")
def backend() -> Backend:
    torch.set_num_threads(1)
    return load_backend("tiny", Runtime(torch.device("cpu"), torch.float32))


@dataclass(frozen=True)
class Shown:
    """A story's first picture at the film's size, what is said of it, and where it shows the place."""

    seed: int
    story: Stories
    picture: Tensor
    place: Tensor  # [y, x] 0 where the subject is in the picture
    clear: Tensor  # and 0 where it often is in the seconds after it, in the world's own film of this prompt

    @property
    def prompt(self) -> str:
        return self.story.prompts[0][0][1]

    def trait(self, name: str) -> int:
        return int(getattr(self.story.truth, name)[0, 0])

    def likeness(self, pictures: Tensor, where: Tensor) -> float:
        off = ((background(pictures) - self.picture).square() * where).sum() / (3 * where.sum())
        return float(-10 * off.log10())


@cache
def shown(seed: int) -> Shown:
    story = sample_stories([seed], 1 + FOLLOWING // 4, StoryKind.HOLD)
    picture = sample_stories([seed], 1, StoryKind.HOLD, detail=2).render(0, 1)[0, 0]
    boxes = (2 * story.truth.box[0]).int().tolist()
    hidden = torch.zeros(len(boxes), *picture.shape[-2:])
    for one, (left, top, right, bottom) in zip(hidden, boxes, strict=True):
        one[max(0, top - 6):max(0, bottom + 14), max(0, left - 6):max(0, right + 6)] = 1
    place = 1 - hidden[0]
    return Shown(seed, story, picture, place, place * (hidden.mean(0) < OFTEN))


def given(backend: Backend, seen: Shown) -> Given:
    """As a film begins with a picture."""
    pictures = seen.story.render(0, 1)[:, :1].expand(-1, 1 + 4 * BLOCK, -1, -1, -1)
    return still_of(Given(backend.codec.encode_piece(pictures, None)[0]), BLOCK)


def rendered(backend: Backend, seen: Shown, begins: Given | None, *later: Scene) -> Tensor:
    """Six blocks of one scene and of each later one: [picture, 3, y, x]. Every story has noise of its own."""
    scenes = [Scene("a", seen.prompt, 4.5), *later]
    timeline = timeline_of(scenes, [6] * len(scenes), backend.spec.geometry)
    policy = plan_policy("echo", read_settings("echo", {}), backend, timeline)
    state, pictures = None, []
    for result in film(backend, timeline, policy, seen.seed - HELD_OUT,
                       openings=lambda scene: None if scene else begins):
        made, state = backend.codec.decode(result.latents, state)
        pictures.append(made[0])
    return torch.cat(pictures)


@pytest.mark.slow
@torch.inference_mode()
def test_a_film_begins_with_its_picture_and_stays_in_its_place(backend: Backend) -> None:
    """The place is compared where it can be seen; the first column also counts where a bouncing subject hides it."""
    rows = []
    for seen in map(shown, SEEDS):
        begins = given(backend, seen)
        carried = backend.codec.decode(begins.latents, None)[0][0, 0]
        begun, free = (rendered(backend, seen, each) for each in (begins, None))
        assert abs(float(decibels(begun[0], seen.picture) - decibels(carried, seen.picture))) < 0.5
        after, alone = (film[1:1 + FOLLOWING] for film in (begun, free))
        rows.append([seen.likeness(after, where) - seen.likeness(alone, where) for where in (seen.place, seen.clear)]
                    + [motion(after, 4), motion(alone, 4)])
        print("{:+5.1f} {:+5.1f} dB  motion {:.2f}, without {:.2f} ".format(*rows[-1]), seen.prompt)
    everywhere, gains, moved, moved_alone = zip(*rows, strict=True)
    mean = sum(gains) / len(gains)
    print(f"mean {sum(everywhere) / len(rows):+.1f} {mean:+.1f} dB, better in {sum(gain > 0 for gain in gains)} of "
          f"{len(gains)}; motion {sum(moved) / len(rows):.2f}, without {sum(moved_alone) / len(rows):.2f}")
    assert all(gain > 0 for gain in gains) and mean > 8 and sum(moved) > 0.8 * sum(moved_alone)


@pytest.mark.slow
@torch.inference_mode()
def test_the_subject_of_a_picture_stays_until_the_prompt_says_otherwise(backend: Backend) -> None:
    """Four seconds that say what is in the picture, and after a smooth change as many that say another subject in
    another colour, judged from pictures alone; and the same film without the picture."""
    kept, changed, alone = [], [], []
    for seen in map(shown, SEEDS):
        colour, shape = seen.trait("colour"), seen.trait("shape")
        other = Saying(seen.trait("place"), seen.trait("time"), (shape + 1) % len(SUBJECTS),
                       (colour + 3) % len(COLOURS), seen.trait("motion"))
        later = Scene("b", say(other, [0.5] * 8), 4.5, Kind.SMOOTH)
        pictures, free = (rendered(backend, seen, each, later) for each in (given(backend, seen), None))
        for verdict, wanted, table in ((judge(pictures[None, 1:1 + FOLLOWING]), (colour, shape), kept),
                                       (judge(pictures[None, -48:]), (other.colour, other.shape), changed),
                                       (judge(free[None, -48:]), (other.colour, other.shape), alone)):
            table.append([int(verdict.colour) == wanted[0], int(verdict.shape) == wanted[1],
                          int(verdict.place) == seen.trait("place"), int(verdict.time) == seen.trait("time")])
            print(*("right" if each else "wrong" for each in table[-1]), end=" | ")
        print(seen.prompt, "->", later.prompt)
    for name, table in (("kept", kept), ("changed", changed), ("changed, no picture", alone)):
        print(f"{name:20}", *(f"{what} {sum(column)}/{len(table)}" for what, column in zip(
            ("colour", "shape", "place", "time"), zip(*table, strict=True), strict=True)))
    for table, least in ((kept, 0.9), (changed, 0.8)):
        assert all(sum(column) >= least * len(table) for column in list(zip(*table, strict=True))[:2])
