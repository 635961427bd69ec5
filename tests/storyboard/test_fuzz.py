"""Whatever is fed to the reader, the answer is a storyboard or a list of mistakes: never anything else."""

from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echo_cli.errors import UsageError
from echo_cli.storyboard.document import decode
from echo_cli.storyboard.mistakes import StoryboardError
from echo_cli.storyboard.parse import parse
from echo_cli.storyboard.timeline import timeline
from tests.storyboard.test_parse import GOOD, RULES

SCRAPS = [
    "\t",
    ":",
    " ",
    "\n",
    "-",
    "[",
    "]",
    "{",
    "}",
    "&a ",
    "*a",
    "!",
    "!!int ",
    "|",
    ">",
    "'",
    '"',
    "#",
    "%",
    "@",
    "`",
    "?",
    "<<: ",
    "null",
    "yes",
    "0x1F",
    "1:30",
    ".inf",
    "-",
    "---\n",
    "...\n",
    "2020-01-01",
    "\x00",
    "\ufeff",
    "é",
    "🎬",
    "9" * 50,
    "recall:",
    "at: 5\n",
    "duration: 5\n",
    "length: 9\n",
    "scenes:\n",
    "- id: a\n",
    "- {}\n",
    "=",
    "~",
    "\r",
]
EDITS = st.lists(
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, 12), st.sampled_from(SCRAPS)), min_size=1, max_size=6
)
RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def read(data: bytes) -> None:
    """Reads and times a storyboard; only mistakes that say where they are may come out, or that it is no
    text at all."""
    try:
        board = parse(decode(data, "film.yaml"), "film.yaml", RULES)
        made = timeline(replace(board, model=None), RULES.models["tiny"].geometry)
        assert made.pictures > 0
    except StoryboardError as error:
        assert error.mistakes
        assert all(line.startswith("film.yaml:") for line in error.message.splitlines())
    except UsageError as error:
        assert b"\0" in data and error.message == "film.yaml: is a binary file, not a storyboard"


@RELAXED
@given(EDITS)
def test_a_storyboard_with_scraps_in_it(edits: list[tuple[int, int, str]]) -> None:
    text = GOOD
    for place, gone, scrap in edits:
        text = text[:place] + scrap + text[place + gone :]
    read(text.encode("utf-8"))


@RELAXED
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=5))
def test_a_storyboard_with_lines_that_moved(moves: list[tuple[int, int]]) -> None:
    lines = GOOD.splitlines(keepends=True)
    for source, target in moves:
        lines.insert(target % len(lines), lines[source % len(lines)])
    read("".join(lines).encode())


@RELAXED
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    read(data)


@RELAXED
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    read(text.encode("utf-8", "surrogatepass"))
