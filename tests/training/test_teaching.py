"""Many blocks at once under one mask equal the blocks one after the other through the context that films are made
with."""

import itertools
from dataclasses import replace

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
    result = Library()
    result.add(small_pool(tmp_path_factory.mktemp("pool"), stories=12).shard(0))
    return result


def lesson_of(library: Library, blocks: int, sequences: int, seed: int) -> Lesson:
    return library.draw(blocks, sequences, torch.Generator().manual_seed(seed))


Raw = list[list[tuple[torch.Tensor, torch.Tensor]]]  # keys and values of each layer, a pair for each block


def as_films_are_made(
    school: Class, lesson: Lesson, row: int, text: Text, noisy: torch.Tensor, times: torch.Tensor
) -> torch.Tensor:
    """One sequence, block by block: a gathered, folded and rotated past, then the block, in a BlockContext."""
    table = RopeTable(SMALL, school.grid)
    raw: Raw = [[] for _ in range(SMALL.depth)]
    made = []

    def context(block: int, sees: torch.Tensor) -> BlockContext:
        seen = sees.nonzero()[:, 0].tolist()
        own = table.frames(int(lesson.slots[row, block * BLOCK]), BLOCK)
        keys = torch.zeros(SMALL.depth, 1, (len(seen) + BLOCK) * TOKENS, SMALL.heads, SMALL.head_dim)
        values = torch.zeros_like(keys)
        for layer, place in itertools.product(range(SMALL.depth), range(len(seen))):
            frame = seen[place]
            span, turn = slice(place * TOKENS, (place + 1) * TOKENS), table.frames(int(lesson.slots[row, frame]), 1)
            key, value = remembered(raw[layer], lesson, row, frame)
            keys[layer, :, span], values[layer, :, span] = rotate(key, turn), value
        return BlockContext(keys, values, len(seen) * TOKENS, own, own)

    def prompt(block: int) -> Text:
        at = row * lesson.blocks + block
        return Text(tuple((k[at][None], v[at][None]) for k, v in text.layers), text.pooled[at][None])

    for block in range(lesson.blocks):
        here = slice(block * BLOCK, (block + 1) * BLOCK)
        seen = context(block, lesson.sight[row, block])
        made.append(
            school.transformer(noisy[row:row + 1, here], times[row, block].expand(1, BLOCK), prompt(block), seen)
        )
        seen = context(block, lesson.read[row, block])
        clean = seen.observed_by(lambda layer, query, key, value: raw[layer].append((key, value)))
        under = prompt(int(lesson.under[row, block]))
        school.transformer(lesson.latents[row:row + 1, here], torch.zeros(1, BLOCK), under, clean)
    return torch.cat(made, 1)[0]


def remembered(blocks: list[tuple[torch.Tensor, torch.Tensor]], lesson: Lesson, row: int, frame: int):
    """Raw keys and values of a frame, or of a fold of frames, in one layer."""
    keys, values = (torch.cat([pair[part] for pair in blocks], 1).unflatten(1, (-1, TOKENS)) for part in (0, 1))
    if frame < lesson.frames:
        return keys[:, frame], values[:, frame]
    shares = lesson.folds[row, frame - lesson.frames]
    held = [(at, share) for at, share in enumerate(shares.tolist()) if share]
    return tuple(sum(share * part[:, at] for at, share in held) for part in (keys, values))


def test_taught_together_equals_filmed_one_by_one(school, library):
    folded = 0
    for number in range(6):
        lesson = lesson_of(library, 5, 2, number)
        folded += int(lesson.sight[..., lesson.frames:].sum())
        noisy, times = torch.randn(lesson.latents.shape), 1000 * torch.rand(2, 5)
        text = school.read(lesson.words)
        together = school.velocity(lesson, text, lesson.latents, noisy, times)
        for row in range(2):
            assert torch.allclose(together[row], as_films_are_made(school, lesson, row, text, noisy, times), atol=2e-5)
    assert folded > 5


@pytest.mark.parametrize("blocks", [1, 2, 5])
def test_a_kept_past_equals_the_joint_pass(school, library, blocks):
    lesson = lesson_of(library, blocks, 3, 7)
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
    lesson = lesson_of(library, 4, 3, 5)
    noisy, times = torch.randn(lesson.latents.shape), 1000 * torch.rand(3, 4)
    text = school.read(lesson.words)
    before = school.velocity(lesson, text, lesson.latents, noisy, times)
    shaken = lesson.latents.clone()
    shaken[:, 2 * BLOCK:] += 5
    after = school.velocity(lesson, text, shaken, noisy, times)
    assert torch.equal(before[:, :3 * BLOCK], after[:, :3 * BLOCK])
    assert not torch.allclose(before[:, 3 * BLOCK:], after[:, 3 * BLOCK:], atol=1e-3)


def test_every_block_reads_its_own_prompt(school, library):
    lesson = lesson_of(library, 3, 2, 1)
    lesson = replace(lesson, under=torch.arange(3).expand(2, -1))
    noisy, times = torch.randn(lesson.latents.shape), 1000 * torch.rand(2, 3)
    words = lesson.words.clone()
    words[:, 2] = 0
    before, after = (
        school.velocity(lesson, school.read(said), lesson.latents, noisy, times) for said in (lesson.words, words)
    )
    assert torch.equal(before[:, : 2 * BLOCK], after[:, : 2 * BLOCK]) and not torch.allclose(
        before[:, 2 * BLOCK :], after[:, 2 * BLOCK :]
    )
    chosen = text_rows(school.read(lesson.words), torch.tensor([[2, 0], [2, 0]]), 3)
    assert torch.equal(chosen.pooled[0], school.read(lesson.words).pooled[2])
