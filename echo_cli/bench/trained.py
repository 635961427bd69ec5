"""What trained weights of `tiny` are worth: films of held-out stories are judged, with and without memory.

Figures are shares and decibels, with contact sheets beside them. Does not know how the weights were trained.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from echo_cli.bench.cold import cold_run
from echo_cli.bench.metrics import background, decibels
from echo_cli.files import write_whole
from echo_cli.memory.table import DEFAULT_POLICY
from echo_cli.models.backend import Backend
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.rollout.rollout import Given
from echo_cli.storyboard.matching import Recall
from echo_cli.storyboard.nouns import Kind
from echo_cli.training.codec_stage import codec_figures
from echo_cli.training.sheets import LENGTH, as_image, film_sheet, films, held_out, stream
from echo_cli.video.contact import write_sheet
from echo_cli.world.draw import reduced
from echo_cli.world.probes import judge, probe_accuracy, score
from echo_cli.world.stories import BLOCK, FPS, HELD_OUT, PICTURES, StoryKind, pictures_of, sample_stories

_SECONDS = 300  # of the long film
_COLD = 30  # of films that are timed
_SHOWN, _CONTINUED = 4, 8  # blocks of a clip, and of the film that continues it
_ARRIVED = 2 * BLOCK  # latent frames after a change until the new subject must be there
_CLIP = 36  # latent frames of a real clip that changes its subject
_STRONGLY = 0.15  # of 1: from here on a dot is another colour


def report(backend: Backend, folder: Path, stories: int, say: Callable[[str], None]) -> dict:
    """Write all figures to `folder`/report.json, with contact sheets beside it; `say` is called when a part is done."""
    codec = backend.codec
    assert isinstance(codec, TinyCodec), "only films of tiny are judged"
    folder.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Callable[[], dict]] = {
        "codec": lambda: {
            name: value
            for name, value in asdict(codec_figures(codec, stories)).items()
            if isinstance(value, float)
        },
        "judges on real clips": lambda: asdict(probe_accuracy(codec, stories)),
        "attributes": lambda: attributes(backend, stories, folder),
        "variety": lambda: variety(backend, folder),
        "recall": lambda: recall(backend, stories, folder),
        "switch": lambda: switch(backend, stories),
        "what memory shows": lambda: steadiness(backend, stories),
        "five minutes": lambda: long_film(backend, folder),
        "speed": speed,
    }
    figures: dict = {"weights": backend.weights_hash, "stories": stories}
    for name, part in parts.items():
        began = time.perf_counter()
        figures[name] = rounded(part())
        say(
            f"{name} ({time.perf_counter() - began:.0f} s): " + ", ".join(f"{k} {v}" for k, v in figures[name].items())
        )
        write_whole(folder / "report.json", json.dumps(figures, indent=2) + "\n")
    return figures


def rounded(figures: dict) -> dict:
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()}


def seen(backend: Backend, *args: Any) -> Tensor:
    """`films` reduced to the size of the encoder's pictures."""
    return reduced(films(backend, *args), backend.spec.detail)


