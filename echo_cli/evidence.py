"""Whether the words of a call name something of ours: the first check of the `echo` script.

Standard library only, and as little of it as possible. Does not know which options a command has; `cli.guard` does.
"""

import os

from echo_cli.commands import ALWAYS_ECHOED, COMMANDS, OPTIONS

ENDINGS = (".yaml", ".yml", ".json", ".scenes")
FILES = (".mp4", ".mov", ".mkv", ".webm", ".gif", ".otio", ".edl", ".fcpxml", ".srt", ".vtt", ".jsonl")  # if they exist
INSIDE = (b"scenes:", b'"scenes"')  # a storyboard's opening lines, whatever the file is called


def may_be_ours(arguments: list[str]) -> bool:
    """Whether a call is one of the tool's own options, or one of its commands with words that hint at us."""
    command, *rest = arguments or [""]
    if not rest:
        return command in OPTIONS
    return command in COMMANDS and command != ALWAYS_ECHOED and any(map(_hints_at_us, rest))


def names_ours(word: str) -> bool:
    """Whether a word names a storyboard, a trace, a film, a timeline of another tool, or a folder."""
    if word.lower().endswith(ENDINGS) or os.path.isdir(word):
        return True
    return os.path.isfile(word) and (word.lower().endswith(FILES) or _reads_as_storyboard(word))


def _hints_at_us(word: str) -> bool:
    """Whether a word might be an option, or names something of ours."""
    return word.startswith("-") or names_ours(word)


def _reads_as_storyboard(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except OSError:
        return False
    return any(mark in start for mark in INSIDE)
