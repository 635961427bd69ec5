"""The first stage of training: the codec learns to carry the little world through its latents.

It is supervised with the real motion. From pictures alone, motion would be learned last: the encoder gains nothing by
writing it before the decoder reads it, nor the decoder by reading it before the encoder writes it.

Everything a step draws (stories, windows, noise) is a function of the seed and the step's number, so a killed run
resumes with the losses that it would have had. Knows nothing of the transformer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from echo_cli.models.tiny.codec import DETAIL, KEY, TinyCodec
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.world.dice import uniform
from echo_cli.world.draw import HEIGHT, WIDTH, reduced
from echo_cli.world.stories import HELD_OUT, PICTURES, Stories, StoryKind, Truth, first_picture, sample_stories

SIDE = TinyCodec.strides[1]  # pixels of a latent
_LENGTH = 21  # latent frames of the stories that pictures are taken from
_EDGE = 0.1  # from which the difference of neighbouring dots is an edge
_CHAPTER = 16  # steps whose pictures are drawn together
_INSIDE, _OUTSIDE = 0.75, 1.6  # of the subject's radius; what lies between belongs to neither


@dataclass(frozen=True)
class CodecPlan:
    """What decides the weights."""

    batch: int = 8  # latent frames in a step
    columns: int = 6  # of latents around the subject that are decoded: half of the picture costs half
    rate: float = 0.02
    small_rate: float = 1e-3
    noise: float = 0.1  # of the latents' deviation, added before decoding
    absolute: float = 0.5  # weight of the absolute error
    edges: float = 0.25  # weight of the loss on differences between neighbouring pixels
    squares: float = 10.0  # weight of the squared error
    flow: float = 0.015  # weight of the loss on where dots come from, in dots
    smooth: float = 0.003  # weight of the latents' own neighbour differences
    rounds: int = 3  # of the optimiser's orthogonalisation
    ema: float = 0.998
    channels: int = 24


def roughness(latents: Tensor) -> Tensor:
    """Mean squared difference of neighbouring latents [n, c, h, w] of unit deviation: 2 for white noise."""
    return ((latents.diff(dim=-1) ** 2).mean() + (latents.diff(dim=-2) ** 2).mean()) / 2


def psnr(error: Tensor) -> Tensor:
    """Decibels of a mean squared error of values in [0, 1]."""
    return -10 * error.log10()


class CodecStage:
    """One step at a time: `advance` draws pictures and descends."""

    def __init__(self, plan: CodecPlan, seed: int, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.plan, self.seed, self.device, self.dtype = plan, seed, device, dtype
        torch.manual_seed(seed)
        # torch's own types do not know the argument
        self.codec = TinyCodec(plan.channels).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.learner = Learner(
            self.codec, Muon(self.codec.parameters(), plan.rate, plan.small_rate, rounds=plan.rounds), plan.ema
        )
        self._chapter, self._pages, self._motions = -1, torch.empty(0), torch.empty(0)

    def frames(self, step: int) -> tuple[Tensor, Tensor]:
        """A step's pictures, grouped as the encoder reads them but as large as they are decoded, [batch, 12, y, x], and
        how they move, [batch, 4, 4]."""
        chapter, page = divmod(step, _CHAPTER)
        if chapter != self._chapter:
            self._chapter, (self._pages, self._motions) = chapter, self._write(chapter)
        return self._pages[page], self._motions[page]

    def _write(self, chapter: int) -> tuple[Tensor, Tensor]:
        """All the frames of _CHAPTER steps, from few enough stories that drawing costs little: [step, batch, …]."""
        key = torch.tensor([(self.seed << 32) + chapter], device=self.device)
        stories = 2 * self.plan.batch
        seeds = (key << 8) + torch.arange(stories, device=self.device)  # distinct over all chapters, below HELD_OUT
        sampled = sample_stories(seeds, _LENGTH, device=str(self.device), detail=DETAIL)
        chance = uniform(key, 0, _CHAPTER * self.plan.batch)[0]
        windows = (chance[: _CHAPTER // 2] * _LENGTH).long().tolist()
        frames = torch.cat([TinyCodec.frames(sampled.render(at, at + 1), started=at > 0)[:, 0] for at in windows])
        motions = torch.cat([motion_of(sampled.truth, at) for at in windows])
        order = chance.argsort()
        return frames[order].unflatten(0, (_CHAPTER, self.plan.batch)), motions[order].unflatten(
            0, (_CHAPTER, self.plan.batch)
        )

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        plan = self.plan
        frames, motion = self.frames(step)
        frames = frames.contiguous(memory_format=torch.channels_last)
        generator = torch.Generator(self.device).manual_seed((self.seed << 32) + step)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            raw = self.codec.raw_latents(reduced(frames, DETAIL))
            deviation, mean = torch.std_mean(raw.float(), (0, 2, 3))
            latents = (raw - mean[:, None, None]) / (deviation[:, None, None] + 1e-4)
            noise = torch.randn(latents.shape, generator=generator, device=self.device)
            noisy = (latents + plan.noise * noise) * deviation[:, None, None] + mean[:, None, None]
            left, motion = around(motion, raw.shape[-1], plan.columns)
            frames = columns_of(frames, left, plan.columns, SIDE * DETAIL)
            decoded, flow = self.codec.raw_pictures(columns_of(noisy, left, plan.columns))
        error = decoded - frames
        rough = roughness(latents.float())
        squares = error.square().mean()
        small = reduced(error.detach(), DETAIL).square().mean()
        edges = error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        subject, place = flow_errors(flow, motion)
        loss = (plan.absolute * error.abs().mean() + plan.squares * squares + plan.edges * edges + plan.smooth * rough
                + plan.flow * (subject + place))
        with torch.no_grad():
            blend = 1 / (step + 20) + 1 - plan.ema
            self.codec.mean.lerp_(mean, blend)
            self.codec.std.lerp_(deviation, blend)
        self.learner.descend(loss, rate_at(step, spent))
        return {
            "loss": loss.detach(),
            "psnr": psnr(small),
            "roughness": rough.detach(),
            "flow": subject.detach(),
        }

    @torch.no_grad()
    def finished(self, stories: int = 64) -> TinyCodec:
        """The averaged codec, its latents' mean and deviation measured again over whole stories."""
        codec = TinyCodec(self.plan.channels).to(self.device)
        codec.load_state_dict(self.learner.average)
        codec.mean.zero_()
        codec.std.fill_(1)
        seeds = torch.arange(stories) + (((self.seed << 32) + self.learner.step) << 8)  # after the last chapter's
        stories_drawn = _batches(seeds, self.device)
        latents = torch.cat([codec.encode(reduced(sampled.pictures, DETAIL)) for sampled in stories_drawn])
        deviation, mean = torch.std_mean(latents, (0, 1, 3, 4))
        codec.mean.copy_(mean)
        codec.std.copy_(deviation)
        return codec.requires_grad_(False).eval()


