"""LongLive's prompts: version 1 is JSON lines with times in a YAML file beside them, version 2 a folder of captions.

All changes of version 1 are smooth; the shots of version 2 are hard cuts, and every later caption begins with a fixed
sentence that is not part of the prompt.
"""

import json
import re
from fractions import Fraction
from pathlib import Path

from echo_cli.files import read_small, why_unreadable
from echo_cli.formats.cut import Cut, Note, Shot, from_starts, lines_of, lost, refuse
from echo_cli.formats.jsons import read_json
from echo_cli.storyboard.nouns import Geometry, Kind

OPENING = "The scene transitions. "
_PLAIN = Geometry()
_FRAME = Fraction(_PLAIN.frame_pictures) / Fraction(_PLAIN.fps)  # seconds of a latent frame
_SHOT_BLOCKS = 7  # of a shot whose length nobody gives
_PROMPTS = re.compile(r'"prompts"\s*:\s*\[')
_TIMES = re.compile(r"^\s*switch_frame_indices\s*:\s*\[?([\d,\s]*?)\]?\s*$", re.MULTILINE)
_LENGTH = re.compile(r"^\s*num_output_frames\s*:\s*(\d{1,9})\s*(#.*)?$", re.MULTILINE)


def is_lines(text: str) -> bool:
    """Whether a text is JSON lines of prompts."""
    first = next((line for line in lines_of(text) if line.strip()), "")
    return first.lstrip().startswith("{") and bool(_PROMPTS.search(first)) and '"startTime"' not in first


def times_beside(name: str) -> str | None:
    """The text of the YAML file of that name that says when prompts change, if there is one."""
    path = Path(name).with_suffix(".yaml")
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    return text if _TIMES.search(text) else None


def read_lines(text: str, source: str, times: str | None = None) -> list[Cut]:
    """One film a line. `times` is the text of the YAML file that says when prompts change; without it they share the
    film evenly, which is noted."""
    starts, end = _times(times, source) if times is not None else (None, None)
    films = []
    for number, line in enumerate(lines_of(text), start=1):
        if line.strip():
            prompts = [entry.text().strip() for entry in read_json(line, source, number)["prompts"].items()]
            films.append(_film(prompts, starts, end, number, source))
    if not films:
        raise refuse(source, "no film is in this file")
    return films


def _film(prompts: list[str], starts: list[int] | None, end: int | None, number: int, source: str) -> Cut:
    if not prompts or not all(prompts):
        raise refuse(source, "a film needs at least one prompt, and none may be empty", number)
    notes: list[Note] = []
    if starts is None:
        starts = [index * 40 for index in range(1, len(prompts))]
        notes.append(
            Note(f"line {number}", "when prompts change: no file beside it says so; each lasts 40 latent frames")
        )
    if len(starts) < len(prompts) - 1:
        raise refuse(source, f"{len(prompts)} prompts, but only {len(starts)} switch frames", number)
    if len(starts) > len(prompts) - 1:
        notes.append(Note(f"line {number}", f"{len(starts) - len(prompts) + 1} switch frames without a prompt"))
    edges = [0, *starts[: len(prompts) - 1]]
    last = end if end is not None else edges[-1] + 40
    if any(later <= earlier for earlier, later in zip(edges, [*edges[1:], last], strict=True)):
        raise refuse(source, f"switch frames must grow and stay below the length ({last})", number)
    shots = from_starts([edge * _FRAME for edge in edges], last * _FRAME, prompts)
    return Cut(tuple(shots), fps=_PLAIN.fps, notes=tuple(notes))


def _times(text: str, source: str) -> tuple[list[int] | None, int | None]:
    switches, length = _TIMES.search(text), _LENGTH.search(text)
    starts = [int(part[:9]) for part in re.findall(r"\d+", switches[1])] if switches else None
    return starts, int(length[1]) if length else None


