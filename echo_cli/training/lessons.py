"""What one training step looks at: sequences of blocks from the pool, and what each block may see of the ones before.

The rules of sight copy what memory policies show at inference: a full window, anchors and the latest block, a lone
recalled frame, a faded frame across a cut, positions that jump. Host integers and small tensors; no network is known
here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from echo_cli.training.pool import LENGTH
from echo_cli.world.stories import BLOCK

TRUTHS = ("seen", "shape", "colour", "motion", "cover", "velocity", "depths")
_CUT_JUMP = 45  # positions that the policy `echo-forcing` puts between a hard cut and what was before
_RECALL_JUMP = 6
_ANCHORS = 12  # frames
_CHANGED = 0.4  # share of sequences drawn around a change of prompt, the rarest and hardest thing to follow


@dataclass(frozen=True)
class Lesson:
    """A batch of sequences of n blocks, F = 3 n frames."""

    latents: Tensor  # [sequence, F, c, h, w]
    words: Tensor  # [sequence, n, TEXT_LENGTH]
    truth: dict[str, Tensor]  # [sequence, F, …]
    slots: Tensor  # [sequence, F] temporal positions
    sight: Tensor  # [sequence, n, F] whether a block sees a clean frame before it
    weight: Tensor  # [sequence, F] what a clean frame's key and value are scaled by
    fades: bool  # whether any weight is not 1

    @property
    def blocks(self) -> int:
        return self.words.shape[1]

    def to(self, device: torch.device) -> "Lesson":
        return Lesson(self.latents.to(device), self.words.to(device), {k: v.to(device) for k, v in self.truth.items()},
                      self.slots.to(device), self.sight.to(device), self.weight.to(device), self.fades)


class Library:
    """Shards held in memory, grown by the caller; draws lessons from them."""

    def __init__(self) -> None:
        self.shards: list[dict[str, Tensor]] = []
        self._starts: list[tuple[int, int, int]] = []  # (shard, story, block) where a scene may open
        self._first: list[tuple[int, int, int]] = []  # those among them that open a film
        self._changes: list[tuple[int, int, int]] = []  # where the prompt changes

    def add(self, shard: dict[str, Tensor]) -> None:
        # [story, block] the subject is all in the picture
        whole = shard["seen"].unflatten(1, (-1, BLOCK)).amin(-1) > 0.9
        found = [(len(self.shards), story, block) for story, block in whole.nonzero().tolist()]
        self._starts += found
        self._first += [start for start in found if start[2] == 0]
        opens = shard["segment"][:, ::BLOCK].diff(dim=1, prepend=shard["segment"][:, :1])
        self._changes += [(len(self.shards), story, block) for story, block in opens.nonzero().tolist()]
        self.shards.append(shard)

    def draw(self, blocks: int, batch: int, dice: Random) -> Lesson:
        """A lesson of sequences of `blocks` blocks; a lone block is drawn where a scene may open."""
        chosen = [self._start(blocks, dice) for _ in range(batch)]
        rows = [
            {
                name: tensor[story, block * BLOCK : (block + blocks) * BLOCK]
                for name, tensor in self.shards[shard].items()
                if name != "words"
            }
            for shard, story, block in chosen
        ]
        words = [self.shards[shard]["words"][story, row["segment"][::BLOCK].long()]
                 for (shard, story, _), row in zip(chosen, rows, strict=True)]
        sights = [look(row["segment"].tolist(), row["slot"].tolist(), dice) for row in rows]
        stacked = {name: torch.stack([row[name] for row in rows]) for name in ("latents", *TRUTHS)}
        return Lesson(latents=stacked.pop("latents").float(), words=torch.stack(words).long(), truth=stacked,
                      slots=torch.tensor([s.slots for s in sights]), sight=torch.stack([s.sight for s in sights]),
                      weight=torch.tensor([s.weight for s in sights]), fades=any(min(s.weight) < 1 for s in sights))

    def _start(self, blocks: int, dice: Random) -> tuple[int, int, int]:
        if blocks == 1:
            return dice.choice(self._first if dice.random() < 0.5 else self._starts)
        room = LENGTH // BLOCK - blocks
        if self._changes and dice.random() < _CHANGED:
            shard, story, block = dice.choice(self._changes)
            return shard, story, min(room, max(0, block - dice.randint(1, blocks - 1)))
        shard = dice.randrange(len(self.shards))
        story = dice.randrange(len(self.shards[shard]["latents"]))
        return shard, story, 0 if dice.random() < 0.5 else dice.randint(0, room)


@dataclass
class _Sight:
    slots: list[int]
    weight: list[float]
    sight: Tensor  # [block, frame]


def look(segments: list[int], places: list[int], dice: Random) -> _Sight:
    """Decide slots and sight for one sequence; `segments` and `places` name each frame's prompt and place."""
    frames = len(segments)
    blocks = frames // BLOCK
    slots, weight = list(range(frames)), [1.0] * frames
    sight = torch.zeros(blocks, frames, dtype=torch.bool)
    shown: list[int] = []  # frames from before this scene that it still sees, and until which block
    until = opened = 0
    thin = dice.choices(("all", "anchors", "lone"), (0.65, 0.2, 0.15))[0]
    lone = dice.randrange(BLOCK)
    for block in range(blocks):
        first = block * BLOCK
        if block and segments[first] != segments[first - 1]:
            shown, until, jump = _transition(segments, places, first, dice, weight)
            base = max((slots[frame] for frame in shown), default=-1) + 1 + jump
            slots[first:] = range(base, base + frames - first)
            opened = first
        own: Sequence[int] = range(opened, first)
        if thin == "anchors":
            own = [frame for frame in own if frame < opened + _ANCHORS // 2 or frame >= first - BLOCK]
        elif thin == "lone" and len(own) > 0:
            own = [opened + lone]
        sight[block, list(own)] = True
        if block < until:
            sight[block, shown] = True
    return _Sight(slots, weight, sight)


def _transition(segments: list[int], places: list[int], first: int, dice: Random,
                weight: list[float]) -> tuple[list[int], int, int]:
    """At a scene's first frame: the old frames it sees, until which block, and the jump. May fade a frame's weight."""
    block, before = first // BLOCK, range(first)
    if dice.random() < 0.15:  # the plainest memories forget nothing at a change of prompt
        return list(before), 1 << 30, 0
    if places[first] == places[first - 1]:  # smooth: one frame of the old scene and its last two
        return [dice.randrange(first - BLOCK, first), first - 2, first - 1], block + dice.choice((2, 5, 5)), 0
    seen = [frame for frame in before if places[frame] == places[first]]
    if seen:  # recall
        return [dice.choice(seen)], block + 5, dice.randint(0, _RECALL_JUMP)
    if dice.random() < 0.5:  # hard cut, with the old place faded for one block
        frame = dice.randrange(first)
        weight[frame] = dice.choice((0.8, 0.8, 0.5))
        return [frame], block + 1, _CUT_JUMP
    return [], 0, 0
