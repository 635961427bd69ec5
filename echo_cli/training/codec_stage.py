"""The first stage of training: the codec learns to carry the little world through its latents.

Everything a step draws (stories, windows, noise) is a function of the seed and the step's number, so a run that was killed
goes on with the losses it would have had. Knows nothing of the transformer.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from echo_cli.files import partial, publish
from echo_cli.models.tiny_codec import TinyCodec

from echo_cli.training.dice import uniform
from echo_cli.training.draw import HEIGHT, WIDTH
from echo_cli.training.muon import Muon
from echo_cli.training.world import HELD_OUT, PICTURES, Stories, StoryKind, sample_stories

CHECKPOINT = "codec.pt"
_LENGTH = 21  # latent frames of the stories that pictures are taken from
_CHAPTER = 16  # steps whose pictures are drawn together


@dataclass(frozen=True)
class CodecPlan:
    """What decides the weights."""

    seed: int = 1
    steps: int = 6000
    batch: int = 8  # latent frames in a step
    rate: float = 0.02
    small_rate: float = 1e-3
    warmup: int = 30
    noise: float = 0.1  # of the latents' deviation, added before decoding
    edges: float = 0.5  # weight of the loss on differences between neighbouring pixels
    squares: float = 10.0  # weight of the squared error beside the absolute one
    smooth: float = 0.003  # weight of the latents' own neighbour differences
    ema: float = 0.998
    save_every: int = 200
    channels: int = 24


@dataclass(frozen=True)
class CodecProgress:
    """One step's figures."""

    step: int
    steps: int
    loss: float
    psnr: float
    roughness: float


def roughness(latents: Tensor) -> Tensor:
    """Mean squared difference of neighbouring latents [n, c, h, w] of unit deviation: 2 for white noise."""
    return ((latents.diff(dim=-1) ** 2).mean() + (latents.diff(dim=-2) ** 2).mean()) / 2


def psnr(error: Tensor) -> Tensor:
    """Decibels of a mean squared error of values in [0, 1]."""
    return -10 * error.log10()


