"""The one layer that the small convolutional networks share: those of the codec and of the eye."""

from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity; the second starts near zero."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        if not self.second.weight.is_meta:  # see `drawn`
            nn.init.normal_(self.second.weight, std=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))