def attributes(backend: Backend, stories: int, folder: Path) -> dict:
    """Shares of films in which the judges see what the prompt asked for."""
    parts = []
    for number, sampled in enumerate(held_out(stories, StoryKind.HOLD)):
        made = films(
            backend, [[story[0][1]] for story in sampled.prompts], [LENGTH // BLOCK], [None], DEFAULT_POLICY, number
        )
        parts.append((len(made), asdict(score(judge(made), sampled))))
    film_sheet(backend, folder / "attributes.png", 20)
    total = sum(count for count, _ in parts)
    return {name: sum(count * part[name] for count, part in parts) / total for name in parts[0][1]}


def variety(backend: Backend, folder: Path, films_each: int = 8) -> dict:
    """How much places differ between films of one prompt, against real places of the same kind; 1 means as much."""
    sampled = sample_stories(torch.arange(512) + HELD_OUT, 1)
    shares, shown = [], []
    for place, where in enumerate(("a meadow", "the city", "the desert", "the beach", "the mountains", "the forest")):
        made = background(
            seen(
                backend, [[f"A red ball stands still in {where} by day"]] * films_each, [3], [None], DEFAULT_POLICY, 7
            )
        )
        same = ((sampled.truth.place[:, 0] == place) & (sampled.truth.time[:, 0] == 0)).nonzero()[:films_each, 0]
        real = sampled.panoramas[same, 0, :, :, :made.shape[-1]]
        shares.append((made.std(0).square().mean().sqrt() / real.std(0).square().mean().sqrt()).item())
        shown += list(made[:6])
    write_sheet(folder / "variety.png", [as_image(picture) for picture in shown], 6)
    return {"of the real variety": sum(shares) / len(shares), "least": min(shares)}


def recall(backend: Backend, stories: int, folder: Path, blocks: int = 5) -> dict:
    """Background PSNR of a place seen again, against its first visit: with a recall, and with the prompt alone."""
    gains, returned, alone, gone = [], [], [], []
    shown: list[Tensor] = []
    kinds = (None, Kind.HARD_CUT, Kind.RECALL)
    for number, sampled in enumerate(held_out(stories, StoryKind.RETURN)):
        prompts = [[prompt for _, prompt in story] for story in sampled.prompts]
        counts = [blocks] * 3
        memory = seen(
            backend, prompts, counts, kinds, DEFAULT_POLICY, number, {2: Recall(0, 1.0, ((0, 1.0), (1, 0.0)))}
        )
        blank = seen(backend, prompts, counts, (None, Kind.HARD_CUT, Kind.HARD_CUT), "none", number)
        parts = pictures_of(blocks * BLOCK), PICTURES * BLOCK * blocks  # the first scene is three pictures shorter
        first, cut, back = memory.split([parts[0], parts[1], parts[1]], 1)
        place = background(first)
        returned.append(decibels(background(back), place))
        alone.append(decibels(background(blank[:, -parts[1]:]), place))
        gains.append(returned[-1] - alone[-1])
        wanted = sampled.truth.place.gather(1, (sampled.truth.segment == 1).int().argmax(1, keepdim=True))[:, 0]
        gone.append(judge(cut[:, :PICTURES * BLOCK]).place == wanted)
        for film in memory[:max(0, 6 - len(shown) // 6)]:
            opens, ends = parts[0], parts[0] + parts[1]
            shown += [film[at] for at in (0, opens - 1, opens + 12, ends - 1, ends + 12, len(film) - 1)]
    write_sheet(folder / "recall.png", [as_image(picture) for picture in shown], 6)
    gain = torch.cat(gains)
    return {"returned dB": torch.cat(returned).mean().item(), "prompt alone dB": torch.cat(alone).mean().item(),
            "gain dB": gain.mean().item(), "share that gains": (gain > 0).float().mean().item(),
            "new place in the first block of a cut": torch.cat(gone).float().mean().item()}


def speed(runs: int = 5) -> dict:
    """Of `generate` in a separate process with the embedded model on this machine: the median of a few runs."""
    made = [cold_run(_COLD) for _ in range(runs)]
    return {
        "pictures a second": median(run.pictures_a_second for run in made),
        "first picture s": median(run.first_picture_s for run in made),
        "worst first picture s": max(run.first_picture_s for run in made),
    }


def switch(backend: Backend, stories: int) -> dict:
    """A smooth transition in one place: the new subject is there in the third block, the place stays."""
    right, stays = [], []
    for number, sampled in enumerate(held_out(stories, StoryKind.SWITCH)):
        prompts = [[prompt for _, prompt in story] for story in sampled.prompts]
        made = seen(backend, prompts, [5, 5], (None, Kind.SMOOTH), DEFAULT_POLICY, number)
        before, after = made.split([pictures_of(5 * BLOCK), 5 * BLOCK * PICTURES], 1)
        right.append(_shows(after[:, _ARRIVED * PICTURES:], sampled.truth.shape[:, -1], sampled.truth.colour[:, -1]))
        stays.append(decibels(background(after), background(before)))
    assert isinstance(backend.codec, TinyCodec), "clips are encoded as training encodes them"
    return {
        "new subject after two blocks": torch.cat(right).float().mean().item(),
        "judges on real clips": _seen_in_clips(backend.codec, stories),
        "place stays dB": torch.cat(stays).mean().item(),
    }


def _seen_in_clips(codec: TinyCodec, stories: int) -> float:
    """How often the judges see the new subject of real clips, through the codec, in the frames after a change that
    `switch` looks at; of clips that are long enough to have them."""
    right = []
    for sampled in held_out(stories, StoryKind.SWITCH, _CLIP):
        decoded, truth = codec.decode(codec.encode(sampled.pictures))[0], sampled.truth
        for film, story, shape, colour in zip(decoded, sampled.prompts, truth.shape, truth.colour, strict=True):
            first, end = story[-1][0] + _ARRIVED, story[-1][0] + 5 * BLOCK
            if end <= _CLIP:
                right.append(_shows(film[None, pictures_of(first):pictures_of(end)], shape[-1:], colour[-1:]))
    return torch.cat(right).float().mean().item() if right else math.nan


def _shows(pictures: Tensor, shape: Tensor, colour: Tensor) -> Tensor:
    """Whether films show a subject of this shape in this colour; each [film]."""
    verdict = judge(pictures)
    return (verdict.shape == shape) & (verdict.colour == colour)


def steadiness(backend: Backend, stories: int) -> dict:
    """Films that continue a clip of one place, whose sky does not change: the share of the sky that has another colour,
    as where a second moon appears, in the block after the clip and on average over the eight after it."""
    codec, first, mean = backend.codec, [], []
    assert isinstance(codec, TinyCodec), "clips are encoded as training encodes them"
    for number, sampled in enumerate(held_out(stories, StoryKind.HOLD, BLOCK * (_SHOWN + _CONTINUED))):
        clip = codec.encode(sampled.pictures)
        prompts = [[story[0][1]] for story in sampled.prompts]
        made = seen(backend, prompts, [_SHOWN + _CONTINUED], [None], DEFAULT_POLICY, number, None,
                    Given(clip[:, :BLOCK * _SHOWN]))
        real = reduced(codec.decode(clip)[0], backend.spec.detail)
        after = pictures_of(BLOCK * _SHOWN)
        for film, wanted, top in zip(made, real, sampled.truth.box[:, :, 1].amin(1).tolist(), strict=True):
            sky = slice(0, int(top))  # above all that the subject reaches
            wrong = ((film[after:, :, sky] - wanted[after:, :, sky]).abs().mean(1) > _STRONGLY).float().mean((1, 2))
            first.append(wrong[:BLOCK * PICTURES].mean())
            mean.append(wrong.mean())
    return {"sky wrong in the next block": torch.stack(first).mean().item(),
            "sky wrong in the next eight": torch.stack(mean).mean().item()}


def long_film(backend: Backend, folder: Path) -> dict:
    """One scene for five minutes: motion, colour, contrast and sharpness of its last half minute against its first ten
    seconds."""
    prompt = "A red ball bounces up and down in a green meadow by day"
    first, last, shown = [], [], []
    blocks = _SECONDS * FPS // (BLOCK * PICTURES)
    for number, piece in enumerate(stream(backend, [[prompt]], [blocks], [None], DEFAULT_POLICY, 3)):
        if number * BLOCK * PICTURES < 10 * FPS:
            first.append(piece[0])
        if (blocks - number) * BLOCK * PICTURES <= 30 * FPS:
            last.append(piece[0])
        if number % -(-blocks // 12) == 0:
            shown.append(as_image(piece[0, -1]))
    write_sheet(folder / "five-minutes.png", shown, 6)
    early, late = torch.cat(first), torch.cat(last)

    def motion(film: Tensor) -> Tensor:
        return film.diff(dim=0).abs().mean()

    def sharpness(film: Tensor) -> Tensor:
        return film.diff(dim=-1).abs().mean()

    return {
        "motion kept": (motion(late) / motion(early)).item(),
        "colour moved": (late.mean((0, 2, 3)) - early.mean((0, 2, 3))).abs().max().item(),
        "contrast kept": (late.std() / early.std()).item(),
        "sharpness kept": (sharpness(late) / sharpness(early)).item(),
    }