def motion_of(truth: Truth, frame: int) -> Tensor:
    """Camera column, subject centre and radius on each picture of a latent frame: [story, PICTURES, 4]."""
    pictures = slice(first_picture(frame), first_picture(frame + 1))
    motion = torch.cat((truth.pan[:, pictures, None], truth.centre[:, pictures], truth.radius[:, pictures, None]), -1)
    return motion.expand(-1, PICTURES, -1)  # a film's first latent frame has one picture


def around(motion: Tensor, columns: int, wanted: int) -> tuple[Tensor, Tensor]:
    """Where the `wanted` ones of a frame's columns of latents begin that lie around its subject [frame], and its motion
    as seen from there."""
    left = (motion[:, :, 1].mean(1) / SIDE - wanted / 2).round().long().clamp(0, columns - wanted)
    motion = motion.clone()
    motion[..., 1] -= SIDE * left[:, None]
    return left, motion


def columns_of(frames: Tensor, left: Tensor, wanted: int, dots: int = 1) -> Tensor:
    """Some columns of latents of frames [n, c, y, x], or of their pictures, which have so many dots for each."""
    at = left[:, None] * dots + torch.arange(wanted * dots, device=left.device)
    return frames.gather(-1, at[:, None, None].expand(*frames.shape[:-1], -1))


def flow_errors(flow: Tensor, motion: Tensor) -> tuple[Tensor, Tensor]:
    """How many dots the codec's flow [n, 3, 2, y, x] is off, inside the subject and well outside of it."""
    height, width = flow.shape[-2:]
    motion = motion * DETAIL
    others = [picture for picture in range(PICTURES) if picture != KEY]
    pan, centre, radius = motion[..., 0], motion[..., 1:3], motion[..., 3]
    place = torch.stack((pan[:, others] - pan[:, KEY : KEY + 1], torch.zeros_like(pan[:, others])), -1)
    subject = centre[:, KEY : KEY + 1] - centre[:, others]
    subject = torch.where(subject.abs().amax(-1, keepdim=True) > width / 4, 0.0, subject)  # wrapped to the other side
    x = torch.arange(width, device=flow.device)
    y = torch.arange(height, device=flow.device)[:, None]
    away = (
        torch.hypot(x - centre[:, others, 0, None, None], y - centre[:, others, 1, None, None])
        / radius[:, others, None, None]
    )
    parts = []
    for asked, where in ((subject, away < _INSIDE), (place, away > _OUTSIDE)):
        off = (flow - asked[..., None, None]).abs().sum(2) * where
        parts.append(off.sum() / where.sum().clamp(min=1))
    return parts[0], parts[1]


