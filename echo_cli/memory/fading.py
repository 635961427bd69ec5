"""How what a transition carried fades: it loses weight every block, and after some blocks it leaves.

Knows rows of weights in the store and a countdown. Which frames the rows belong to is the policy's decision.
"""

import torch
from torch import Tensor

from echo_cli.memory.policies.base import Facts
from echo_cli.memory.store import KVStore
from echo_cli.runtime import Later
from echo_cli.state import Nest


class Fading:
    """`rows` of the store's weights fade, if there are any; what was carried leaves `clear_in` blocks from now (0: it
    stays)."""

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
        """What all rows lose each block [layer, batch, token]: decided once, and no path for gradients."""
        assert self.rows is not None
        self.store.rates[:, :, self.rows] = rates[:, :, None].detach() if isinstance(rates, Tensor) else rates
        if self.rows.start < self.rows.stop:
            facts.decay_map = Later(self.store.rates[:, :, self.rows.start].mean((0, 1)))

    def measure(self, rows: slice, facts: Facts) -> None:
        """What these rows were worth during the block, for the trace."""
        weights = self.store.weights[:, :, rows]
        spread = weights.amin((0, 1, 3)), weights.mean((0, 1, 3)), weights.amax((0, 1, 3))
        facts.weights = Later(torch.stack(spread, -1))

    def pass_block(self) -> bool:
        """A block has passed; whether what was carried leaves now."""
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
