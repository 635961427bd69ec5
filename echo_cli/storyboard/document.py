"""Bytes → a tree of YAML nodes that know their lines, or one clear message.

Knows YAML and its traps (encodings, tabs, tags, exploding aliases, repeated keys), not storyboards. Node trees are used
instead of plain values because they keep positions; the pure Python loader, because it reads alike on every machine.
"""

import re
import sys
from pathlib import Path

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.nodes import Node, ScalarNode, SequenceNode

from echo_cli.errors import UsageError, nearest
from echo_cli.files import is_binary
from echo_cli.storyboard.mistakes import Mark, Mistake, StoryboardError

LARGEST = 64 * 1024 * 1024  # bytes; a day of one-second scenes takes a sixth of this
MOST_NODES = 4_000_000  # after aliases are followed
STDIN = "-"

_HALF = re.compile("[\ud800-\udfff]")
_OCTAL = re.compile("([-+]?)0+_*([0-7][0-7_]*)")
_TAGS = "tag:yaml.org,2002:"
_KINDS = {"str": "text", "int": "a number", "float": "a number", "bool": "yes or no", "null": "empty",
          "timestamp": "a date", "merge": "text", "value": "text", "map": "a mapping", "seq": "a list"}


def read_source(path: str) -> tuple[str, str]:
    """(text, name for messages) of a file, or of standard input for `-`."""
    if path == STDIN:
        return decode(sys.stdin.buffer.read(LARGEST + 1), "<stdin>"), "<stdin>"
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file{_neighbour(Path(path))}",
                         hint="Check the path; '-' reads from standard input.") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: is a folder, not a storyboard", hint="Name a YAML file inside it.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise UsageError(f"{path}: cannot be read: {reason}", hint="Check the path and its permissions.") from None
    return decode(data, path), path


def _neighbour(path: Path) -> str:
    """The name of the neighbouring file that was probably meant, as part of a message."""
    try:
        names = {entry.stem: entry for entry in path.parent.iterdir() if entry.suffix in (".yaml", ".yml")}
    except OSError:
        return ""
    near = nearest(path.stem, tuple(names))
    return "" if near is None else f" (did you mean '{names[near]}'?)"


def decode(data: bytes, source: str) -> str:
    """UTF-8 text, a byte order mark removed."""
    if len(data) > LARGEST:
        raise UsageError(f"{source}: is larger than {LARGEST // 1024**2} MB, too large for a storyboard",
                         hint="Check that this is the right file.")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise StoryboardError(source, [Mistake(Mark(1, 1), "the file is UTF-16; save it as UTF-8")])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if is_binary(data):
            raise UsageError(f"{source}: is a binary file, not a storyboard", hint="Name a text file: a storyboard, or "
                             "one that `echo-cli import` knows.") from None
        before = error.object[: error.start].decode("utf-8", "replace")
        byte = error.object[error.start]
        raise StoryboardError(source, [Mistake(_mark_at(before, len(before)), f"byte 0x{byte:02x} is not UTF-8; save "
                                               "the file as UTF-8")]) from None


def read_tree(text: str, source: str) -> Node:
    """The one document in `text`."""

    def fail(mark: Mark, message: str, hint: str | None = None) -> StoryboardError:
        return StoryboardError(source, [Mistake(mark, message)], hint)

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise fail(Mark(1, 1), "the storyboard is empty",
                       "It needs at least one scene, with an id, a prompt and a duration.")
        if _expanded(root, {}, set()) > MOST_NODES:
            raise fail(mark_of(root), "aliases (*name) repeat each other into millions of values",
                       "Write the repeated values out, or put common words under 'style'.")
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        assert at is not None, "a marked error has a mark"
        mark = Mark(at.line + 1, at.column + 1)
        raise fail(mark, *_syntax(error, text, at.index)) from None
    except yaml.reader.ReaderError as error:
        raise fail(_mark_at(text, error.position), f"character U+{ord(text[error.position]):04X} is not allowed in "
                   "YAML; remove it") from None
    except RecursionError:
        raise fail(Mark(1, 1), "lists or mappings are nested too deeply, or an alias contains itself") from None
    return root