def _batches(seeds: Tensor, device: torch.device, kind: StoryKind | None = None, size: int = 4) -> Iterator[Stories]:
    """Whole stories, a few at a time."""
    for some in seeds.split(size):
        yield sample_stories(some, _LENGTH, kind, str(device), DETAIL)


@dataclass(frozen=True)
class CodecFigures:
    """How well held-out stories survive the codec: decibels of whole clips and of the subject alone, at the size of
    encoded pictures."""

    psnr: float
    worst: float
    by_place: tuple[float, ...]  # in the order of `tiny_words.PLACES`
    subject: float
    noisy: float  # with noise of a tenth on the latents
    roughness: float
    # share of the change inside latent frames that the decoded pictures make too: 0 shows its mean, 1 all
    moving: float
    sharp: float  # how steep edges are, as decoded, where the drawing has edges: its own are 1


@torch.inference_mode()
def codec_figures(codec: TinyCodec, stories: int = 48, seed: int = HELD_OUT) -> CodecFigures:
    """Measured on held-out stories of every kind."""
    device = codec.mean.device
    generator = torch.Generator(device).manual_seed(seed)
    clips, noisy, subjects, places, rough = [], [], [], [], []
    missed = whole = steep = drawn = torch.zeros((), device=device)
    for sampled in _batches(torch.arange(stories) + seed, device):
        large = sampled.pictures
        pictures = reduced(large, DETAIL)
        latents = codec.encode(pictures)
        decoded = codec.decode(latents)[0]
        for axis in (-1, -2):
            edge = large.diff(dim=axis)
            there = edge.abs() > _EDGE
            drawn = drawn + (edge.abs() * there).sum()
            steep = steep + (decoded.diff(dim=axis) * edge.sign() * there).sum()
        difference = reduced(decoded, DETAIL) - pictures
        error = difference.square()
        missed = missed + _inside(difference).square().sum()
        whole = whole + _inside(pictures).square().sum()
        clips.append(error.mean((1, 2, 3, 4)))
        places.append((error.mean((2, 3, 4)), sampled.truth.place[:, _frame_of_picture(sampled)]))
        shown = _subject_mask(sampled)
        subjects.append((error.mean(2) * shown).sum() / shown.sum())
        shaken = latents + 0.1 * torch.randn(latents.shape, generator=generator, device=device)
        noisy.append((reduced(codec.decode(shaken)[0], DETAIL) - pictures).square().mean((1, 2, 3, 4)))
        rough.append(roughness(latents.flatten(0, 1)))
    error, place = (torch.cat(part).flatten() for part in zip(*places, strict=True))
    each = psnr(torch.cat(clips))
    return CodecFigures(
        psnr=each.mean().item(), worst=each.min().item(),
        by_place=tuple(psnr(error[place == number].mean()).item() for number in range(6)),
        subject=psnr(torch.stack(subjects).mean()).item(), noisy=psnr(torch.cat(noisy)).mean().item(),
        roughness=torch.stack(rough).mean().item(), moving=1 - (missed / whole).item(),
        sharp=(steep / drawn).item(),
    )


def _inside(pictures: Tensor) -> Tensor:
    """Differences of neighbouring pictures of one latent frame: [story, frame, 3, 3, y, x]."""
    return pictures[:, 1:].unflatten(1, (-1, PICTURES)).diff(dim=2)


def _frame_of_picture(sampled: Stories) -> Tensor:
    return (torch.arange(sampled.truth.pan.shape[1], device=sampled.panoramas.device) + PICTURES - 1) // PICTURES


def _subject_mask(sampled: Stories) -> Tensor:
    """One inside the subject's box: [story, picture, y, x]."""
    left, top, right, bottom = sampled.truth.box[..., None, None].unbind(2)
    x = torch.arange(WIDTH, device=left.device)
    y = torch.arange(HEIGHT, device=left.device)[:, None]
    return ((x >= left) & (x < right) & (y >= top) & (y < bottom)).float()
