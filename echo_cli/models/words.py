"""The text encoder of `tiny`: a prompt's words, looked up. Learned together with the transformer that reads them.

Knows nothing of the transformer; which words exist is decided in `tiny_words`, which needs no torch.
"""

import torch
from torch import Tensor, nn

from .tiny_words import ROWS, TEXT_LENGTH, rows_of


class WordTextEncoder(nn.Module):
    """Prompts to rows of features. Row 0 (silence) is learned too: an empty prompt is what guidance compares with."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.words = nn.Embedding(ROWS, dim)
        # Concepts of different kinds are told apart by their own rows: order is a late refinement, so it starts at zero.
        self.places = nn.Parameter(torch.zeros(TEXT_LENGTH, dim))

    @property
    def length(self) -> int:
        return TEXT_LENGTH

    def forward(self, prompts: list[str]) -> Tensor:
        rows = torch.tensor([rows_of(prompt) for prompt in prompts], device=self.places.device)
        return self.words(rows) + self.places  # [batch, text, dim]