class CodecStage:
    """The codec, its optimiser and its running average: all that a checkpoint holds. `run` changes it."""

    def __init__(self, plan: CodecPlan, folder: Path, device: str = "cpu") -> None:
        self.plan, self.folder, self.device = plan, folder, torch.device(device)
        torch.manual_seed(plan.seed)
        self.codec = TinyCodec(plan.channels).to(self.device, memory_format=torch.channels_last)
        self.average = {name: value.clone() for name, value in self.codec.state_dict().items()}
        self.optimiser = Muon(self.codec.parameters(), plan.rate, plan.small_rate)
        self.step = 0
        self._chapter, self._pages = -1, torch.empty(0)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._load()

    def _load(self) -> None:
        saved = torch.load(self.folder / CHECKPOINT, map_location=self.device, weights_only=True)
        if saved["plan"] != asdict(self.plan):
            raise ValueError(f"the checkpoint in {self.folder} belongs to another plan: {saved['plan']}")
        self.codec.load_state_dict(saved["codec"])
        self.average = saved["average"]
        self.optimiser.load_state_dict(saved["optimiser"])
        self.step = saved["step"]

    def save(self) -> None:
        path = self.folder / CHECKPOINT
        torch.save({"plan": asdict(self.plan), "codec": self.codec.state_dict(), "average": self.average,
                    "optimiser": self.optimiser.state_dict(), "step": self.step}, partial(path))
        publish(path)

    def run(self, report: Callable[[CodecProgress], None], stop: Callable[[], bool] = lambda: False) -> None:
        """Train to the plan's last step, or until `stop` says so between two steps; either way a checkpoint is left."""
        while self.step < self.plan.steps and not stop():
            report(self._advance())
            if self.step % self.plan.save_every == 0:
                self.save()
        self.save()

    def _frames(self) -> Tensor:
        """This step's pictures, grouped as the encoder reads them: [batch, 12, y, x]."""
        chapter, page = divmod(self.step, _CHAPTER)
        if chapter != self._chapter:
            self._chapter, self._pages = chapter, self._write(chapter)
        return self._pages[page]

    def _write(self, chapter: int) -> Tensor:
        """All the pictures of _CHAPTER steps, from few enough stories that drawing costs little: [step, batch, 12, y, x]."""
        key = torch.tensor([(self.plan.seed << 32) + chapter], device=self.device)
        stories = 2 * self.plan.batch
        seeds = (key << 8) + torch.arange(stories, device=self.device)  # distinct over all chapters, below HELD_OUT
        told = sample_stories(seeds, _LENGTH, device=str(self.device))
        chance = uniform(key, 0, _CHAPTER * self.plan.batch)[0]
        windows = (chance[: _CHAPTER // 2] * _LENGTH).long().tolist()
        frames = torch.cat([TinyCodec.frames(told.render(at, at + 1), started=at > 0)[:, 0] for at in windows])
        return frames[chance.argsort()].unflatten(0, (_CHAPTER, self.plan.batch))

    def _advance(self) -> CodecProgress:
        plan = self.plan
        frames = self._frames().contiguous(memory_format=torch.channels_last)
        ramp = min(1.0, (self.step + 1) / plan.warmup)
        fall = 0.5 * (1 + math.cos(math.pi * self.step / plan.steps))
        self.optimiser.scale(ramp * (0.01 + 0.99 * fall))
        generator = torch.Generator(self.device).manual_seed((plan.seed << 32) + self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            raw = self.codec.raw_latents(frames)
            deviation, mean = torch.std_mean(raw.float(), (0, 2, 3))
            latents = (raw - mean[:, None, None]) / (deviation[:, None, None] + 1e-4)
            noise = torch.randn(latents.shape, generator=generator, device=self.device)
            noisy = (latents + plan.noise * noise) * deviation[:, None, None] + mean[:, None, None]
            decoded = self.codec.raw_pictures(noisy)
        error = decoded.float() - frames
        rough = roughness(latents.float())
        squares = error.square().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        loss = error.abs().mean() + plan.squares * squares + plan.edges * edges + plan.smooth * rough
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        self.step += 1
        with torch.no_grad():
            blend = min(plan.ema, self.step / (self.step + 20))
            self.codec.mean.lerp_(mean, 1 - blend)
            self.codec.std.lerp_(deviation, 1 - blend)
            for name, value in self.codec.state_dict().items():
                self.average[name].lerp_(value, 1 - blend)
        figures = torch.stack((loss.detach(), psnr(squares.detach()), rough.detach())).tolist()
        return CodecProgress(self.step, plan.steps, *figures)

    @torch.no_grad()
    def finished(self, stories: int = 64) -> TinyCodec:
        """The averaged codec, its latents' mean and deviation measured anew over whole stories."""
        codec = TinyCodec(self.plan.channels).to(self.device)
        codec.load_state_dict(self.average)
        codec.mean.zero_()
        codec.std.fill_(1)
        seeds = torch.arange(stories) + (((self.plan.seed << 32) + self.plan.steps) << 8)  # after the last chapter's own
        latents = torch.cat([codec.encode(told.pictures) for told in _batches(seeds, self.device)])
        deviation, mean = torch.std_mean(latents, (0, 1, 3, 4))
        codec.mean.copy_(mean)
        codec.std.copy_(deviation)
        return codec.requires_grad_(False).eval()


def _batches(seeds: Tensor, device: torch.device, kind: StoryKind | None = None, size: int = 4) -> Iterator[Stories]:
    """Whole stories, a few at a time."""
    for some in seeds.split(size):
        yield sample_stories(some, _LENGTH, kind, str(device))


@dataclass(frozen=True)
class CodecFigures:
    """How well stories that were never seen survive the codec. Decibels of whole clips, and of the subject alone."""

    psnr: float
    worst: float
    by_place: tuple[float, ...]  # in the order of `tiny_words.PLACES`
    subject: float
    noisy: float  # with noise of a tenth on the latents
    roughness: float
    moving: float  # share of the change inside latent frames that the decoded pictures make too: 0 shows its mean, 1 all


@torch.inference_mode()
def codec_figures(codec: TinyCodec, stories: int = 48, seed: int = HELD_OUT) -> CodecFigures:
    """Measured on held-out stories of every kind."""
    device = codec.mean.device
    generator = torch.Generator(device).manual_seed(seed)
    clips, noisy, subjects, places, rough = [], [], [], [], []
    missed = whole = torch.zeros((), device=device)
    for told in _batches(torch.arange(stories) + seed, device):
        pictures = told.pictures
        latents = codec.encode(pictures)
        difference = codec.decode(latents)[0] - pictures
        error = difference.square()
        missed = missed + _inside(difference).square().sum()
        whole = whole + _inside(pictures).square().sum()
        clips.append(error.mean((1, 2, 3, 4)))
        places.append((error.mean((2, 3, 4)), told.truth.place[:, _frame_of_picture(told)]))
        shown = _subject_mask(told)
        subjects.append((error.mean(2) * shown).sum() / shown.sum())
        shaken = latents + 0.1 * torch.randn(latents.shape, generator=generator, device=device)
        noisy.append((codec.decode(shaken)[0] - pictures).square().mean((1, 2, 3, 4)))
        rough.append(roughness(latents.flatten(0, 1)))
    error, place = (torch.cat(part).flatten() for part in zip(*places, strict=True))
    each = psnr(torch.cat(clips))
    return CodecFigures(
        psnr=each.mean().item(), worst=each.min().item(),
        by_place=tuple(psnr(error[place == number].mean()).item() for number in range(6)),
        subject=psnr(torch.stack(subjects).mean()).item(), noisy=psnr(torch.cat(noisy)).mean().item(),
        roughness=torch.stack(rough).mean().item(), moving=1 - (missed / whole).item(),
    )


def _inside(pictures: Tensor) -> Tensor:
    """Differences of neighbouring pictures of one latent frame: [story, frame, 3, 3, y, x]."""
    return pictures[:, 1:].unflatten(1, (-1, PICTURES)).diff(dim=2)


def _frame_of_picture(told: Stories) -> Tensor:
    return (torch.arange(told.truth.pan.shape[1], device=told.panoramas.device) + PICTURES - 1) // PICTURES


def _subject_mask(told: Stories) -> Tensor:
    """One inside the subject's box: [story, picture, y, x]."""
    left, top, right, bottom = told.truth.box[..., None, None].unbind(2)
    x = torch.arange(WIDTH, device=left.device)
    y = torch.arange(HEIGHT, device=left.device)[:, None]
    return ((x >= left) & (x < right) & (y >= top) & (y < bottom)).float()
