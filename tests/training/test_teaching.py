"""Many blocks at once under one mask equal the blocks one after the other through the context that films are made
with."""

from random import Random

import pytest
import torch

from echo_cli.context import BlockContext
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.models.transformer import Text
from echo_cli.rope import RopeTable, rotate
from echo_cli.training.lessons import Lesson, Library
from echo_cli.training.teaching import Class, text_rows
from echo_cli.world.stories import BLOCK

from .pupils import SMALL, small_pool

TOKENS = SMALL.grid().tokens


@pytest.fixture(scope="module")
def school() -> Class:
    torch.manual_seed(0)
    return Class(random_transformer(SMALL, 1), WordTextEncoder(SMALL.text_dim).requires_grad_(False))


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Library:
    found = Library()
    found.add(small_pool(tmp_path_factory.mktemp("pool"), stories=12).shard(0))
    return found


def faded_lesson(library: Library, blocks: int) -> Lesson:
    """One in which something is faded, so that weights and jumps are tried too."""
    return next(lesson for lesson in (library.draw(blocks, 3, Random(number)) for number in range(99)) if lesson.fades)


def as_films_are_made(
    school: Class, lesson: Lesson, row: int, text: Text, noisy: torch.Tensor, times: torch.Tensor
) -> torch.Tensor:
    """One sequence, block by block: a gathered, rotated and weighted past, then the block, in a BlockContext."""
    table = RopeTable(SMALL, school.grid)
    raw: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(SMALL.depth)]  # per layer, one a block
    made = []
    for block in range(lesson.blocks):
        seen = lesson.sight[row, block].nonzero()[:, 0].tolist()
        own = table.frames(int(lesson.slots[row, block * BLOCK]), BLOCK)
        room = len(seen) * TOKENS + BLOCK * TOKENS
        keys = torch.zeros(SMALL.depth, 1, room, SMALL.heads, SMALL.head_dim)
        values = torch.zeros_like(keys)
        for layer in range(SMALL.depth):
            for place, frame in enumerate(seen):
                key, value = (
                    part[:, (frame % BLOCK) * TOKENS : (frame % BLOCK + 1) * TOKENS]
                    for part in raw[layer][frame // BLOCK]
                )
                weight, span = lesson.weight[row, frame], slice(place * TOKENS, (place + 1) * TOKENS)
                keys[layer, :, span] = rotate(key, table.frames(int(lesson.slots[row, frame]), 1)) * weight
                values[layer, :, span] = value * weight
        context = BlockContext(keys, values, len(seen) * TOKENS, own, own)
        here = slice(block * BLOCK, (block + 1) * BLOCK)
        prompt = Text(
            tuple((k[row * lesson.blocks + block][None], v[row * lesson.blocks + block][None]) for k, v in text.layers),
            text.pooled[row * lesson.blocks + block][None],
        )
        made.append(school.transformer(noisy[row:row + 1, here], times[row, block].expand(1, BLOCK), prompt, context))
        clean = context.observed_by(lambda layer, query, key, value: raw[layer].append((key, value)))
        school.transformer(lesson.latents[row:row + 1, here], torch.zeros(1, BLOCK), prompt, clean)
    return torch.cat(made, 1)[0]


def test_taught_together_equals_filmed_one_by_one(school, library):
    # A faded frame fades for its own block too when taught together; in films it never does, so nothing fades here.
    for number in range(6):
        lesson = next(
            found for found in (library.draw(5, 2, Random(100 * number + n)) for n in range(99)) if not found.fades
        )
        noisy, times = torch.randn(lesson.latents.shape), 1000 * torch.rand(2, 5)
        text = school.read(lesson.words)
        together = school.velocity(lesson, text, lesson.latents, noisy, times)
        for row in range(2):
            assert torch.allclose(together[row], as_films_are_made(school, lesson, row, text, noisy, times), atol=2e-5)


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_a_kept_past_equals_the_joint_pass(school, library, blocks):
    lesson = library.draw(1, 3, Random(0)) if blocks == 1 else faded_lesson(library, blocks)
    noisy, times = torch.randn(lesson.latents.shape), 1000 * torch.rand(3, blocks)
    text = school.read(lesson.words)
    joint = school.velocity(lesson, text, lesson.latents, noisy, times)
    past = school.remember(lesson, text, lesson.latents[:, :-BLOCK], 0, [])
    assert torch.allclose(school.velocity_given(lesson, text, past, noisy, times), joint, atol=2e-5)
    past = []
    for block in range(blocks - 1):
        past = school.remember(lesson, text, lesson.latents[:, block * BLOCK:(block + 1) * BLOCK], block, past)
    last = school.velocity_given(lesson, text, past, noisy[:, -BLOCK:], times[:, -1:], blocks - 1)
    assert torch.allclose(last, joint[:, -BLOCK:], atol=2e-5)


def test_what_a_block_may_not_see_changes_nothing(school, library):
    lesson = library.draw(4, 3, Random(5))
    noisy, times = torch.randn(lesson.latents.shape), 1000 * torch.rand(3, 4)
    text = school.read(lesson.words)
    before = school.velocity(lesson, text, lesson.latents, noisy, times)
    shaken = lesson.latents.clone()
    shaken[:, 2 * BLOCK:] += 5
    after = school.velocity(lesson, text, shaken, noisy, times)
    assert torch.equal(before[:, :3 * BLOCK], after[:, :3 * BLOCK])
    assert not torch.allclose(before[:, 3 * BLOCK:], after[:, 3 * BLOCK:], atol=1e-3)


def test_every_block_reads_its_own_prompt(school, library):
    lesson = library.draw(3, 2, Random(1))
    noisy, times = torch.randn(lesson.latents.shape), 1000 * torch.rand(2, 3)
    words = lesson.words.clone()
    words[:, 2] = 0
    before, after = (
        school.velocity(lesson, school.read(said), lesson.latents, noisy, times) for said in (lesson.words, words)
    )
    assert torch.equal(before[:, : 2 * BLOCK], after[:, : 2 * BLOCK]) and not torch.allclose(
        before[:, 2 * BLOCK :], after[:, 2 * BLOCK :]
    )
    chosen = text_rows(school.read(lesson.words), [2, 0], 3)
    assert torch.equal(chosen.pooled[0], school.read(lesson.words).pooled[2])
