"""What is wrong with a storyboard, and where: collected while reading, raised together at the end.

Knows lines and columns, not YAML. Of very many mistakes the first ones are kept, and the others are counted.
"""

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from echo_cli.errors import UsageError

MOST = 50  # mistakes that one error shows


class Mark(NamedTuple):
    """A place in the file, counted from 1 as editors do."""

    line: int
    column: int


class Mistake(NamedTuple):
    mark: Mark
    message: str


Message = str | Callable[[], str]  # one that takes time to compute is computed only if it is shown


class StoryboardError(UsageError):
    """The mistakes of one storyboard, in the order of its lines, each as `file:line:column: message`; `count` is how
    many there are in all."""

    def __init__(
        self, source: str, mistakes: Sequence[Mistake], hint: str | None = None, count: int | None = None
    ) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.mark)[:MOST])
        self.count = len(mistakes) if count is None else count
        lines = [f"{source}:{mark.line}:{mark.column}: {message}" for mark, message in self.mistakes]
        if self.count > len(lines):
            lines.append(f"{source}: and {self.count - len(lines):,} more")
        super().__init__("\n".join(lines), hint)
        if self.mistakes:
            self.where = "{}:{}:{}".format(source, *self.mistakes[0].mark)


@dataclass(slots=True)
class Mistakes:
    """The mistakes in `source` so far: how many there are, and the first of them in the order of its lines."""

    source: str
    count: int = 0
    first: list[Mistake] = field(default_factory=list)

    def note(self, mark: Mark, message: Message) -> None:
        self.count += 1
        if len(self.first) < MOST or mark < self.first[-1].mark:
            text = message if isinstance(message, str) else message()
            insort(self.first, Mistake(mark, text), key=lambda mistake: mistake.mark)
            del self.first[MOST:]

    def raise_if_any(self) -> None:
        if self.count:
            raise StoryboardError(self.source, self.first, count=self.count)
