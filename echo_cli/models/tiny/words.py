"""The words `tiny` understands: its concepts, the synonyms of each, and how a prompt becomes a row of indices.

Knows nothing of tensors, so a command line can warn about unknown words in a few milliseconds. Every synonym of a
concept shares one index: the transformer learns `red` once, not `red`, `crimson` and `scarlet`. Words that show
nothing (`a`, `the`, `across`) are dropped, and so are unknown ones: any prompt is accepted, and the transformer sees
only what it was trained on.
"""

import re
from functools import cache

# The first synonym is the concept's name. A synonym may be several words; the longest match wins, which keeps the
# colour in "green meadow" from painting the subject.
PLACES: dict[str, tuple[str, ...]] = {
    "meadow": ("meadow", "green meadow", "green hills", "rolling hills", "hills", "grassland", "field", "countryside"),
    "city": ("city", "skyline", "city street", "street", "town", "downtown"),
    "desert": ("desert", "dunes", "sand dunes", "golden dunes"),
    "beach": ("beach", "golden beach", "seaside", "shore", "coast", "sea", "ocean"),
    "mountains": ("mountains", "snowy mountains", "snow", "snowfield", "winter", "white mountains", "alps"),
    "forest": ("forest", "pine forest", "green forest", "woods", "woodland"),
}
TIMES: dict[str, tuple[str, ...]] = {
    "day": ("day", "daytime", "noon", "midday", "sunny day", "sunny", "daylight"),
    "sunset": ("sunset", "dusk", "evening", "golden hour", "twilight"),
    "night": ("night", "midnight", "moonlight", "moonlit"),
}
SUBJECTS: dict[str, tuple[str, ...]] = {
    "ball": ("ball", "sphere", "orb"),
    "box": ("box", "cube", "square", "crate"),
    "triangle": ("triangle", "pyramid"),
    "star": ("star",),
}
COLOURS: dict[str, tuple[str, ...]] = {
    "red": ("red", "crimson", "scarlet"),
    "yellow": ("yellow", "golden", "gold"),
    "green": ("green", "emerald"),
    "blue": ("blue", "azure"),
    "purple": ("purple", "violet"),
    "pink": ("pink", "rose"),
}
MOTIONS: dict[str, tuple[str, ...]] = {
    "left": ("left", "leftwards", "leftward"),
    "right": ("right", "rightwards", "rightward"),
    "bounce": (
        "bounces",
        "bounces up and down",
        "hops",
        "hops up and down",
        "jumps up and down",
        "jumps",
        "bouncing",
        "jumping",
        "hopping",
        "up and down",
    ),
    "still": (
        "stands still",
        "rests",
        "sits",
        "stays still",
        "stays in place",
        "waits",
        "stands",
        "sits still",
        "still",
        "resting",
        "standing",
        "sitting",
    ),
}
CAMERAS: dict[str, tuple[str, ...]] = {
    "pan": ("pans away and returns", "wanders away and comes back", "pans away and back", "pans"),
}
TABLES = {"place": PLACES, "time": TIMES, "subject": SUBJECTS, "colour": COLOURS, "motion": MOTIONS, "camera": CAMERAS}

# Known words that show nothing themselves.
FILLERS = frozenset(
    """
    a an the to of in on at by before with and is it its this that same again back now here there into over across
    through along under between while as for from then where there's grassy sandy wide tall large big quiet vast
    calm deep bright clear warm dark full moon sun light rolls roll rolling moves move moving slides slide sliding
    drifts drift drifting travels travel travelling goes going glides gliding side camera shot static holds hold
    view scene place during cinematic realism style film comes returns
    """.split()  # noqa: SIM905 (words read better as text)
)
UNUSED = 64  # rows of the weights that no word has
TEXT_LENGTH = 16  # rows the transformer attends to; of more concepts the first ones count

CONCEPTS: tuple[str, ...] = tuple(name for table in TABLES.values() for name in table)
ROWS = 1 + len(CONCEPTS) + UNUSED  # row 0 is padding

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


@cache
def _phrases() -> dict[tuple[str, ...], int]:
    """Every synonym, as a tuple of words, to its row."""
    return {
        tuple(synonym.split()): 1 + CONCEPTS.index(name)
        for table in TABLES.values()
        for name, synonyms in table.items()
        for synonym in synonyms
    }


def _matches(prompt: str) -> list[tuple[str, int | None]]:
    """(text, row) from left to right, the longest phrase first; row None for an unknown word, 0 for a filler."""
    words = _WORD.findall(prompt.lower())
    phrases, longest = _phrases(), max(map(len, _phrases()))
    read: list[tuple[str, int | None]] = []
    at = 0
    while at < len(words):
        for span in range(min(longest, len(words) - at), 0, -1):
            row = phrases.get(tuple(words[at : at + span]))
            if row is not None:
                break
        else:
            row = 0 if words[at] in FILLERS else None
        read.append((" ".join(words[at : at + span]), row))
        at += span
    return read


def rows_of(prompt: str) -> list[int]:
    """The prompt as TEXT_LENGTH row indices, padded with 0."""
    rows = list(dict.fromkeys(row for _, row in _matches(prompt) if row))  # "the sea" after "the shore" adds nothing
    return (rows + [0] * TEXT_LENGTH)[:TEXT_LENGTH]


def concepts_of(prompt: str) -> dict[str, list[str]]:
    """What `tiny` reads in the prompt, by table, in the order of the words: {"colour": ["red"], …}."""
    named = dict.fromkeys(CONCEPTS[row - 1] for _, row in _matches(prompt) if row)
    return {table: [name for name in named if name in members] for table, members in TABLES.items()}


def unknown_words(prompt: str) -> list[str]:
    """The words that `tiny` does not know, once each, in the order of the prompt."""
    return list(dict.fromkeys(text for text, row in _matches(prompt) if row is None))


def contradictions(prompt: str) -> list[tuple[str, list[str]]]:
    """What the prompt says more than once, in different ways, though a film shows one: the table, and the words."""
    said: dict[str, dict[int, str]] = {}
    for text, row in _matches(prompt):
        if row:
            table = next(table for table, members in TABLES.items() if CONCEPTS[row - 1] in members)
            said.setdefault(table, {}).setdefault(row, text)
    return [(table, list(words.values())) for table, words in said.items() if len(words) > 1]
