"""Collects what each scene of a film leaves for other films, while the film is rendered.

Knows scenes and frames; where entries go is the shelf's affair.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from echo_cli.memory import scoring
from echo_cli.memory.entries import FRAMES, RECALL, Frames, SceneEntry
from echo_cli.memory.policies.base import Memory
from echo_cli.memory.recall import Keepsake, SceneLibrary
from echo_cli.memory.settings import RecallSettings
from echo_cli.memory.store import CleanPass
from echo_cli.state import Nest
from echo_cli.storyboard.nouns import Block
from echo_cli.storyboard.series import KEYFRAMES


class Shelf(Protocol):
    """Where entries are put as scenes close, if they are wanted."""

    def wants(self, scene: int) -> bool: ...

    def put(self, scene: int, entry: SceneEntry) -> None: ...

    def state(self) -> Nest: ...

    def restore(self, state: Nest) -> None: ...


class Recorder:
    """Collects what each scene leaves and puts it on the shelf when the scene closes. Reads memory and changes nothing,
    so a film is the same whether it is recorded or not."""

    def __init__(self, shelf: Shelf, memory: Memory) -> None:
        self._shelf, self._memory, self._store = shelf, memory, memory.store
        self._settings = memory.settings.recalling or RecallSettings()
        self._count, self._query_tokens = 0, 0
        self._first = SceneLibrary(KEYFRAMES, self._store)
        layers, batch, _, *head = self._store.frame_shape
        self._query_sum = torch.zeros(layers, batch, *head, device=self._store.device)
        # sums over the first frames
        self._calibration = torch.zeros_like(self._query_sum), torch.zeros_like(self._query_sum[..., ::2])

    def collect(self, block: Block, clean: CleanPass, slots: Sequence[int]) -> None:
        """A block is finished, and memory has not absorbed it yet."""
        if not self._shelf.wants(block.scene):
            return
        if block.opens:
            for index in range(self._count):
                self._first.forget(Keepsake(FRAMES, index))
            self._count, self._query_tokens = 0, 0
            for sums in (self._query_sum, *self._calibration):
                sums.zero_()
        if self._count < KEYFRAMES:
            for sums, new in zip(self._calibration, (clean.query_sum, clean.query_abs), strict=True):
                sums.add_(new)
        self._query_sum += clean.query_sum
        self._query_tokens += clean.tokens
        for slot in slots[:KEYFRAMES - self._count]:
            self._first.put(Keepsake(FRAMES, self._count), *self._store.frame(slot))
            self._count += 1

    def close(self, block: Block) -> None:
        """The scene's last block has been absorbed, and memory has closed the scene."""
        if not self._shelf.wants(block.scene):
            return
        parts = {FRAMES: self._frames(range(self._count)), RECALL: self._fold()}
        own, numbers = self._memory.leave(block)
        parts |= {part: (keys.cpu(), values.cpu()) for part, (keys, values) in own.items()}
        mean, magnitude = (sums.cpu() / (self._count * self._store.grid.tokens) for sums in self._calibration)
        self._shelf.put(block.scene, SceneEntry(parts, (mean, magnitude), numbers))

    def _frames(self, which: Sequence[int], layers: slice = slice(None)) -> Frames:
        """On the host."""
        keys, values = zip(*(self._first.kept(Keepsake(FRAMES, index)) for index in which), strict=True)
        return torch.stack([key[layers] for key in keys], 2), torch.stack([value[layers] for value in values], 2)

    def _fold(self) -> Frames:
        """The frame that stands for the scene, folded as a film folds it for its own recalls; one layer at a time."""
        settings, folded = self._settings, []
        candidates = range(0, min(self._count, settings.candidate_frames), settings.candidate_stride)
        query = self._query_sum / self._query_tokens
        for layer in range(len(query)):
            keys, values = self._frames(candidates, slice(layer, layer + 1))
            key, value, _ = scoring.fold(keys, values, query[layer:layer + 1].to(keys.device), settings.base_weight,
                                         settings.fold == "score_weighted")
            folded.append((key.unsqueeze(2), value.unsqueeze(2)))
        keys, values = (torch.cat(part) for part in zip(*folded, strict=True))
        return keys, values

    def state(self) -> dict[str, Any]:
        return {"count": self._count, "query_tokens": self._query_tokens, "sums": [self._query_sum, *self._calibration],
                "first": self._first.state(), "shelf": self._shelf.state()}

    def restore(self, state: Nest) -> None:
        """Restore what `state` returned, before the next block."""
        self._count, self._query_tokens = state["count"], state["query_tokens"]
        for mine, kept in zip((self._query_sum, *self._calibration), state["sums"], strict=True):
            mine.copy_(kept)
        self._first.restore(state["first"])
        self._shelf.restore(state["shelf"])
