"""How the frames that a transition carried over fade: they lose weight every block and leave after some blocks.

Knows rows of weights in the store and a countdown. Which frames the rows belong to is the policy's decision.
"""

import torch
from torch import Tensor

from echo_cli.memory.policies.base import Facts
from echo_cli.memory.store import KVStore
from echo_cli.runtime import Later
from echo_cli.state import Nest


class Fading:
    """`rows` of the store's weights fade, if there are any; the carried frames leave `clear_in` blocks from now (0:
    never)."""

    def __init__(self, store: KVStore) -> None:
        self.store = store
        self.rows: slice | None = None
        self.clear_in = 0

    def begin(self, rows: slice, weight: float, clear_after: int) -> None:
        """A scene opens: these rows start at `weight`, losing nothing yet."""
        self.rows, self.clear_in = rows, clear_after
        self.store.fade(rows, weight)

    def end(self) -> None:
        self.rows, self.clear_in = None, 0

    def set_rates(self, rates: Tensor | float, facts: Facts) -> None:
        """What all rows lose each block [layer, batch, token]: decided once, without gradients."""
        assert self.rows is not None
        self.store.rates[:, :, self.rows] = rates[:, :, None].detach() if isinstance(rates, Tensor) else rates
        if self.rows.start < self.rows.stop:
            facts.decay_map = Later(self.store.rates[:, :, self.rows.start].mean((0, 1)))

    def measure(self, rows: slice, facts: Facts) -> None:
        """The weights of these rows during the block, for the trace."""
        weights = self.store.weights[:, :, rows]
        spread = weights.amin((0, 1, 3)), weights.mean((0, 1, 3)), weights.amax((0, 1, 3))
        facts.weights = Later(torch.stack(spread, -1))

    def pass_block(self) -> bool:
        """A block has passed; returns whether the carried frames leave now."""
        if self.rows is not None:
            self.store.weights[:, :, self.rows] *= self.store.rates[:, :, self.rows]
        if not self.clear_in:
            return False
        self.clear_in -= 1
        return not self.clear_in

    def state(self) -> Nest:
        return {"rows": [self.rows.start, self.rows.stop] if self.rows is not None else None, "clear_in": self.clear_in}

    def restore(self, state: Nest) -> None:
        self.rows = slice(*state["rows"]) if state["rows"] is not None else None
        self.clear_in = state["clear_in"]
