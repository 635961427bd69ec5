"""Judges of pictures of the little world: which place, hour, subject, colour and motion a film shows.

They see only pictures, never prompts or ground truth, and are written by hand; `probe_accuracy` says how often they are
right about real clips, which limits what they can say about generated ones. Knows nothing of the transformer.
"""

from dataclasses import astuple, dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.words import PLACES, TIMES
from echo_cli.world.dice import uniform
from echo_cli.world.draw import WIDTH, reduced
from echo_cli.world.places import LAYOUT, paint_places
from echo_cli.world.stories import BOUNCE, HELD_OUT, LEFT, RIGHT, STILL, Stories, StoryKind, sample_stories
from echo_cli.world.subjects import COLOUR_VALUES, TINTS, distance

_STRIDE = 2  # every second picture is judged
_LAG = 2  # views, four pictures: motion is measured across latent frames, however a codec renders it inside one
_CLEARLY = 8  # the power of the overlap by which a view counts
_SEEN = 0.6  # overlap from which a subject counts as seen
_RADII = (19.0, 20.5, 22.0, 23.5)
_HALF = 2  # pixels of the picture for each of the mask's
_WINDOW = 36  # of the mask's pixels, side of the square in which a subject is fitted
_REACH = 3  # of the mask's pixels, how far a template is moved in it


@dataclass(frozen=True)
class Verdict:
    """What a film shows, by index into the tables of `tiny.words`; each [film]. `overlap` is how well the shape fits
    its outline."""

    place: Tensor
    time: Tensor
    colour: Tensor
    shape: Tensor
    overlap: Tensor
    motion: Tensor


