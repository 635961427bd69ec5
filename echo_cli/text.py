"""Words for eyes: lists as messages give them. Knows nothing of what is listed."""

from collections.abc import Sequence

DOZEN = 12


def listed(words: Sequence[str], most: int = DOZEN) -> str:
    """`one, two, three`; of a long list the beginning, and how many more there are."""
    more = f" and {len(words) - most:,} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more
