"""Films of held-out stories, many at once, and the contact sheets that show what a stage has learned.

Every film is rendered by the rollout that users run, with the same number of steps. Knows nothing of judges.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from echo_cli.memory.policies import make_policy
from echo_cli.memory.table import DEFAULT_POLICY, settings_type
from echo_cli.models.backend import Backend
from echo_cli.models.tiny.codec import DETAIL, TinyCodec
from echo_cli.rollout.rollout import Given, rollout
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import Kind, Scene, timeline_of
from echo_cli.video.contact import write_sheet
from echo_cli.world.draw import reduced
from echo_cli.world.stories import BLOCK, HELD_OUT, Stories, StoryKind, sample_stories

LENGTH = 21  # latent frames of a film that is shown or judged
_TOGETHER = 8  # films made at once
_VIEWS = 6  # pictures of each film on a sheet


@torch.inference_mode()
def stream(
    backend: Backend,
    prompts: Sequence[Sequence[str]],
    counts: Sequence[int],
    kinds: Sequence[Kind | None],
    policy: str,
    seed: int,
    recalls: dict[int, Recall] | None = None,
    opening: Given | None = None,
) -> Iterator[Tensor]:
    """Pictures [film, picture, 3, y, x] of films with the same cuts, a block at a time; `prompts` is [film][scene], and
    the first scene begins with the `opening`."""
    scenes = [
        Scene(id=f"scene {n}", prompt=prompts[0][n], seconds=1.0, transition=kind) for n, kind in enumerate(kinds)
    ]
    timeline = timeline_of(scenes, list(counts), backend.spec.geometry)
    plan = make_policy(policy, settings_type(policy)(), backend.spec, timeline, recalls or {}, backend.queries)
    rows = [backend.text.encode([film[n] for film in prompts]) for n in range(len(kinds))]
    noise = KeyedNoise(seed, timeline.scenes)
    blocks = rollout(timeline, backend.transformer, rows, plan, noise, backend.spec.grid(), batch=len(prompts),
                     openings=lambda scene: None if scene else opening)
    state = None
    for block in blocks:
        pictures, state = backend.codec.decode(block.latents, state)
        yield pictures.float().cpu()


def films(
    backend: Backend,
    prompts: Sequence[Sequence[str]],
    counts: Sequence[int],
    kinds: Sequence[Kind | None],
    policy: str,
    seed: int,
    recalls: dict[int, Recall] | None = None,
    opening: Given | None = None,
) -> Tensor:
    """All pictures of `stream` together."""
    return torch.cat(list(stream(backend, prompts, counts, kinds, policy, seed, recalls, opening)), 1)


def held_out(stories: int, kind: StoryKind, length: int = LENGTH) -> list[Stories]:
    """Stories that no stage has seen, a few at a time."""
    return [sample_stories(some, length, kind) for some in (torch.arange(stories) + HELD_OUT).split(_TOGETHER)]


def film_sheet(backend: Backend, path: Path, stories: int = 8) -> None:
    """A row for each held-out story, as the model renders it."""
    shown, labels = [], []
    for number, sampled in enumerate(held_out(stories, StoryKind.HOLD)):
        prompts = [[story[0][1]] for story in sampled.prompts]
        made = films(backend, prompts, [LENGTH // BLOCK], [None], DEFAULT_POLICY, number)
        shown += [picture for film in made for picture in views(film)]
        labels += [text for (prompt,) in prompts for text in prompt_label(prompt)]
    write_sheet(path, shown, _VIEWS, labels)


@torch.inference_mode()
def codec_sheet(codec: TinyCodec, path: Path, stories: int = 4) -> None:
    """Held-out stories as they were drawn, and below each what comes out of the codec."""
    device = codec.mean.device
    sampled = sample_stories(torch.arange(stories) + HELD_OUT, LENGTH, device=str(device), detail=DETAIL)
    decoded = codec.decode(codec.encode(reduced(sampled.pictures, DETAIL)))[0]
    write_sheet(
        path,
        [view for pair in zip(sampled.pictures, decoded, strict=True) for film in pair for view in views(film.cpu())],
        _VIEWS,
    )


def views(film: Tensor) -> list[np.ndarray]:
    """A few pictures at even intervals, the first and the last among them."""
    return [as_image(film[round(at * (len(film) - 1) / (_VIEWS - 1))]) for at in range(_VIEWS)]


def prompt_label(prompt: str) -> list[str]:
    """The prompt below its film's first pictures, cut to fit."""
    return [prompt[:40], prompt[40:80], *[""] * (_VIEWS - 2)]


def as_image(picture: Tensor) -> np.ndarray:
    return (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
