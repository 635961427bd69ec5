"""A model too small to make anything pretty, in place of the trained one: same classes, random weights, real files.

`python -m tests.render.stage generate …` is the real command with that model loaded when `tiny` is asked for.
"""

from functools import cache
from pathlib import Path

import torch

from echo_cli.models import loaders
from echo_cli.models.backend import Backend
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.running import Running
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.render.job import Job
from echo_cli.render.outputs import outputs_of
from echo_cli.render.prepare import prepared
from echo_cli.render.request import Request
from echo_cli.runtime import Runtime
from echo_cli.spec import SPECS, ModelSpec
from echo_cli.storyboard.parse import parse

WEIGHTS = "0" * 64  # their hash
SPEC = ModelSpec(name="tiny", depth=2, width=24, heads=2, ffn=24, channels=4, text_dim=16, text_len=16, positions=96,
                 strides=(4, 16, 16), size=(96, 64), pooled_text=True, steps=(1000, 500))

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
    torch.manual_seed(1)
    codec, text = (module.to(runtime.device, runtime.dtype).requires_grad_(False).eval()
                   for module in (TinyCodec(4, (8, 8, 8)), WordTextEncoder(SPEC.text_dim)))
    return Backend(SPEC, random_transformer(SPEC, 3, runtime.device, runtime.dtype), text, codec, WEIGHTS)


def load(runtime: Runtime, folder: Path | None, running: Running) -> Backend:
    """In the place of the packaged model's loader."""
    return backend(runtime)


def job(folder: Path, story: str = STORY, name: str = "film.mp4", **options) -> Job:
    output = name if name == "-" else str(folder / name)
    request = Request("story.yaml", output, **{"scale": 1, "preset": "ultrafast", **options})
    return prepared(request, parse(story), SPEC).job(outputs_of(output, "film"))


def install() -> None:
    """The command will find this model under the name `tiny`."""
    SPECS["tiny"] = SPEC
    loaders.LOADERS["tiny"] = load
    loaders.HASHES["tiny"] = lambda folder: WEIGHTS


if __name__ == "__main__":
    from echo_cli.cli.app import main

    torch.set_num_threads(1)
    install()
    main()
