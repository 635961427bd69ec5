"""What a model's weights are called in a manifest, without loading them: so that a finished film is known as finished at
once. No torch.
"""

from collections.abc import Callable
from pathlib import Path

from echo_cli.models.registry import find
from echo_cli.models.tiny_parts import WEIGHTS, check
from echo_cli.models.wan_hashes import told_digest

# by the model's family, as the loaders are; one that has none must be loaded to know
HASHES: dict[str, Callable[[Path | None], str | None]] = {"tiny": lambda folder: check(folder or WEIGHTS), "wan": told_digest}


def told_hash(model: str) -> str | None:
    """The hash that the loaded model would have; None where only loading tells. A MissingError when it is not whole."""
    found = find(model)
    told = HASHES.get(found.family)
    return told(found.folder) if told else None