def read_folder(folder: Path) -> list[Cut]:
    """A folder of captions, in the order of their names and numbers; a folder of such folders is many films."""
    captions = sorted(folder.glob("*.json"), key=_order)
    if captions:
        return [_captions(folder, captions)]
    try:
        inside = [below for below in sorted(folder.iterdir(), key=_order)
                  if below.is_dir() and any(below.glob("*.json"))]
    except OSError as error:
        raise refuse(str(folder), f"the folder cannot be read: {why_unreadable(error)}") from None
    if not inside:
        raise refuse(str(folder), "no captions are in this folder", hint="Expected files *.json with a 'caption'.")
    return [_captions(below, sorted(below.glob("*.json"), key=_order)) for below in inside]


def _order(path: Path) -> list[tuple[int, str]]:
    """Where a name stands: 2.json before 10.json."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _captions(folder: Path, files: list[Path]) -> Cut:
    prompts = []
    for number, path in enumerate(files):
        caption = read_json(_text(path, "the caption"), str(path))["caption"].text().strip()
        prompts.append(caption.removeprefix(OPENING).strip() if number else caption)
        if not prompts[-1]:
            raise refuse(str(path), "the caption is empty")
    notes, counts = [], _durations(folder / "shot_durations.txt", len(files))
    if counts is None:
        counts = [_SHOT_BLOCKS] * len(files)
        notes.append(
            Note(folder.name, f"lengths of the shots: no shot_durations.txt; each lasts {_SHOT_BLOCKS} blocks")
        )
    block = _FRAME * _PLAIN.block_frames
    shots = tuple(
        Shot(prompt, count * block, Kind.HARD_CUT if number else None)
        for number, (prompt, count) in enumerate(zip(prompts, counts, strict=True))
    )
    return Cut(shots, title=folder.name, fps=_PLAIN.fps, notes=tuple(notes))


def _durations(path: Path, shots: int) -> list[int] | None:
    if not path.is_file():
        return None
    counts = [int(part) for part in re.findall(r"\d{1,6}", _text(path, "the file"))]
    if len(counts) != shots or 0 in counts:
        raise refuse(str(path), f"{len(counts)} lengths for {shots} shots; each needs one block at least")
    return counts


def _text(path: Path, what: str) -> str:
    try:
        return read_small(path).decode("utf-8", "replace")
    except OSError as error:
        raise refuse(str(path), f"{what} cannot be read: {why_unreadable(error)}") from None


def write_lines(cut: Cut) -> tuple[str, list[Note]]:
    """Version 1: the prompts as one JSON line. The times belong into a file beside it: `switch_frames`."""
    left = lost(cut, "title", "fps", "seed", "size") + [
        Note(f"scene '{name}'", f"its {shot.kind}; all changes are smooth")
        for name, shot in zip(cut.ids, cut.shots, strict=True)
        if shot.kind and not shot.continues
    ]
    left += [
        Note(f"scene '{name}'", "its subtitle") for name, shot in zip(cut.ids, cut.shots, strict=True) if shot.subtitle
    ]
    return json.dumps({"prompts": [shot.prompt for shot in cut.shots]}, ensure_ascii=False) + "\n", left


def switch_frames(cut: Cut) -> str:
    """The YAML file that belongs beside `write_lines`: when prompts change, and the length, in latent frames. LongLive
    makes whole blocks, and a film's first latent frame is one picture."""
    blocks: list[int] = []
    time = Fraction(0)
    for shot in cut.shots:
        time += shot.seconds
        frames = (time * Fraction(_PLAIN.fps) + _PLAIN.frame_pictures - 1) / _PLAIN.frame_pictures
        blocks.append(max(len(blocks) + 1, round(frames / _PLAIN.block_frames)))
    edges = [str(block * _PLAIN.block_frames) for block in blocks]
    return f"switch_frame_indices: {', '.join(edges[:-1])}\nnum_output_frames: {edges[-1]}\n"
