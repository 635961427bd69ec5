"""Muon: momentum whose every step is made orthogonal, for matrices and convolutions; AdamW for all that is smaller.

Both in one optimiser, so that a stage has one thing to step and one to checkpoint. Knows nothing of models.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

# A quintic whose iterates push every singular value towards one; five of them are enough from a unit norm.
_A, _B, _C = 3.4445, -4.7750, 2.0315
ROUNDS = 5


def orthogonal(matrix: Tensor, rounds: int = ROUNDS) -> Tensor:
    """About the nearest matrix with orthonormal rows or columns; fewer rounds leave the smallest directions smaller."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(rounds):
        square = x @ x.T
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """`rate` is Muon's, in orthonormal steps; `small_rate` is AdamW's, for parameters of fewer than two dimensions and
    for those in `small`: tables, and the first and last matrices, whose rows mean something by themselves. `dtype` is
    what steps are made orthogonal in: they need not be so to the last digit."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float = 0.02, small_rate: float = 1e-3,
                 momentum: float = 0.95, decay: float = 0.0, small: Iterable[nn.Parameter] = (),
                 rounds: int = ROUNDS, dtype: torch.dtype = torch.float32) -> None:
        self.rounds, self.dtype = rounds, dtype
        self._turned: set[int] = set()  # ids of the parameters whose steps are orthogonal
        super().__init__(
            self._groups(parameters, rate, small_rate, momentum, decay, small), {"scale": 1.0, "share": 1.0}
        )

    def include(self, parameters: Iterable[nn.Parameter], rate: float, small_rate: float, momentum: float = 0.95,
                decay: float = 0.0, small: Iterable[nn.Parameter] = ()) -> None:
        """Another model to step beside the first."""
        for group in self._groups(parameters, rate, small_rate, momentum, decay, small):
            self.add_param_group(group)

    def _groups(self, parameters: Iterable[nn.Parameter], rate: float, small_rate: float, momentum: float, decay: float,
                small: Iterable[nn.Parameter]) -> list[dict]:
        parameters, apart = list(parameters), {id(p) for p in small}
        self._turned |= {id(p) for p in parameters if p.dim() >= 2} - apart
        common = {"momentum": momentum, "decay": decay}
        groups = [
            {"params": [p for p in parameters if id(p) in self._turned], "rate": rate, **common},
            {"params": [p for p in parameters if id(p) not in self._turned], "rate": small_rate, **common},
        ]
        return [group for group in groups if group["params"]]

    def scale(self, factor: float) -> None:
        """All rates as a share of their first value: what a schedule sets before each step."""
        for group in self.param_groups:
            group["scale"] = factor

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]  # nobody here has a closure to evaluate
        for group in self.param_groups:
            rate = group["rate"] * group["scale"] * group["share"]
            for p in group["params"]:
                if p.grad is not None:
                    p.mul_(1 - rate * group["decay"])
                    (self._turn if id(p) in self._turned else self._adapt)(p, p.grad, rate, group["momentum"])

    def _turn(self, p: nn.Parameter, grad: Tensor, rate: float, momentum: float) -> None:
        state = self.state[p]
        if not state:
            state["mean"] = torch.zeros_like(p)
        state["mean"].lerp_(grad, 1 - momentum)
        ahead = grad.lerp(state["mean"], momentum).reshape(len(p), -1)  # a convolution is a matrix of its outputs
        stretch = max(1.0, ahead.shape[0] / ahead.shape[1]) ** 0.5
        p.add_(orthogonal(ahead.to(self.dtype), self.rounds).to(p.dtype).reshape(p.shape), alpha=-rate * stretch)

    def _adapt(self, p: nn.Parameter, grad: Tensor, rate: float, momentum: float) -> None:
        state = self.state[p]
        if not state:
            state.update(mean=torch.zeros_like(p), square=torch.zeros_like(p), step=0)
        state["step"] += 1
        state["mean"].lerp_(grad, 1 - momentum)
        state["square"].lerp_(grad.square(), 0.01)
        mean = state["mean"] / (1 - momentum ** state["step"])
        square = state["square"] / (1 - 0.99 ** state["step"])
        p.addcdiv_(mean, square.sqrt() + 1e-8, value=-rate)
