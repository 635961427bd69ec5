"""What one training step looks at: sequences of blocks from the pool, and what each block may see of the ones before.

Views favour no memory. Each is drawn evenly from a family that is wider than what any memory shows at inference: any
frames of this and other scenes, one to eighteen of them, raw or folded into one another, whole or faded, where they
stood or anywhere before the block, across jumps of positions from none to the maximum, and encoded beside what their
block saw, beside something else, or under another prompt. So no policy is judged on a model that was trained on its own
view. Tensors on one device; no network is known here.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from echo_cli.training.draws import below, chance
from echo_cli.training.pool import LENGTH
from echo_cli.world.stories import BLOCK, BOUNCE

TRUTHS = ("seen", "shape", "colour", "motion", "cover", "velocity", "depths")
FOLDS = 4  # frames of a lesson that are made of others
_MOST = 18  # frames that a block sees: a window without the block
_FOLDED = 6  # most frames in a fold
_CHANGED = 0.4  # share of sequences drawn around a change of prompt, the rarest and hardest thing to follow
_REREAD = 0.15  # share of sequences whose frames are all encoded under the last prompt
_WHOLE = 0.9  # share of a subject in the picture from which on all of it counts as shown
_POSITIONS = 96  # over which lessons spread; the model's spec has as many


@dataclass(frozen=True)
class Lesson:
    """A batch of sequences of n blocks, F = 3 n clean frames, and of M frames that are folded from them."""

    latents: Tensor  # [sequence, F, c, h, w]
    words: Tensor  # [sequence, n, TEXT_LENGTH]
    truth: dict[str, Tensor]  # [sequence, F, …]
    slots: Tensor  # [sequence, F + M] temporal positions
    sight: Tensor  # [sequence, n, F + M] whether a block, while it is noisy, sees a frame of the past
    read: Tensor  # [sequence, n, F + M] whether it does while it is encoded
    under: Tensor  # [sequence, n] the block whose prompt it is encoded under
    folds: Tensor  # [sequence, M, F] how much of each frame's keys and values a fold holds

    @property
    def blocks(self) -> int:
        return self.words.shape[1]

    @property
    def frames(self) -> int:
        return self.latents.shape[1]


@dataclass(frozen=True)
class Views:
    """What the blocks of some sequences may see; the fields of a lesson by the same names."""

    slots: Tensor
    sight: Tensor
    read: Tensor
    under: Tensor
    folds: Tensor


class Library:
    """Shards held in memory on one device, grown by the caller; draws lessons from them."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.shards = 0
        self.held: dict[str, Tensor] = {}  # [story, …]
        self._starts = self._changes = self._hops = torch.empty(0, 2, dtype=torch.long, device=device)  # story, block

    def add(self, shard: dict[str, Tensor]) -> None:
        here = {name: tensor.to(self.device) for name, tensor in shard.items()}
        self.held = {name: torch.cat((self.held[name], tensor)) for name, tensor in here.items()} if self.held else here
        self.shards += 1
        shows = whole(self.held["seen"])
        self._starts = shows.nonzero()
        segments = self.held["segment"][:, ::BLOCK]
        self._changes = segments.diff(dim=1, prepend=segments[:, :1]).nonzero()
        self._hops = (shows & (self.held["motion"][:, ::BLOCK] == BOUNCE)).nonzero()

    def draw(self, blocks: int, batch: int, generator: torch.Generator, hops: float = 0.0) -> Lesson:
        """A lesson of sequences of `blocks` blocks; a lone block is drawn where a scene may open. A share of `hops` is
        drawn where the subject bounces, the hardest motion. The generator belongs to the library's device."""
        start = self._start(blocks, batch, generator)
        if hops and len(self._hops):
            hop = self._hops[below(len(self._hops), (batch,), generator)]
            hop[:, 1] = (hop[:, 1] - below(blocks, (batch,), generator)).clamp(0, LENGTH // BLOCK - blocks)
            start = torch.where(chance((batch,), generator)[:, None] < hops, hop, start)
        story, block = start.unbind(1)
        frames = block[:, None] * BLOCK + torch.arange(blocks * BLOCK, device=self.device)
        rows = {name: self.held[name][story[:, None], frames] for name in ("latents", "segment", *TRUTHS)}
        words = self.held["words"][story[:, None], rows.pop("segment")[:, ::BLOCK].long()]
        views = draw_views(blocks, batch, generator)
        return Lesson(latents=rows.pop("latents").float(), words=words.long(), truth=rows,
                      **{field.name: getattr(views, field.name) for field in fields(views)})

    def _start(self, blocks: int, batch: int, generator: torch.Generator) -> Tensor:
        """Story and first block of each sequence: [sequence, 2]."""
        stories, room = len(self.held["latents"]), LENGTH // BLOCK - blocks
        plain = torch.stack((below(stories, (batch,), generator), below(room + 1, (batch,), generator)), 1)
        opens = chance((batch,), generator) < 0.5
        if blocks == 1:
            some = self._starts[below(len(self._starts), (batch,), generator)]
            first = self._starts[self._starts[:, 1] == 0]
            return torch.where(opens[:, None], first[below(len(first), (batch,), generator)], some)
        plain[:, 1] = torch.where(opens, 0, plain[:, 1])
        if not len(self._changes):
            return plain
        change = self._changes[below(len(self._changes), (batch,), generator)]
        change[:, 1] = (change[:, 1] - 1 - below(blocks - 1, (batch,), generator)).clamp(0, room)
        return torch.where(chance((batch,), generator)[:, None] < _CHANGED, change, plain)


def whole(seen: Tensor) -> Tensor:
    """Which blocks show all of their subject [sequence, block], by the share of it that each frame shows."""
    return seen.unflatten(1, (-1, BLOCK)).amin(-1) > _WHOLE


def draw_views(blocks: int, batch: int, generator: torch.Generator) -> Views:
    """A view for each of `batch` sequences, on the generator's device."""
    frames, device = blocks * BLOCK, generator.device
    folded = FOLDS if blocks > 1 else 0
    born = 1 + below(max(1, blocks - 1), (batch, folded), generator)  # the first block that may see a fold
    own = _slots(blocks, batch, generator)
    place = (chance((batch, folded), generator) * own.gather(1, born * BLOCK)).long()  # anywhere before that block
    sight, other = (_sight(blocks, born, fewest, generator) for fewest in (1, 0))
    same = (chance((batch, 1, 1), generator) < 0.5) | (torch.arange(blocks, device=device)[:, None] == 0)
    under = torch.arange(blocks, device=device).expand(batch, -1)
    last = chance((batch, 1), generator) < _REREAD
    return Views(torch.cat((own, place), 1), sight, torch.where(same, sight, other),
                 torch.where(last, blocks - 1, under), _folds(born, frames, generator))


def _slots(blocks: int, batch: int, generator: torch.Generator) -> Tensor:
    """Positions of frames that follow one another, but for jumps between some blocks: [sequence, frame]."""
    jumps = chance((batch, blocks), generator) < chance((batch, 1), generator)
    jumps[:, 0] = False
    share = jumps * chance((batch, blocks), generator)
    slack = chance((batch, 1), generator) * (_POSITIONS - blocks * BLOCK)
    leap = (share / share.sum(1, keepdim=True).clamp(min=1e-6) * slack).long().cumsum(1)
    return torch.arange(blocks * BLOCK, device=generator.device) + leap.repeat_interleave(BLOCK, 1)


def _sight(blocks: int, born: Tensor, fewest: int, generator: torch.Generator) -> Tensor:
    """What each block sees: some of the latest frames without a gap, some others, and some folds; `fewest` at least,
    where anything is. [sequence, block, frame and fold]"""
    batch, frames = len(born), blocks * BLOCK
    block = torch.arange(blocks, device=born.device)
    folds = (born[:, None] <= block[:, None]) & (
        chance((batch, blocks, born.shape[1]), generator) < chance((batch, 1, 1), generator)
    )
    shown = folds.sum(2)
    least = (fewest - shown).clamp(min=0)
    most = torch.minimum(block * BLOCK, _MOST - shown)
    count = least + (chance((batch, blocks), generator) * (most - least + 1)).long()
    recent = (chance((batch, blocks), generator) * (count + 1)).long()
    frame, first = torch.arange(frames, device=born.device), (block * BLOCK)[:, None]
    earlier = frame < first
    liked = chance((batch, blocks, frames), generator) + (frame >= first - recent[..., None]).float()
    rank = liked.masked_fill(~earlier, -1).argsort(-1, descending=True).argsort(-1)
    return torch.cat(((rank < count[..., None]) & earlier, folds), 2)


def _folds(born: Tensor, frames: int, generator: torch.Generator) -> Tensor:
    """What each fold is made of: shares of frames from before it is born, which sum to its weight. Every second is
    whole."""
    shape = (*born.shape, frames)
    earlier = torch.arange(frames, device=born.device) < born[..., None] * BLOCK
    count = 1 + (chance(born.shape, generator) * (born * BLOCK).clamp(max=_FOLDED)).long()
    rank = chance(shape, generator).masked_fill(~earlier, -1).argsort(-1, descending=True).argsort(-1)
    share = (rank < count[..., None]) * (0.05 + chance(shape, generator))
    weight = torch.where(chance(born.shape, generator) < 0.5, 1.0, chance(born.shape, generator))
    return share / share.sum(-1, keepdim=True) * weight[..., None]
