"""What every format is read into and written from: a film as a list of shots in seconds, and notes on what did not fit.

Knows no file format and no YAML.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from echo_cli.storyboard.mistakes import Mark, Mistake, StoryboardError
from echo_cli.storyboard.nouns import AUTO, Kind

MOST_SHOTS = 20_000  # in one film; a longer list is a damaged file
_COMMON = frozenset(
    """a an and are as at by camera cinematic close for from her his in into is it its near of off on or out over
    realism scene she he shot static style the their them then they this to under up video view while who wide with
    """.split()  # noqa: SIM905 (words are easier to read so)
)


@dataclass(frozen=True, slots=True)
class Shot:
    """One prompt and its time. `recall` is the id of an earlier shot, or `auto`, exactly when `kind` is RECALL."""

    prompt: str
    seconds: Fraction
    kind: Kind | None = None
    recall: str | None = None
    subtitle: str | None = None
    name: str | None = None  # what the file calls the shot: the storyboard's id, if it can be one

    @property
    def continues(self) -> bool:
        """Whether it continues the shot before it, as a dissolve does."""
        return self.kind is not None and self.kind.continues

    @property
    def recalls(self) -> bool:
        """Whether it returns to an earlier shot."""
        return self.kind is not None and self.kind.targeted


@dataclass(frozen=True, slots=True)
class Note:
    """Something in a file that a storyboard cannot say, and where it stood."""

    place: str
    what: str


@dataclass(frozen=True, slots=True)
class Cut:
    """One film of a file."""

    shots: tuple[Shot, ...]
    title: str | None = None
    fps: float | None = None
    seed: int | None = None
    size: tuple[int, int] | None = None
    notes: tuple[Note, ...] = ()
    film: str | None = None  # the address of the film, if it is made: each shot is a part of it
    sound: bool = False  # whether that film has any
    ids: tuple[str, ...] = field(default=())

    def named(self) -> "Cut":
        """The same film with an id for every shot: its own name, or the words that tell its prompt from the others.
        A recall names its source by that id; one of a shot that is not there becomes a recall of the best match."""
        ids = ids_of(self.shots)
        known: dict[str, str] = {}
        shots, notes = [], list(self.notes)
        for name, shot in zip(ids, self.shots, strict=True):
            if shot.recall is not None and shot.recall != AUTO:
                source = known.get(shot.recall)
                if source is None:
                    notes.append(Note(f"scene '{name}'", f"its source '{shot.recall}', which is not an earlier scene"))
                shot = replace(shot, recall=source or AUTO)
            shots.append(shot)
            known[shot.name or name] = name
        return replace(self, ids=tuple(ids), shots=tuple(shots), notes=tuple(notes))


def lost(cut: Cut, *names: str) -> list[Note]:
    """Notes about those of these facts of the film that it has."""
    said = {"title": "its title", "fps": "its frame rate", "seed": "its seed", "size": "its size"}
    return [Note("the film", said[name]) for name in names if getattr(cut, name) is not None]


def lines_of(text: str) -> list[str]:
    """The lines of a text as every tool counts them; other separators of Unicode are part of a prompt."""
    return re.split(r"\r\n|\r|\n", text)


def refuse(source: str, message: str, line: int = 1, column: int = 1, hint: str | None = None) -> StoryboardError:
    """The error of a file that cannot be imported, with its place."""
    return StoryboardError(source, [Mistake(Mark(line, column), message)], hint)


def ids_of(shots: Sequence[Shot]) -> list[str]:
    """One id a shot, unique, at most 24 characters, from words that few other prompts have."""
    prompts = [_words(shot.prompt) for shot in shots]
    spread = Counter(word for words in prompts for word in set(words))
    taken: set[str] = set()
    ids = []
    for shot, words in zip(shots, prompts, strict=True):
        stem = _own(shot.name) or _telling(words, spread, len(prompts)) or "scene"
        ids.append(_unique(stem, taken))
    return ids


def _own(name: str | None) -> str | None:
    """A name that can be an id as it is, or words of it that can."""
    if name and name != AUTO and re.fullmatch(r"[^\s:/\\]{1,40}", name):
        return name
    return slug(name or "")


def _telling(words: Sequence[str], spread: Counter[str], prompts: int) -> str:
    """The two rarest words of a prompt, in its order, without those that every prompt has."""
    words = [word for word in words if spread[word] < prompts] or words
    rare = sorted(dict.fromkeys(words), key=lambda word: (spread[word], words.index(word)))[:2]
    return slug("-".join(word for word in dict.fromkeys(words) if word in rare))


def _words(prompt: str) -> list[str]:
    return [word for word in re.findall(r"[^\W_]{3,}", prompt.lower()) if word not in _COMMON]


def slug(text: str) -> str:
    """Letters and digits joined by hyphens, cut at a word."""
    parts = re.findall(r"[^\W_]+", text.lower())
    out = ""
    for part in parts:
        if len(out) + len(part) + 1 > 24 and out:
            break
        out = f"{out}-{part}" if out else part[:24]
    return "" if out == "auto" else out


def _unique(stem: str, taken: set[str]) -> str:
    name, number = stem, 2
    while name in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name)
    return name


def from_starts(
    starts: Sequence[Fraction], end: Fraction, prompts: Sequence[str], kind: Kind = Kind.SMOOTH
) -> list[Shot]:
    """Shots that begin at `starts`, in order, the last one until `end`."""
    stops = [*starts[1:], end]
    return [
        Shot(prompt, stop - start, Kind.SMOOTH if number else None)
        for number, (start, stop, prompt) in enumerate(zip(starts, stops, prompts, strict=True))
    ]


def starts_of(shots: Iterable[Shot]) -> list[Fraction]:
    """When each shot begins, and last when the film ends."""
    times = [Fraction(0)]
    for shot in shots:
        times.append(times[-1] + shot.seconds)
    return times
