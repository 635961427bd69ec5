"""The eye: a small pair of towers, pictures and words, whose cosine says how well a clip of the little world fits a
prompt.

A judge beside `tiny`, not a part of it: it has a folder and an index of its own, so that retrained models are
still judged by the same eye. A clip is four pictures, four apart, so that motion counts. Knows nothing of training, and
of words only the concepts of `tiny.words`, in any order; it does not judge the camera.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from echo_cli.errors import MissingError
from echo_cli.files import read_json, sha256, why_unreadable, write_whole
from echo_cli.models.files.loading import fill, read_safetensors
from echo_cli.models.tiny.model import save_part
from echo_cli.models.tiny.parts import part_path
from echo_cli.models.tiny.residual import Residual
from echo_cli.models.tiny.words import COLOURS, MOTIONS, PLACES, SUBJECTS, TIMES, concepts_of
from echo_cli.spec import INDEX

WEIGHTS = Path(__file__).parent / "weights"
PART = "eye"
ASPECTS: dict[str, tuple[str, ...]] = {  # what a prompt may name, each by its concepts in the order of `tiny.words`
    "place": tuple(PLACES),
    "time": tuple(TIMES),
    "shape": tuple(SUBJECTS),
    "colour": tuple(COLOURS),
    "motion": tuple(MOTIONS),
}
_TABLES = {"place": "place", "time": "time", "shape": "subject", "colour": "colour", "motion": "motion"}
CONCEPTS: tuple[str, ...] = tuple(name for names in ASPECTS.values() for name in names)
VIEWS, GAP = 4, 4  # pictures in a clip, and the step from one to the next
REACH = 1 + GAP * (VIEWS - 1)  # pictures that a clip spans
FEWEST = 9  # fewer pictures than this show no motion; a film's first block has as many
HEIGHT, WIDTH = 64, 96  # of what the eye sees, whatever the size of the pictures
_CUT = 4  # pixels, side of the squares that views are first divided into


class Eye(nn.Module):
    """`see` and `read` return unit vectors, so that a product is a cosine; only training uses `sharpness`."""

    def __init__(self, dim: int = 96, widths: tuple[int, int] = (64, 128)) -> None:
        super().__init__()
        fine, coarse = widths
        shown = 3 * (VIEWS + VIEWS - 1) * _CUT**2
        self.look = nn.Sequential(
            nn.PixelUnshuffle(_CUT), nn.Conv2d(shown, fine, 1), Residual(fine),
            nn.PixelUnshuffle(2), nn.Conv2d(4 * fine, coarse, 1), Residual(coarse), Residual(coarse), nn.SiLU(),
        )
        self.gather = nn.Sequential(
            nn.LayerNorm(2 * coarse), nn.Linear(2 * coarse, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim)
        )
        self.words = nn.Linear(len(CONCEPTS), dim)
        self.join = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim), nn.SiLU(), nn.Linear(2 * dim, dim))
        # the logarithm of what cosines are multiplied by before a softmax
        self.sharpness = nn.Parameter(torch.tensor(2.3))

    def see(self, clips: Tensor) -> Tensor:
        """Clips [n, VIEWS, 3, HEIGHT, WIDTH] in [0, 1] to directions [n, dim]."""
        clips = clips * 2 - 1
        seen = self.look(torch.cat((clips, clips.diff(dim=1)), 1).flatten(1, 2))
        return F.normalize(self.gather(torch.cat((seen.mean((2, 3)), seen.amax((2, 3))), 1)), dim=1)

    def read(self, bags: Tensor) -> Tensor:
        """Bags of concepts [n, CONCEPTS], with a one for each that is named, to directions [n, dim]."""
        record = self.words(bags)
        return F.normalize(record + self.join(record), dim=1)


def bag(prompt: str) -> Tensor:
    """The concepts that a prompt names: [CONCEPTS] of ones and zeros."""
    named = said(prompt)
    return torch.tensor([float(name in named[aspect]) for aspect, names in ASPECTS.items() for name in names])


def said(prompt: str) -> dict[str, list[str]]:
    """What a prompt names of each aspect."""
    concepts = concepts_of(prompt)
    return {aspect: concepts[table] for aspect, table in _TABLES.items()}


def clips_of(pictures: Tensor) -> Tensor:
    """One scene's pictures [p, 3, y, x] to clips [n, VIEWS, 3, HEIGHT, WIDTH], spread evenly over it, about twelve
    pictures apart."""
    count = len(pictures)
    if count < FEWEST:
        raise ValueError(f"{count} pictures: the eye needs {FEWEST} of one scene to see motion")
    clips = max(1, round((count - 1) / (REACH - 1)))
    reach = min(REACH, count)
    opens = [round(clip * (count - reach) / max(1, clips - 1)) for clip in range(clips)]
    at = torch.tensor([[start + round(view * (reach - 1) / (VIEWS - 1)) for view in range(VIEWS)] for start in opens])
    return F.adaptive_avg_pool2d(pictures[at.flatten()].float(), (HEIGHT, WIDTH)).unflatten(0, (clips, VIEWS))


def save_eye(folder: Path, eye: Eye, facts: Mapping[str, Any]) -> None:
    """Writes the weights, and then the index with their hash and how they were made."""
    save_part(folder, PART, eye, dict(facts))
    record = {"model": PART, "sha256": {PART: sha256(part_path(folder, PART))}, "trained": dict(facts)}
    write_whole(folder / INDEX, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def load_eye(device: torch.device | str = "cpu", folder: Path = WEIGHTS) -> Eye:
    """The eye in `folder`, if it is the one that the index names."""
    check(folder)
    path = part_path(folder, PART)
    with torch.device("meta"):
        eye = Eye()
    return fill(eye, read_safetensors(path), str(path), device)


def check(folder: Path = WEIGHTS) -> str:
    """The hash of the weights, after checking them against the index."""
    hint = "Install the package again, or train it: echo-cli train --stage eye."
    path = part_path(folder, PART)
    if not path.is_file():
        raise MissingError(f"{path}: the eye that judges films is missing", hint=hint)
    try:
        record = read_json(folder / INDEX)["sha256"][PART]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MissingError(
            f"{folder / INDEX}: the index of the eye is missing or damaged: {why_unreadable(error)}", hint=hint
        ) from error
    digest = sha256(path)
    if digest != record:
        raise MissingError(
            f"{path}: not the weights that {INDEX} names; the file is damaged or was replaced", hint=hint
        )
    return digest
