"""Many blocks at once: clean frames and noisy frames of the same sequences under one mask, in the transformer as it is.

A block's clean copy and its noisy copy see the same past, as its clean pass and its denoising do at inference. The last
block needs no clean copy: nobody looks at it. Knows nothing of losses.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.models.transformer import Text, Transformer
from echo_cli.rope import RopeTable, rotate
from echo_cli.spec import ModelSpec
from echo_cli.training.lessons import Lesson
from echo_cli.world.stories import BLOCK

Past = list[tuple[Tensor, Tensor]]  # keys and values [sequence, token, head, dim] of clean frames, layer by layer


@dataclass
class TeachingContext:
    """A `Context` for whole sequences: rotates and fades what comes in, and lets the bias say who sees whom."""

    rotation: Tensor  # [sequence, token, dim/2] of the tokens that come in
    bias: Tensor | None  # [sequence, 1, query token, past and incoming token]
    weight: Tensor | None = None  # [sequence, token, 1, 1] of the incoming keys and values
    past: Past = field(default_factory=list)
    kept: Past | None = None  # filled with what came in, if given

    def extend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        query, key = rotate(query, self.rotation), rotate(key, self.rotation)
        if self.weight is not None:
            key, value = key * self.weight, value * self.weight
        if self.kept is not None:
            self.kept.append((key, value))
        if self.past:
            keys, values = self.past[layer]
            key, value = torch.cat((keys, key), 1), torch.cat((values, value), 1)
        return query, key, value, self.bias


class Class:
    """One transformer and its words, before lessons, at the model's own picture size."""

    def __init__(self, transformer: Transformer, words: WordTextEncoder) -> None:
        self.transformer, self.words = transformer, words
        self.spec: ModelSpec = transformer.spec
        self.grid = self.spec.grid()
        self._table = RopeTable(self.spec, self.grid, transformer.device)

    def read(self, indices: Tensor) -> Text:
        """Words [sequence, block, row] → a text with one prompt for each block."""
        return self.transformer.read(self.words(indices.flatten(0, 1)))

    def velocity(self, lesson: Lesson, text: Text, clean: Tensor, noisy: Tensor, times: Tensor) -> Tensor:
        """Of the noisy frames [sequence, F, c, h, w] at times [sequence, block], given the clean frames before them."""
        blocks, seen = lesson.blocks, (lesson.blocks - 1) * BLOCK
        order = [*range(blocks - 1), *range(blocks)]
        context = TeachingContext(
            self._rotation(lesson, order), self._joint_bias(lesson), self._weight(lesson, order, blocks - 1)
        )
        every = torch.cat((torch.zeros_like(times[:, :-1]), times), 1).repeat_interleave(BLOCK, 1)
        both = text_rows(text, order, blocks)
        return self.transformer(torch.cat((clean[:, :seen], noisy), 1), every, both, context)[:, seen:]

    def remember(self, lesson: Lesson, text: Text, clean: Tensor, first: int, past: Past) -> Past:
        """The past grown by clean frames [sequence, f, c, h, w], which begin with block `first`."""
        blocks = range(first, first + clean.shape[1] // BLOCK)
        if not blocks:
            return past
        kept: Past = []
        self._ahead(
            lesson, text, past, clean, torch.zeros(clean.shape[:2], device=clean.device), blocks, kept, causal=True
        )
        if not past:
            return kept
        return [
            (torch.cat((old_keys, keys), 1), torch.cat((old_values, values), 1))
            for (old_keys, old_values), (keys, values) in zip(past, kept, strict=True)
        ]

    def velocity_given(
        self, lesson: Lesson, text: Text, past: Past, noisy: Tensor, times: Tensor, first: int = 0
    ) -> Tensor:
        """As `velocity`, with the clean frames already read; the noisy frames begin with block `first`."""
        blocks = range(first, first + noisy.shape[1] // BLOCK)
        return self._ahead(lesson, text, past, noisy, times.repeat_interleave(BLOCK, 1), blocks, None, causal=False)

    def _ahead(
        self,
        lesson: Lesson,
        text: Text,
        past: Past,
        frames: Tensor,
        times: Tensor,
        blocks: range,
        kept: Past | None,
        causal: bool,
    ) -> Tensor:
        """A pass over some blocks beside the past. Causal blocks see each other as the lesson lets them, others only
        themselves."""
        known = past[0][0].shape[1] // self.grid.tokens if past else 0  # frames
        here = slice(blocks.start * BLOCK, blocks.stop * BLOCK)
        sees = _same_block(len(blocks), lesson.sight)
        if causal:
            sees = sees | lesson.sight[:, blocks.start:blocks.stop, here]
        sees = torch.cat((lesson.sight[:, blocks.start:blocks.stop, :known], sees), 2)
        bias = None if sees.shape[2] == BLOCK else self._bias(sees)
        order = list(blocks)
        weight = self._weight(lesson, order, len(order)) if kept is not None else None
        context = TeachingContext(self._rotation(lesson, order), bias, weight, past, kept)
        return self.transformer(frames, times, text_rows(text, order, lesson.blocks), context)

    def _rotation(self, lesson: Lesson, order: list[int]) -> Tensor:
        slots = lesson.slots.unflatten(1, (-1, BLOCK))[:, order].flatten(1)
        time = self._table.temporal[slots].unsqueeze(2).expand(-1, -1, self.grid.tokens, -1)
        return torch.cat((time, self._table.spatial.expand(*time.shape[:2], -1, -1)), -1).flatten(1, 2)

    def _weight(self, lesson: Lesson, order: list[int], clean: int) -> Tensor | None:
        """Of the blocks in `order`, of which the first `clean` are clean copies; noisy ones are never faded."""
        if not lesson.fades:
            return None
        weight = lesson.weight.unflatten(1, (-1, BLOCK))[:, order]
        weight = torch.cat((weight[:, :clean], torch.ones_like(weight[:, clean:])), 1)
        return weight.flatten(1).repeat_interleave(self.grid.tokens, 1)[..., None, None]

    def _joint_bias(self, lesson: Lesson) -> Tensor | None:
        """For queries and keys [clean | noisy]."""
        if lesson.blocks == 1:
            return None
        seen = (lesson.blocks - 1) * BLOCK
        past, same = lesson.sight[:, :, :seen], _same_block(lesson.blocks, lesson.sight)
        clean = torch.cat((past | same[..., :seen], torch.zeros_like(same)), 2)[:, :-1]
        return self._bias(torch.cat((clean, torch.cat((past, same), 2)), 1))

    def _bias(self, sees: Tensor) -> Tensor:
        """Whether a block sees a frame [sequence, block, frame] → 0 or −∞ for each pair of tokens."""
        tokens = self.grid.tokens
        sees = sees.repeat_interleave(BLOCK * tokens, 1).repeat_interleave(tokens, 2)
        return torch.zeros(sees.shape, device=sees.device).masked_fill_(~sees, float("-inf")).unsqueeze(1)


def _same_block(blocks: int, like: Tensor) -> Tensor:
    """[sequence, block, frame] of as many sequences as `like` has."""
    return torch.eye(blocks, dtype=torch.bool, device=like.device).repeat_interleave(BLOCK, 1).expand(len(like), -1, -1)


def text_rows(text: Text, order: list[int], blocks: int) -> Text:
    """A text of [sequence * block] prompts with its blocks chosen anew."""
    def chosen(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, blocks))[:, order].flatten(0, 1)

    return Text(tuple((chosen(key), chosen(value)) for key, value in text.layers),
                None if text.pooled is None else chosen(text.pooled))
