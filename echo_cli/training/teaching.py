"""Many blocks at once: clean frames and noisy frames of the same sequences under one mask, in the unchanged
transformer.

What a block's clean copy sees while it is encoded and what its noisy copy sees is decided by the lesson; folds of clean
frames stand beside them. The last block needs no clean copy: no block sees it. Knows nothing of losses.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.models.transformer import Text, Transformer
from echo_cli.rope import RopeTable, rotate
from echo_cli.spec import ModelSpec
from echo_cli.training.lessons import Lesson
from echo_cli.world.stories import BLOCK

Past = list[tuple[Tensor, Tensor]]  # raw keys and values [sequence, token, head, dim] of clean frames, layer by layer


@dataclass
class TeachingContext:
    """A `Context` for whole sequences: rotates its input, folds clean frames, and lets the bias decide what sees what.

    Keys are those of the past, of what comes in, and of the folds, in this order.
    """

    rotation: Tensor  # [sequence, token, dim/2] of the tokens that come in
    bias: Tensor | None  # [sequence, 1, query token, key token]
    clean: int  # how many of the tokens that come in may be folded: those at the front
    folds: tuple[Tensor, Tensor] | None = None  # shares [sequence, fold, frame] of past and clean frames; rotation
    past: tuple[Past, Tensor] | None = None  # with its rotation
    kept: Past | None = None  # filled with what came in, raw, if given

    def extend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        if self.kept is not None:
            self.kept.append((key, value))
        keys, values = [rotate(key, self.rotation)], [value]
        clean_keys, clean_values = key[:, :self.clean], value[:, :self.clean]
        if self.past is not None:
            (old_keys, old_values), rotation = self.past[0][layer], self.past[1]
            keys.insert(0, rotate(old_keys, rotation))
            values.insert(0, old_values)
            clean_keys, clean_values = torch.cat((old_keys, clean_keys), 1), torch.cat((old_values, clean_values), 1)
        if self.folds is not None:
            shares, rotation = self.folds
            keys.append(rotate(_mixed(clean_keys, shares), rotation))
            values.append(_mixed(clean_values, shares))
        kind = value.dtype  # norms leave queries and keys wider under autocast
        return rotate(query, self.rotation).to(kind), torch.cat(keys, 1).to(kind), torch.cat(values, 1), self.bias


def _mixed(tokens: Tensor, shares: Tensor) -> Tensor:
    """Frames [sequence, frame * token, head, dim] folded by shares [sequence, fold, frame], token by token."""
    frames = tokens.unflatten(1, (shares.shape[2], -1))
    return torch.einsum("smf,sfthd->smthd", shares.to(tokens.dtype), frames).flatten(1, 2)


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
        places = torch.cat((lesson.slots[:, :seen], lesson.slots[:, :lesson.frames]), 1)
        context = TeachingContext(self._rotation(places), self._joint_bias(lesson), seen * self.grid.tokens,
                                  self._folds(lesson, seen))
        every = torch.cat((torch.zeros_like(times[:, :-1]), times), 1).repeat_interleave(BLOCK, 1)
        each = torch.arange(blocks, device=times.device).expand(len(times), -1)
        both = text_rows(text, torch.cat((lesson.under[:, :-1], each), 1), blocks)
        return self.transformer(torch.cat((clean[:, :seen], noisy), 1), every, both, context)[:, seen:]

    def remember(self, lesson: Lesson, text: Text, clean: Tensor, first: int, past: Past) -> Past:
        """The past grown by clean frames [sequence, f, c, h, w], which begin with block `first`."""
        blocks = range(first, first + clean.shape[1] // BLOCK)
        if not blocks:
            return past
        kept: Past = []
        still = torch.zeros(clean.shape[:2], device=clean.device)
        self._ahead(lesson, text, past, clean, still, blocks, kept)
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
        return self._ahead(lesson, text, past, noisy, times.repeat_interleave(BLOCK, 1), blocks, None)

    def _ahead(self, lesson: Lesson, text: Text, past: Past, frames: Tensor, times: Tensor, blocks: range,
               kept: Past | None) -> Tensor:
        """A pass over some blocks beside the past. Clean blocks, which are `kept`, see each other as the lesson lets
        them; noisy ones see only themselves."""
        known = past[0][0].shape[1] // self.grid.tokens if past else 0  # frames
        clean = 0 if kept is None else len(frames[0])
        sees = (lesson.sight if kept is None else lesson.read)[:, blocks.start:blocks.stop]
        same = _same_block(len(blocks), lesson.sight)
        if clean:
            same = same | sees[:, :, known:known + clean]
        folds = self._folds(lesson, known + clean)
        parts = [sees[:, :, :known], same] + ([] if folds is None else [sees[:, :, lesson.frames:]])
        sees = torch.cat(parts, 2)
        here = lesson.slots[:, blocks.start * BLOCK:blocks.stop * BLOCK]
        context = TeachingContext(
            self._rotation(here), None if sees.shape[2] == BLOCK else self._bias(sees), clean * self.grid.tokens,
            folds, (past, self._rotation(lesson.slots[:, :known])) if past else None, kept,
        )
        order = torch.arange(blocks.start, blocks.stop, device=times.device).expand(len(times), -1)
        if clean:
            order = lesson.under[:, blocks.start:blocks.stop]
        return self.transformer(frames, times, text_rows(text, order, lesson.blocks), context)

    def _folds(self, lesson: Lesson, known: int) -> tuple[Tensor, Tensor] | None:
        """Folds of the first `known` frames, and how they are turned; those of later frames are not visible yet."""
        if not known or not lesson.folds.shape[1]:
            return None
        return lesson.folds[:, :, :known], self._rotation(lesson.slots[:, lesson.frames:])

    def _rotation(self, slots: Tensor) -> Tensor:
        """Of all tokens of frames at positions [sequence, frame]."""
        time = self._table.temporal[slots].unsqueeze(2).expand(-1, -1, self.grid.tokens, -1)
        return torch.cat((time, self._table.spatial.expand(*time.shape[:2], -1, -1)), -1).flatten(1, 2)

    def _joint_bias(self, lesson: Lesson) -> Tensor | None:
        """For queries [clean | noisy] and keys [clean | noisy | folds]."""
        if lesson.blocks == 1:
            return None
        seen, frames = (lesson.blocks - 1) * BLOCK, lesson.frames
        same = _same_block(lesson.blocks, lesson.sight)
        own = lesson.read[..., :seen] | same[..., :seen]
        clean = torch.cat((own, torch.zeros_like(same), lesson.read[..., frames:]), 2)
        noisy = torch.cat((lesson.sight[..., :seen], same, lesson.sight[..., frames:]), 2)
        return self._bias(torch.cat((clean[:, :-1], noisy), 1))

    def _bias(self, sees: Tensor) -> Tensor:
        """Whether a block sees a frame [sequence, block, frame] → 0 or −∞ for each pair of tokens."""
        tokens = self.grid.tokens
        dark = ~sees.repeat_interleave(BLOCK * tokens, 1).repeat_interleave(tokens, 2).unsqueeze(1)
        device = dark.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        return torch.zeros(dark.shape, device=dark.device, dtype=kind).masked_fill_(dark, float("-inf"))


def _same_block(blocks: int, like: Tensor) -> Tensor:
    """[sequence, block, frame] of as many sequences as `like` has."""
    return torch.eye(blocks, dtype=torch.bool, device=like.device).repeat_interleave(BLOCK, 1).expand(len(like), -1, -1)


def text_rows(text: Text, order: Tensor, blocks: int) -> Text:
    """A text of [sequence * block] prompts with each sequence's blocks reordered by `order` [sequence, place]."""
    each = torch.arange(len(order), device=order.device)[:, None]

    def chosen(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, blocks))[each, order].flatten(0, 1)

    return Text(tuple((chosen(key), chosen(value)) for key, value in text.layers),
                None if text.pooled is None else chosen(text.pooled))
