"""Everything that can go wrong for a user: what happened, what to try, and the exit code that a farm acts on.

`EchoError` is for people. A caller's mistake inside the code is a ValueError with the value in it, and a broken
invariant is an assert; neither belongs here.
"""

import re
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

ALIKE = 0.75  # how like a known word another must be to be taken for it, between 0 and 1
_OPTION = re.compile(r"`[^`]*`|(?<!\S)-(?:-[a-z][a-z-]*|[a-z])\b")  # a command in backticks is skipped


class Exit(IntEnum):
    """The exit codes of a process, for the farm that started it."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    MISSING = 3
    MEMORY = 4
    OUTPUT = 5
    INTERRUPTED = 75
    READER_GONE = 141  # what a shell reports for a filter that SIGPIPE ended


class EchoError(Exception):
    """A failure that a person can act on: `message` says what and where, `hint` what to try."""

    exit_code = Exit.FAULT
    status = "failed"
    where: str | None = None  # FILE:LINE:COLUMN of the mistake, if there is such a place
    told = False  # to the farm, where progress is reported

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def respell(self, options: Mapping[str, str]) -> None:
        """Its options under the names that they have at another door than the command line; commands stay."""
        def respelled(text: str) -> str:
            return _OPTION.sub(lambda found: options.get(found[0], found[0]), text)

        self.message, self.hint = respelled(self.message), self.hint and respelled(self.hint)
        self.args = (self.message,)

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is in another process, whatever the arguments of its class are."""
        return type(self).__new__, (type(self), *self.args), vars(self)


class UsageError(EchoError):
    """The storyboard, the trace or the arguments are wrong: retrying will not help."""

    exit_code = Exit.USAGE


class Damaged(UsageError):
    """An interrupted run cannot be resumed from what it left: `message` names the file and what is wrong with it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "Use --restart to discard the checkpoint and start again.")


class MissingError(EchoError):
    """The machine lacks something: weights, a device, ffmpeg, an extra."""

    exit_code = Exit.MISSING


class OutOfMemory(EchoError):
    """Host or device memory ran out, or would."""

    exit_code = Exit.MEMORY


class OutputError(EchoError):
    """The film or one of its companions could not be written."""

    exit_code = Exit.OUTPUT


class ReaderGone(OutputError):
    """The reader of standard output has stopped reading. They know, so no message is printed."""

    exit_code = Exit.READER_GONE

    def __init__(self) -> None:
        super().__init__("the reader of standard output stopped reading")


class Held(OutputError):
    """Another process is rendering this film: nothing is wrong, and a later retry will find it done."""

    exit_code = Exit.INTERRUPTED
    status = "held"


class Interrupted(EchoError):
    """Stopped at a block boundary by a signal; the run can be resumed."""

    exit_code = Exit.INTERRUPTED
    status = "interrupted"


def did_you_mean(word: str, known: Sequence[str], prefix: str = "") -> str:
    """" (did you mean 'x'?)" for the known word that was probably meant, or nothing; a prefix that all of them share
    does not count."""
    near = nearest(word.removeprefix(prefix), known)
    return "" if near is None else f" (did you mean '{prefix}{near}'?)"


def nearest(word: str, known: Sequence[str]) -> str | None:
    """The known word that is most like `word`, in any case of letters: very much like it, or enough if it begins as
    `word` does, as most slips leave it. The deferred import keeps start-up quick."""
    from difflib import get_close_matches

    word, by_small = word.lower(), {each.lower(): each for each in reversed(known)}
    alike = [each for each in by_small if each[:1] == word[:1]]
    near = get_close_matches(word, list(by_small), 1, ALIKE) or get_close_matches(word, alike, 1)
    return by_small[near[0]] if near else None
