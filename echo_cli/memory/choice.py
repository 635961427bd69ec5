"""The choice of a block's history by kernels, layer by layer, while its first pass asks for it.

The plain path is `History.choose`. Here every number that changes from block to block lies in a tensor of its own, so
that a recorded pass makes the same choice as a launched one. Knows no scene and no policy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from echo_cli.context import BlockContext, Watch, mark
from echo_cli.kernels.choosing import answers, choose, move
from echo_cli.kernels.rows import sums
from echo_cli.memory.policies.base import Facts
from echo_cli.memory.settings import EchoForcingSettings
from echo_cli.memory.store import KVStore
from echo_cli.runtime import Later, upload


class Choice(Watch):
    """Chooses from so many frames for so many places. `loud`, `uses` [layer, batch, slot, token], `query_sum` and
    `clean_query` [layer, batch, head, dim] are the history's own."""

    def __init__(self, settings: EchoForcingSettings, store: KVStore, frames: int, places: int, *, loud: Tensor,
                 uses: Tensor, query_sum: Tensor, clean_query: Tensor) -> None:
        spec, tokens, device = store.spec, store.grid.tokens, store.device
        self.settings, self._store = settings, store
        self._loud, self._uses, self._query_sum, self._clean_query = loud, uses, query_sum, clean_query
        batch, count = store.keys.shape[1], places * tokens

        def numbers(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        self.slots, self._ages = (numbers(frames, dtype=torch.int32) for _ in range(2))
        self._into, self._before, self._order = (numbers(places, dtype=torch.int32) for _ in range(3))
        self._rotation = numbers(count, spec.head_dim // 2, dtype=torch.complex64)
        self._base = numbers(spec.depth, batch, frames * tokens)
        self._index = numbers(spec.depth, batch, count, dtype=torch.int32)
        self._valid = numbers(spec.depth, batch, count, dtype=torch.int8)
        self._gating, self._spread = numbers(spec.depth, batch, 2), numbers(spec.depth, batch, 4)

    def fits(self, frames: int, places: int) -> bool:
        return (len(self.slots), len(self._into)) == (frames, places)

    @property
    def bytes(self) -> int:
        tensors = (self._rotation, self._base, self._index, self._valid)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def aim(self, slots: Sequence[int], ages: Sequence[int], into: Sequence[int], before: Sequence[int],
            order: Sequence[int], rotation: Tensor, expected: Tensor, context: BlockContext) -> "Choice":
        """For a block: which slots are chosen from, at which ages; into which slots the chosen go, what was before
        them, and their places and rotation in the window; and what keys of each age are compared with."""
        given = (slots, ages, into, before, order)
        for mine, new in zip((self.slots, self._ages, self._into, self._before, self._order), given, strict=True):
            mine.copy_(upload(new, self._store.device, torch.int32))
        self._rotation.copy_(rotation)
        answers(self._store.keys, self.slots, expected, self._ages, out=self._base)
        self._context = context
        return self

    @property
    def fixed(self) -> tuple[object, ...]:
        store = self._store
        return (self.settings, *mark(
            store.keys, store.values, self._loud, self._uses, self._query_sum, self._clean_query, self.slots,
            self._ages, self._into, self._before, self._order, self._rotation, self._base, self._index, self._valid,
            self._gating, self._spread))

    def ask(self, layer: int, query: Tensor) -> None:
        settings, store, window = self.settings, self._store, self._context
        asked = self._clean_query[layer].flatten(1) if settings.gate_on_clean else sums(query)
        index, valid = self._index[layer], self._valid[layer]
        choose(self._base[layer], self._loud[layer] if settings.amplitude_compensation else None, settings.drift_gate,
               self._uses[layer], settings.max_reuse or 1 << 14, asked, self._query_sum[layer].flatten(1),
               settings.drift_lambda, self.slots, index, valid, self._gating[layer], self._spread[layer])
        move((store.keys[layer], store.values[layer]), (window.keys[layer], window.values[layer]), index, valid,
             self.slots, self._into, self._before, self._order, self._rotation)
        window.quantise(self._order, layer)

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.ask(layer, query)

    def report(self, facts: Facts) -> None:
        """After the pass: what was chosen."""
        least, total, number, most = self._spread.unbind(-1)
        facts.similarity, facts.gate, facts.chosen, facts.scores = map(Later, (
            self._gating[:, 0, 0], self._gating[:, 0, 1],
            torch.where(self._valid[:, 0] != 0, self._index[:, 0], -1),
            torch.stack((least.amin(1), total.sum(1) / number.sum(1), most.amax(1)), -1)))
