"""The pool of latents that the transformer learns from: stories of the world, encoded once and read many times.

A shard is a function of the seed and its number alone, so a missing one is generated when it is needed; a second
process can run ahead and generate them all. Knows nothing of what is learned from them.
"""

import itertools
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from echo_cli.files import output_errors
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.words import TEXT_LENGTH, rows_of
from echo_cli.world.stories import SEGMENTS, Stories, first_picture, sample_stories

LENGTH = 21  # latent frames of a story: as long as the window
_FIRST = 1 << 40  # the codec uses seeds below
_TOGETHER = {"cpu": 8, "cuda": 128}  # stories drawn at a time: few stay in a processor's cache, many fill a GPU


@dataclass(frozen=True)
class Pool:
    """Shards of `stories` stories in `folder`. `codec` must not change under them."""

    folder: Path
    codec: TinyCodec
    seed: int
    stories: int

    def path(self, number: int) -> Path:
        return self.folder / f"shard-{number:04d}.safetensors"

    def shard(self, number: int) -> dict[str, Tensor]:
        """Tensors [story, …] by name: latents, words, and the truth of frames and of tokens."""
        from safetensors.torch import load_file

        path = self.path(number)
        if not path.exists():
            self._make(number)
        return load_file(path)

    def _make(self, number: int) -> None:
        from safetensors.torch import save

        device = self.codec.mean.device
        first = _FIRST + (self.seed << 28) + number * self.stories
        seeds = torch.arange(first, first + self.stories)
        parts = [encoded(sample_stories(some, LENGTH, device=str(device)), self.codec)
                 for some in seeds.split(_TOGETHER[device.type])]
        shard = {name: torch.cat([part[name] for part in parts]).cpu().contiguous() for name in parts[0]}
        self.folder.mkdir(parents=True, exist_ok=True)
        # Two processes may make one shard at once: the same bytes, under different names until they are complete.
        path = self.path(number)
        growing = path.with_name(f"{path.name}.{os.getpid()}")
        with output_errors(path):
            growing.write_bytes(save(shard))
            growing.replace(path)


@torch.inference_mode()
def encoded(sampled: Stories, codec: TinyCodec) -> dict[str, Tensor]:
    """What a shard stores of some stories."""
    truth = sampled.truth
    words = torch.zeros(len(sampled.seeds), SEGMENTS, TEXT_LENGTH, dtype=torch.int16)
    for story, prompts in enumerate(sampled.prompts):
        for segment, (_, prompt) in enumerate(prompts):
            words[story, segment] = torch.tensor(rows_of(prompt))
    opens = [first_picture(frame) for frame in range(sampled.latent_frames + 1)]
    seen = torch.stack([truth.visible[:, a:b].amin(1) for a, b in itertools.pairwise(opens)], 1)
    small = {
        name: getattr(truth, name).to(torch.int8)
        for name in ("segment", "slot", "place", "time", "shape", "colour", "motion")
    }
    tokens = {name: getattr(truth, f"token_{name}").flatten(2, 3).half() for name in ("cover", "velocity", "depths")}
    return {"latents": codec.encode(sampled.pictures).half(), "words": words, "seen": seen.half(), **small, **tokens}
