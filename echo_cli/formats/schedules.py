"""Prompt schedules by frame: Deforum's JSON and its older form, and FizzNodes' BatchPromptSchedule.

`{"0": "a bunny", "60": "a coconut --neg photo"}`, `0: a | 30: b`, `"0": "…", "max_f / 2": "…"`. Keys are frames of the
finished film, and may be arithmetic with `max_f`; `--neg` begins a negative prompt; weights are written `(words:1.2)`
or in backticks, LoRAs `<lora:name:0.8>`. All changes are smooth.
"""

import ast
import json
import operator
import re
from collections.abc import Callable
from fractions import Fraction

from echo_cli.formats.cut import MOST_SHOTS, Cut, Note, from_starts, refuse
from echo_cli.formats.jsons import DEEPEST

_PAIR = re.compile(r'"((?:[^"\\]|\\.)*)"\s*:\s*"((?:[^"\\]|\\.)*)"\s*(,|$|(?=\}))', re.DOTALL)
_OLD = re.compile(r"^\s*(\d+)\s*:\s*(.+)$", re.DOTALL)
_CURVE = re.compile(r"`[^`]*`")
_WEIGHTED = re.compile(r"\(([^()]*?):\s*(-?\d+(?:\.\d*)?|-?\.\d+|`[^`]*`)\s*\)")  # (words:1.2)
_LORA = re.compile(r"<(?:lora|lyco|hypernet):([^<>]*)>", re.IGNORECASE)
RATE = 15.0  # frames a second when nobody says otherwise: what Deforum takes
_LONGEST_KEY, _MOST_FRAMES = 80, 240 * 7 * 24 * 3600
_OPERATORS: dict[type[ast.AST], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda one, other: Fraction(one // other),
    ast.Mod: operator.mod,
}


def is_ours(text: str) -> bool:
    """Whether a text is a schedule in one of the three forms."""
    text = text.strip()
    if re.match(r"^\d+\s*:\s*[^\"'\s].*", text) and "-->" not in text and "\n" not in text.split("|")[0].strip():
        return True
    match = _PAIR.match(text.removeprefix("{").lstrip())
    return bool(match and _is_key(match[1]))


def _is_key(key: str) -> bool:
    return bool(re.fullmatch(r"[\s\d.+\-*/%()]*(max_f[\s\d.+\-*/%()]*)*", key)) and bool(key.strip())


def read(text: str, source: str, fps: float, frames: int | None = None) -> list[Cut]:
    """The one film of a schedule, of `frames` frames at `fps`; left out, the last prompt lasts as long as the one
    before it (or five seconds)."""
    return [film(_pairs(text.strip(), source), source, fps, frames)]


def film(pairs: list[tuple[str, str, int]], source: str, fps: float, frames: int | None = None) -> Cut:
    """The film of (key, prompt, line) for every change of the prompt."""
    if frames is None and any("max_f" in key for key, _, _ in pairs):
        raise refuse(source, "a key counts from max_f, the length of the film", pairs[0][2],
                     hint="Give the length with --frames N.")
    notes: list[Note] = []
    starts = _starts(pairs, source, frames, notes)
    if starts[0][0] > 0:
        notes.append(Note(f"frame {starts[0][0]}", f"{float(starts[0][0]) / fps:g} s before the first prompt"))
    times = [Fraction(0), *(Fraction(frame) / Fraction(repr(fps)) for frame, _ in starts[1:])]
    gap = times[-1] - times[-2] if len(times) > 1 else Fraction(5)
    end = Fraction(frames) / Fraction(repr(fps)) if frames else times[-1] + gap
    return Cut(tuple(from_starts(times, end, [prompt for _, prompt in starts])), notes=tuple(notes))


def _starts(pairs: list[tuple[str, str, int]], source: str, frames: int | None,
            notes: list[Note]) -> list[tuple[int, str]]:
    """(frame, prompt) in order, without those that begin after the film's end."""
    starts: dict[int, str] = {}
    for key, prompt, line in pairs:
        frame = frame_of(key, frames or 0, source, line)
        if frames and frame >= frames:
            notes.append(Note(f"frame {key}", f"the prompt after the last of {frames} frames: {prompt}"))
            continue
        if frame in starts:
            raise refuse(source, f"two prompts begin at frame {frame}", line)
        starts[frame] = _positive(prompt, f"frame {key}", notes)
        if not starts[frame]:
            raise refuse(source, f"the prompt at frame {key} is empty", line)
    if not starts:
        raise refuse(source, f"every prompt begins after the last of {frames} frames", pairs[0][2])
    return sorted(starts.items())


def _pairs(text: str, source: str) -> list[tuple[str, str, int]]:
    """(key, prompt, line) of every entry."""
    pairs = []
    if _OLD.match(text):
        for part in text.split("|"):
            match = _OLD.match(part)
            if not match:
                raise refuse(
                    source, f"not 'frame: prompt': {part.strip()[:40]!r}", 1 + text.count("\n", 0, text.find(part))
                )
            pairs.append((match[1], " ".join(match[2].split()), 1 + text.count("\n", 0, text.find(part))))
    else:
        place = 1 if text.startswith("{") else 0
        while (match := _PAIR.match(text, _skip(text, place))) and len(pairs) <= MOST_SHOTS:
            pairs.append(
                (_unescaped(match[1], source), _unescaped(match[2], source), 1 + text.count("\n", 0, match.start()))
            )
            place = match.end()
        rest = text[_skip(text, place) :].strip()
        if rest not in ("", "}", ","):
            line, column = 1 + text.count("\n", 0, place), place - text.rfind("\n", 0, place)
            raise refuse(source, f'expected "frame": "prompt", not {rest[:30]!r}', line, column)
    if not pairs or len(pairs) > MOST_SHOTS:
        raise refuse(source, "no prompt is in this schedule" if not pairs else f"more than {MOST_SHOTS:,} prompts")
    return pairs


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n,":
        place += 1
    return place


def _unescaped(text: str, source: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        raise refuse(source, f"not a quoted text: {text[:40]!r}") from None


def _positive(prompt: str, place: str, notes: list[Note]) -> str:
    """The prompt alone; its negative part, its weights and what it loads are noted."""
    prompt, _, negative = prompt.partition("--neg")
    if negative.strip():
        notes.append(Note(place, f"the negative prompt: {' '.join(negative.split())}"))
    plain = prompt
    notes += [Note(place, f"the LoRA {match[1]}") for match in _LORA.finditer(plain)]
    plain = _LORA.sub("", plain)
    while match := _WEIGHTED.search(plain):
        notes.append(Note(place, f"the weight {match[2]} of '{match[1].strip()}'"))
        plain = plain[:match.start()] + match[1] + plain[match.end():]
    notes += [Note(place, f"the weight {curve}") for curve in _CURVE.findall(plain)]
    plain = re.sub(r":(?=[\s,)]|$)", "", _CURVE.sub("", plain)) if "`" in plain else plain
    words = " ".join(plain.split())
    return words if plain == prompt else re.sub(r"\s*,(\s*,)*", ",", words).strip(", ")


def frame_of(key: str, frames: int, source: str, line: int = 1) -> int:
    """The frame that a key names: sums, products, brackets, `max_f`; nothing is ever executed."""
    if len(key) > _LONGEST_KEY or key.count("(") > DEEPEST:
        raise refuse(source, f"not a frame: {key[:40]!r}…", line)
    try:
        value = _evaluate(ast.parse(key.strip(), mode="eval").body, Fraction(frames))
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError, MemoryError):
        raise refuse(source, f"not a frame: {key!r}", line, hint="Write numbers, + - * / % ( ) and max_f.") from None
    if not 0 <= int(value) <= _MOST_FRAMES:
        raise refuse(source, f"frame {key} is {float(value):g}, which no film has", line)
    return int(value)


def _evaluate(node: ast.AST, frames: Fraction) -> Fraction:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if abs(node.value) > _MOST_FRAMES:
            raise ValueError
        return Fraction(repr(node.value))
    if isinstance(node, ast.Name) and node.id == "max_f":
        return frames
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _evaluate(node.operand, frames)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.left, frames), _evaluate(node.right, frames))
    raise ValueError