def mark_of(node: Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


def _mark_at(text: str, index: int) -> Mark:
    line = text.count("\n", 0, index)
    return Mark(line + 1, index - text.rfind("\n", 0, index))


_CHECK = "Check indentation, quotes and brackets here and on the line before."
_SYNTAX: tuple[tuple[str, str, str | None], ...] = (  # what PyYAML says, what it means, and what to do about it
    (r"expected (',' or .*?), but got (.*)", r"\1 is missing before \2", None),
    (r"expected the node content, but found (.*)", r"a value is missing before \1", None),
    (r"found unexpected (?:end of stream|document separator)", "a quote was opened and not closed", None),
    (r"found unknown escape character '(.*)'", r"'\\\1' means nothing in double quotes",
     "Write \\\\ for a backslash, or use single quotes."),
    (r"expected <block end>, but found '(?:-|<block sequence start>)'",
     "a '-' that does not line up with the lines above", None),
    (r"expected <block end>, but found", "this line does not line up with the lines above", None),
    (r"found character '(.)' that cannot start any token", r"a text cannot begin with '\1'", "Put the text in quotes."),
    (r"could not find expected ':'", "a ':' is missing after a name", None),
    (r"sequence entries are not allowed here", "a '- ' is not allowed here", None),
    (r"expected alphabetic or numeric character", "a name must follow & and *", "Put a text that begins with & or * in "
     "quotes."),
    (r"found incompatible YAML document", "written in a version of YAML that cannot be read", "Remove the line that "
     "begins with %YAML."),
)


def _syntax(error: yaml.MarkedYAMLError, text: str, index: int) -> tuple[str, str | None]:
    """(message, hint) for a file that is not YAML."""
    if text[index : index + 1] == "\t":
        return "a tab; YAML needs spaces", "Replace tabs with spaces. Most editors do so automatically for .yaml files."
    problem = (error.problem or "").replace("<stream end>", "the end of the file").replace("'\\x00'", "nothing")
    if "another document" in problem:
        return "a second document begins here; a file holds one storyboard", None
    if "mapping values are not allowed" in problem:
        return ("a ': ' is not allowed here", "Put text that contains ': ' in quotes, write recall:<scene-id> without "
                "a space, and check the indentation.")
    if "undefined alias" in problem:
        return (
            f"{problem.removeprefix('found ')}; define it earlier with &, or put a text that begins with * in quotes",
            None,
        )
    if problem.startswith(("tag ", "escape ")):
        return problem, None
    for said, meant, hint in _SYNTAX:
        if match := re.search(said, problem):
            return f"not valid YAML: {match.expand(meant)}", hint or _CHECK
    return f"not valid YAML: {problem}", _CHECK


def _expanded(node: Node, known: dict[int, int], open_nodes: set[int]) -> int:
    """Nodes in the tree once every alias is followed; each node is visited once, and its tag checked."""
    if node.tag.removeprefix(_TAGS) not in _KINDS:
        raise ComposerError(None, None, f"tag {short(node.tag)} is not understood; remove it", node.start_mark)
    if isinstance(node, ScalarNode):
        node.value = _joined(node)
        return 1
    key = id(node)
    if key in open_nodes:
        raise RecursionError
    if key not in known:
        open_nodes.add(key)
        children = node.value if isinstance(node, SequenceNode) else [part for pair in node.value for part in pair]
        known[key] = 1 + sum(_expanded(child, known, open_nodes) for child in children)
        open_nodes.discard(key)
    return known[key]


def _joined(node: ScalarNode) -> str:
    """Its text, the halves of characters that JSON escapes as two put together; a half alone is refused."""
    text: str = node.value
    half = _HALF.search(text)
    if half is None:
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ComposerError(None, None, f"escape \\u{ord(half[0]):04X} is half a character; write the character itself",
                            node.start_mark) from None


def kind_of(node: Node) -> str:
    """What a node is, for a message."""
    return _KINDS[node.tag.removeprefix(_TAGS)]


def scalar(node: Node) -> object:
    """The plain value of a scalar; ValueError for anything else, an unknown tag or a value that its tag denies."""
    if not isinstance(node, ScalarNode):
        raise ValueError(f"is {kind_of(node)}")
    if node.tag == f"{_TAGS}int" and (octal := _OCTAL.fullmatch(node.value)):
        raise ValueError(f"is {short(node.value)}, which YAML takes for an octal number; "
                         f"write {octal[1]}{octal[2]}, or put it in quotes if it is a text")
    try:
        return SafeConstructor().construct_object(node)
    except (ConstructorError, ValueError, KeyError, IndexError, OverflowError):
        raise ValueError(f"is {kind_of(node)} that cannot be understood: {short(node.value)}") from None


def short(text: object, length: int = 40) -> str:
    """A value as it is quoted in a message."""
    if text is None or isinstance(text, bool):
        return "nothing" if text is None else "yes or no (a word such as 'no' needs quotes)"
    text = str(text)
    return repr(text if len(text) <= length else text[: length - 1] + "…")