def judge(pictures: Tensor) -> Verdict:
    """Films [film, picture, 3, y, x] in [0, 1], of at least three pictures, each in one place with one subject; films
    larger than the world are looked at from further away."""
    looked = reduced(pictures[:, ::_STRIDE], pictures.shape[-1] // WIDTH)
    films, views = looked.shape[:2]
    place, time = _where_and_when(looked)
    fitted = _fit(looked.flatten(0, 1), time.repeat_interleave(views))
    overlap, shape, spot = (part.unflatten(0, (films, views)) for part in fitted)  # [film, view, colour]
    # Views count by how clear an outline is in them: a subject may be out of sight, or half of it, in most of a film.
    colour = (overlap**_CLEARLY).sum(1).argmax(1)
    chosen = colour[:, None, None].expand(-1, views, 1)
    overlap, shape = overlap.gather(2, chosen)[..., 0], shape.gather(2, chosen)[..., 0]
    spot = spot.gather(2, chosen[..., None].expand(-1, -1, -1, 2))[:, :, 0]  # [film, view, 2]
    votes = F.one_hot(shape, 4) * overlap[..., None] ** _CLEARLY
    best = votes.sum(1).argmax(1)
    fits = torch.where(shape == best[:, None], overlap, 0.0)
    return Verdict(
        place, time, colour, best, fits.quantile(0.75, dim=1), _motion(spot, overlap > _SEEN, _camera(looked))
    )


def _bands(pictures: Tensor) -> Tensor:
    """The overall look of a place and hour: the median colour of each band of rows, [n, bands * 3]."""
    return pictures.unflatten(2, (-1, 8)).mean(3).median(-1).values.flatten(1)


@cache
def _portraits() -> tuple[Tensor, Tensor]:
    """Mean of each place at each hour [place * time, feature], and the whitening of their spread; from painted
    places."""
    layouts, kinds = 12, len(PLACES) * len(TIMES)
    kind = torch.arange(kinds).repeat_interleave(layouts)
    chance = uniform(torch.arange(len(kind)) + (1 << 40), 0, LAYOUT)
    bands = _bands(paint_places(kind // len(TIMES), kind % len(TIMES), chance, WIDTH)[0]).unflatten(0, (kinds, layouts))
    mean = bands.mean(1)
    spread = (bands - mean[:, None]).flatten(0, 1)
    covariance = spread.T @ spread / len(spread) + 4e-4 * torch.eye(spread.shape[1])
    return mean, torch.linalg.cholesky(covariance.inverse())


def _where_and_when(pictures: Tensor) -> tuple[Tensor, Tensor]:
    mean, whiten = (part.to(pictures.device) for part in _portraits())
    seen = _bands(pictures.median(1).values)
    kind = torch.cdist(seen @ whiten, mean @ whiten).argmin(1)
    return kind // len(TIMES), kind % len(TIMES)


def _masks(pictures: Tensor, time: Tensor) -> Tensor:
    """How much each pixel has each of the subjects' colours, in shade or light: [n, colour, y / 2, x / 2]."""
    pictures = F.avg_pool2d(pictures, _HALF)
    bright = pictures.amax(1, keepdim=True)
    hue = pictures / bright.clamp_min(0.05)
    values = pictures.new_tensor(COLOUR_VALUES) * pictures.new_tensor(TINTS)[time][:, None]  # [n, colour, 3]
    values = values / values.amax(2, keepdim=True)
    far = (hue[:, None] - values[..., None, None]).norm(dim=2)
    return ((0.27 - far) / 0.08).clamp(0, 1) * ((bright - 0.30) / 0.08).clamp(0, 1)


@cache
def _templates() -> Tensor:
    """Outlines of every shape at every radius in the middle of a window: [shape * radius, y, x]."""
    side = _WINDOW - 2 * _REACH
    at = (torch.arange(side) + 0.5 - side / 2) * _HALF
    shape = torch.arange(4).repeat_interleave(len(_RADII))
    radius = torch.tensor(_RADII).repeat(4)
    x, y = at.expand(len(shape), side, side), at[:, None].expand(len(shape), side, side)
    return (0.5 - distance(shape, x, y, radius) / _HALF).clamp(0, 1)


def _fit(pictures: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each picture and colour: an outline's best overlap with the mask, its shape, and its centre in pixels."""
    masks = _masks(pictures, time)
    count, colours, _rows, _columns = masks.shape
    device = pictures.device
    # Find a patch of the colour, as large as a subject and no larger.
    coarse = F.avg_pool2d(masks, 4).flatten(0, 1)[:, None]  # a cell is eight pixels
    y, x = torch.meshgrid(torch.arange(-4, 5, device=device), torch.arange(-4, 5, device=device), indexing="ij")
    reach = torch.hypot(x.float(), y.float())
    core, ring = (reach < 2).float(), ((reach > 3.4) & (reach < 4.3)).float()
    score = F.conv2d(coarse, (core / core.sum() - 0.6 * ring / ring.sum())[None, None], padding=4)[:, 0]
    peak = score.flatten(1).argmax(1)
    cy, cx = (peak // score.shape[2]) * 4 + 2, (peak % score.shape[2]) * 4 + 2  # in the mask's pixels
    half = _WINDOW // 2
    padded = F.pad(masks.flatten(0, 1), (half, half, half, half))
    each = torch.arange(count * colours, device=device)
    windows = padded.unfold(1, _WINDOW, 1).unfold(2, _WINDOW, 1)[each, cy, cx]  # centred on the peak
    outlines = _templates().to(device)
    shared = F.conv2d(windows[:, None], outlines[:, None])  # [n, template, shift, shift]
    whole = windows.sum((1, 2))[:, None, None, None] + outlines.sum((1, 2))[:, None, None] - shared
    best, place = (shared / whole).flatten(1).max(1)
    shifts = 2 * _REACH + 1
    template, shift = place // shifts**2, place % shifts**2
    dx, dy = shift % shifts - _REACH, shift // shifts - _REACH
    spot = torch.stack((cx + dx, cy + dy), 1).float() * _HALF
    return (best.unflatten(0, (count, colours)), (template // len(_RADII)).unflatten(0, (count, colours)),
            spot.unflatten(0, (count, colours)))


def _camera(pictures: Tensor) -> Tensor:
    """How far the camera moves to the right in each lag, in pixels: [film, view - _LAG]."""
    grey = pictures.mean(2)[:, :, 16:88]
    reach = _LAG * _STRIDE + 2
    shifts = range(-reach, reach + 1)
    inner = slice(reach, WIDTH - reach)
    unlike = [
        (grey[:, _LAG:, :, inner] - grey[:, :-_LAG, :, inner.start + s : inner.stop + s])
        .abs()
        .clamp_max(0.1)
        .mean((2, 3))
        for s in shifts
    ]
    return torch.stack(unlike, -1).argmin(-1) + shifts.start


def _motion(spot: Tensor, in_sight: Tensor, camera: Tensor) -> Tensor:
    """Left, right, bounce or still, from the subject's position in the views that show it."""
    x, y = spot.unbind(-1)
    both = in_sight[:, _LAG:] & in_sight[:, :-_LAG]
    step = (
        torch.where(both, (x[:, _LAG:] - x[:, :-_LAG] + camera) / (_LAG * _STRIDE), torch.nan)
        .nanmedian(1)
        .values.nan_to_num()
    )
    seen = torch.where(in_sight, y, torch.nan)
    height = (seen.nanquantile(0.95, dim=1) - seen.nanquantile(0.05, dim=1)).nan_to_num()
    sideways = torch.where(step < -1, LEFT, RIGHT)
    return torch.where(step.abs() > 1, sideways, torch.where(height > 8, BOUNCE, STILL))


@dataclass(frozen=True)
class ProbeAccuracy:
    """Shares of real clips about which the judges are right; `strict` asks for the right shape with an overlap above
    0.8."""

    place: float
    time: float
    colour: float
    shape: float
    strict: float
    motion: float


@torch.inference_mode()
def probe_accuracy(codec: TinyCodec | None, stories: int = 64, frames: int = 21) -> ProbeAccuracy:
    """How often the judges are right about held-out clips, after the codec or as drawn."""
    parts = []
    for seeds in (torch.arange(stories) + HELD_OUT).split(8):
        sampled = sample_stories(seeds, frames, StoryKind.HOLD)
        pictures = sampled.pictures
        parts.append(score(judge(pictures if codec is None else codec.decode(codec.encode(pictures))[0]), sampled))
    return ProbeAccuracy(*(sum(column) / len(parts) for column in zip(*map(astuple, parts), strict=True)))


def score(verdict: Verdict, sampled: Stories) -> ProbeAccuracy:
    """The verdicts on a batch of films against the stories' first prompts."""
    truth = sampled.truth

    def right(mine: Tensor, theirs: Tensor) -> float:
        return (mine == theirs[:, 0]).float().mean().item()

    strict = (verdict.shape == truth.shape[:, 0]) & (verdict.overlap > 0.8)
    return ProbeAccuracy(
        right(verdict.place, truth.place),
        right(verdict.time, truth.time),
        right(verdict.colour, truth.colour),
        right(verdict.shape, truth.shape),
        strict.float().mean().item(),
        right(verdict.motion, truth.motion),
    )
