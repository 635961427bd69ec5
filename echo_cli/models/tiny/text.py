"""The text encoder of `tiny`: a prompt's words, looked up. Learned together with the transformer that reads them.

Knows nothing of the transformer; which words exist is decided in `words`, which needs no torch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from echo_cli.models.layers import drawn
from echo_cli.models.tiny import words as tiny_words
from echo_cli.models.tiny.words import ROWS, TEXT_LENGTH, rows_of


class WordTextEncoder(nn.Module):
    """Prompts to rows of features. Rows past a prompt's end are zero, and so is the whole of an empty prompt."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.words = nn.Embedding.from_pretrained(drawn(ROWS, dim), freeze=False)
        # Concepts of different kinds are distinguished by their own rows: order is a late refinement, so it starts at
        # zero.
        self.places = nn.Parameter(torch.zeros(TEXT_LENGTH, dim))

    @property
    def length(self) -> int:
        return TEXT_LENGTH

    def forward(self, indices: Tensor) -> Tensor:
        """Indices [prompt, row] as `words.rows_of` gives them → [prompt, row, dim]."""
        return (self.words(indices) + self.places) * (indices > 0).unsqueeze(-1)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        return self(torch.tensor([rows_of(prompt) for prompt in prompts], device=self.places.device))

    def prepare(self, prompts: Sequence[str]) -> None:
        """Words are looked up as they come."""

    def unknown_words(self, prompt: str) -> list[str]:
        return tiny_words.unknown_words(prompt)
