"""Supervises what the transformer sees: a small head on a middle layer that predicts the world's truth, only in
training.

The truth of our own world is known for every token, so the middle features learn subject, shape, colour, motion and the
layers of the place long before they would from pictures alone. The head is not part of the model that is shipped.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echo_cli.models.tiny.words import COLOURS, MOTIONS, SUBJECTS
from echo_cli.models.transformer import Transformer
from echo_cli.world.draw import DEPTHS

_PARTS = {
    "cover": 1,
    "shape": len(SUBJECTS),
    "colour": len(COLOURS),
    "motion": len(MOTIONS),
    "velocity": 2,
    "depths": DEPTHS,
}
_FAST = 3.0  # pixels a picture: the unit in which velocities are learned
_TOUCHED = 0.1  # a token covered less than this does not count as subject


class TruthHead(nn.Module):
    """Reads the features of the middle layer in the latest pass."""

    def __init__(self, transformer: Transformer) -> None:
        super().__init__()
        self.read = nn.Sequential(
            nn.LayerNorm(transformer.spec.width), nn.Linear(transformer.spec.width, sum(_PARTS.values()))
        )
        self._features: Tensor | None = None
        transformer.blocks[transformer.spec.depth // 2 - 1].register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self._features = output if self.training else None

    def forward(self, truth: dict[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name; truth [sequence, frame, …] belongs to the last frames of the pass."""
        assert self._features is not None, "the transformer has just been run, in training"
        frames = truth["cover"].shape[1]
        said = dict(
            zip(_PARTS, self.read(self._features[:, -frames:].float()).split(list(_PARTS.values()), -1), strict=True)
        )
        self._features = None  # they keep the whole pass in memory
        cover = truth["cover"].float()
        touched = (cover > _TOUCHED).float()
        share = touched / touched.sum().clamp(min=1)
        losses = {"cover": F.binary_cross_entropy_with_logits(said["cover"].squeeze(-1), cover)}
        for name in ("shape", "colour", "motion"):
            asked = truth[name].long().unsqueeze(-1).expand_as(cover)
            surprise = F.cross_entropy(said[name].flatten(0, 2), asked.flatten(), reduction="none").view_as(cover)
            losses[name] = (surprise * share).sum()
        off = (said["velocity"] - truth["velocity"].float() / _FAST).square().sum(-1)
        losses["velocity"] = (off * share).sum()
        losses["depths"] = -(truth["depths"].float() * said["depths"].log_softmax(-1)).sum(-1).mean()
        return losses

    def total(self, losses: dict[str, Tensor]) -> Tensor:
        return torch.stack(list(losses.values())).sum()
