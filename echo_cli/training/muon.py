"""Muon: momentum whose every step is made orthogonal, for matrices and convolutions; AdamW for everything smaller.

Both in one optimiser, so that a stage has one thing to step and one to checkpoint. Parameters are stepped together, and
matrices of one shape in one product: otherwise a small model would wait for thousands of tiny kernels. Knows nothing of
models.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

# A quintic whose iterates push every singular value towards one; five of them are enough from a unit norm.
_A, _B, _C = 3.4445, -4.7750, 2.0315
ROUNDS = 5


def orthogonal(matrices: Tensor, rounds: int = ROUNDS) -> Tensor:
    """About the nearest matrices [..., row, column] with orthonormal rows or columns; fewer rounds leave the smallest
    directions smaller."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """`rate` is Muon's, in orthonormal steps; `small_rate` is AdamW's, for parameters of fewer than two dimensions and
    for those in `small`: tables, and the first and last matrices, whose rows mean something by themselves. `dtype` is
    what steps are made orthogonal in: exactness does not matter."""

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
    def step(self) -> None:  # type: ignore[override]  # no caller has a closure to evaluate
        for group in self.param_groups:
            rate = group["rate"] * group["scale"] * group["share"]
            learning: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not learning:
                continue
            grads = [p.grad for p in learning if p.grad is not None]
            if group["decay"]:
                torch._foreach_mul_(learning, 1 - rate * group["decay"])
            turned = id(learning[0]) in self._turned
            (self._turn if turned else self._adapt)(learning, grads, rate, group["momentum"])

    def _turn(self, parameters: list[Tensor], grads: list[Tensor], rate: float, momentum: float) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["mean"] = torch.zeros_like(p)
        means = [self.state[p]["mean"] for p in parameters]
        torch._foreach_lerp_(means, grads, 1 - momentum)
        alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for p, ahead in zip(parameters, torch._foreach_lerp(grads, means, momentum), strict=True):
            alike[p.shape].append((p, ahead.reshape(len(p), -1)))  # a convolution is a matrix of its outputs
        for pairs in alike.values():
            here, aheads = zip(*pairs, strict=True)
            rows, columns = aheads[0].shape
            steps = orthogonal(torch.stack(aheads).to(self.dtype), self.rounds).to(here[0].dtype)
            stretch = max(1.0, rows / columns) ** 0.5
            torch._foreach_add_(list(here), [step.reshape(here[0].shape) for step in steps], alpha=-rate * stretch)

    def _adapt(self, parameters: list[Tensor], grads: list[Tensor], rate: float, momentum: float) -> None:
        states = [self.state[p] for p in parameters]
        for p, state in zip(parameters, states, strict=True):
            if not state:
                state.update(mean=torch.zeros_like(p), square=torch.zeros_like(p), step=0)
            state["step"] += 1
        means, squares = [state["mean"] for state in states], [state["square"] for state in states]
        torch._foreach_lerp_(means, grads, 1 - momentum)
        torch._foreach_lerp_(squares, [grad.square() for grad in grads], 0.01)
        mean = torch._foreach_div(means, [1 - momentum ** state["step"] for state in states])
        spread = torch._foreach_sqrt(torch._foreach_div(squares, [1 - 0.99 ** state["step"] for state in states]))
        torch._foreach_add_(spread, 1e-8)
        torch._foreach_addcdiv_(parameters, mean, spread, value=-rate)
