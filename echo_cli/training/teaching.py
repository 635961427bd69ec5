"""Many blocks at once: clean frames and noisy frames of the same sequences under one mask, in the transformer as it is.

A block's clean copy and its noisy copy see the same past, as its clean pass and its denoising do at inference. The last
block needs no clean copy: nobody looks at it. Knows nothing of losses.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from echo_cli.models.spec import ModelSpec
from echo_cli.models.transformer import Text, Transformer
from echo_cli.models.words import WordTextEncoder
from echo_cli.rope import RopeTable, rotate
from echo_cli.training.lessons import Lesson
from echo_cli.training.world import BLOCK


@dataclass
class TeacherContext:
    """A `Context` for [clean | noisy] sequences. With `keep`, clean keys and values stay for further noisy passes."""

    rotation: Tensor  # [sequence, token, dim/2] of the tokens that come in
    weight: Tensor  # [sequence, clean token, 1, 1]
    bias: Tensor | None  # [sequence, 1, query token, key token]
    kept: list[tuple[Tensor, Tensor]] | None = None
    past: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # per layer, from an earlier pass

    def extend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        query, key = rotate(query, self.rotation), rotate(key, self.rotation)
        if self.past:
            keys, values = self.past[layer]
            return query, torch.cat((keys, key), 1), torch.cat((values, value), 1), self.bias
        clean = self.weight.shape[1]
        if clean:
            key = torch.cat((key[:, :clean] * self.weight, key[:, clean:]), 1)
            value = torch.cat((value[:, :clean] * self.weight, value[:, clean:]), 1)
        if self.kept is not None:
            self.kept.append((key[:, :clean], value[:, :clean]))
        return query, key, value, self.bias


class Class:
    """One transformer and its words, at one picture size, before lessons."""

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
        context = TeacherContext(self._rotation(torch.cat((lesson.slots[:, :seen], lesson.slots), 1)),
                                 self._weight(lesson), self._bias(lesson, True))
        every = torch.cat((torch.zeros_like(times[:, :-1]), times), 1).repeat_interleave(BLOCK, 1)
        both = text_rows(text, [*range(blocks - 1), *range(blocks)], blocks)
        return self.transformer(torch.cat((clean[:, :seen], noisy), 1), every, both, context)[:, seen:]

    @torch.no_grad()
    def remember(self, lesson: Lesson, text: Text, clean: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of the clean frames, layer by layer: what `velocity_given` takes."""
        seen = (lesson.blocks - 1) * BLOCK
        if not seen:
            return []
        context = TeacherContext(self._rotation(lesson.slots[:, :seen]), self._weight(lesson), self._bias(lesson, False), kept=[])
        times = torch.zeros(lesson.slots[:, :seen].shape, device=clean.device)
        self.transformer(clean[:, :seen], times, text_rows(text, list(range(lesson.blocks - 1)), lesson.blocks), context)
        return context.kept

    def velocity_given(self, lesson: Lesson, text: Text, past: list[tuple[Tensor, Tensor]], noisy: Tensor, times: Tensor) -> Tensor:
        """As `velocity`, with the clean frames already read."""
        bias = self._bias(lesson, True)
        bias = None if bias is None else bias[:, :, -noisy.shape[1] * self.grid.tokens:]
        context = TeacherContext(self._rotation(lesson.slots), self._weight(lesson)[:, :0], bias, past=past)
        return self.transformer(noisy, times.repeat_interleave(BLOCK, 1), text, context)

    def _rotation(self, slots: Tensor) -> Tensor:
        time = self._table.temporal[slots].unsqueeze(2).expand(-1, -1, self.grid.tokens, -1)
        return torch.cat((time, self._table.spatial.expand(*time.shape[:2], -1, -1)), -1).flatten(1, 2)

    def _weight(self, lesson: Lesson) -> Tensor:
        seen = (lesson.blocks - 1) * BLOCK
        return lesson.weight[:, :seen].repeat_interleave(self.grid.tokens, 1)[..., None, None]

    def _bias(self, lesson: Lesson, noisy: bool) -> Tensor | None:
        """0 where a token may look, −∞ where not: queries and keys are [clean] or [clean | noisy]."""
        blocks, device = lesson.blocks, lesson.sight.device
        if blocks == 1:
            return None
        past = lesson.sight[:, :, :(blocks - 1) * BLOCK]  # [sequence, block, clean frame]
        same = torch.eye(blocks, dtype=torch.bool, device=device).repeat_interleave(BLOCK, 1).expand(len(past), -1, -1)
        sees = (past | same[:, :, :past.shape[2]])[:, :-1]
        if noisy:
            upper = torch.cat((sees, torch.zeros_like(same[:, :-1])), 2)
            sees = torch.cat((upper, torch.cat((past, same), 2)), 1)
        sees = sees.repeat_interleave(BLOCK * self.grid.tokens, 1).repeat_interleave(self.grid.tokens, 2)
        return torch.zeros(sees.shape, device=device).masked_fill_(~sees, float("-inf")).unsqueeze(1)


def text_rows(text: Text, order: list[int], blocks: int) -> Text:
    """A text of [sequence * block] prompts with its blocks chosen anew."""
    def chosen(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, blocks))[:, order].flatten(0, 1)

    return Text(tuple((chosen(key), chosen(value)) for key, value in text.layers),
                None if text.pooled is None else chosen(text.pooled))
