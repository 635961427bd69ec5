"""What is wrong with a storyboard, and where: collected while reading, raised together at the end.

Knows lines and columns, not YAML.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from echo_cli.errors import UsageError


class Mark(NamedTuple):
    """A place in the file, counted from 1 as editors do."""

    line: int
    column: int


class Mistake(NamedTuple):
    mark: Mark
    message: str


class StoryboardError(UsageError):
    """Every mistake of one storyboard, in the order of its lines, each as `file:line:column: message`."""

    def __init__(self, source: str, mistakes: list[Mistake], hint: str | None = None) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.mark))
        lines = [f"{source}:{mark.line}:{mark.column}: {message}" for mark, message in self.mistakes]
        super().__init__("\n".join(lines), hint)


@dataclass(slots=True)
class Mistakes:
    """The mistakes noted so far in `source`."""

    source: str
    noted: list[Mistake] = field(default_factory=list)

    def note(self, mark: Mark, message: str) -> None:
        self.noted.append(Mistake(mark, message))

    def raise_if_any(self) -> None:
        if self.noted:
            raise StoryboardError(self.source, self.noted)
