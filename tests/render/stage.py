"""A model too small to make anything pretty, in place of the trained one: same classes, random weights, real files.

`python -m tests.render.stage generate …` is the real command with that model loaded when `tiny` is asked for.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from echo_cli.cli.app import main, run
from echo_cli.models.backend import Backend
from echo_cli.models.loaders import known_digest, load_backend
from echo_cli.models.registry import MODELS
from echo_cli.render import api
from echo_cli.render.job import Job
from echo_cli.render.outputs import outputs_of
from echo_cli.render.prepare import prepared
from echo_cli.render.request import Request
from echo_cli.render.session import Session
from echo_cli.runtime import Runtime
from echo_cli.spec import RANDOM_FRAMEWISE, RANDOM_SMALL
from echo_cli.storyboard.parse import parse

SPEC = RANDOM_SMALL
ROW = replace(MODELS[SPEC.name], listed=True)  # takes the place of `tiny`
WEIGHTS = known_digest(SPEC.name)

STORY = """
version: 1
title: A test
seed: 5
scenes:
  - {id: meadow, prompt: a red ball rolls left across a green meadow, duration: 1.5s, subtitle: Meadow}
  - {id: desert, transition: hard cut, prompt: a blue star in the desert, duration: 1s}
  - id: again
    transition: "recall:meadow"
    prompt: the red ball in the meadow at night
    duration: 1.6s
    subtitle: Again
"""


@cache
def backend(runtime: Runtime = Runtime(torch.device("cpu"), torch.float32)) -> Backend:
    return load_backend(SPEC.name, runtime)


def framewise() -> Backend:
    """The same with blocks of one frame."""
    return load_backend(RANDOM_FRAMEWISE.name, Runtime(torch.device("cpu"), torch.float32))


def job(folder: Path, story: str = STORY, name: str = "film.mp4", **options) -> Job:
    output = name if name == "-" else str(folder / name)
    request = Request("story.yaml", output, **{"scale": 1, "preset": "ultrafast", "keep_states": "none", **options})
    return prepared(request, parse(story), SPEC).job(outputs_of(output, "film"))


def pictures_in(folder: Path) -> np.ndarray:
    """The pictures of a film that was rendered as an image sequence."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))])


def rendered(story: str, *arguments: str) -> np.ndarray:
    """The pictures of a story's film, by the real command, in the folder where the test works."""
    Path("story.yaml").write_text(story)
    assert run(["generate", "story.yaml", "--scale", "2", "-o", "frames/%04d.png", "--force", *arguments]) == 0
    return pictures_in(Path("frames"))


def settle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test works in a folder with a storyboard in it, and the small model has the name `tiny`, in Python too, where
    the last model stays loaded."""
    monkeypatch.setitem(MODELS.own, "tiny", ROW)
    monkeypatch.setattr(api, "_session", Session())
    folder.mkdir()
    monkeypatch.chdir(folder)
    Path("story.yaml").write_text(STORY)


def install() -> None:
    """The command will find this model under the name `tiny`."""
    MODELS.own["tiny"] = ROW


if __name__ == "__main__":
    torch.set_num_threads(1)
    install()
    main()
