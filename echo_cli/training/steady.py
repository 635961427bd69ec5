"""The steadying stage: what memory shows of a place stays where it is.

Distillation matches distributions, so a student may draw a second moon where one would be likely, though its past shows
where the moon is. Where a lesson stays in one place and no subject is near, the past decides what a block must show:
there the student's x0 is drawn to the world's. Everywhere else, subjects above all, it is held to what it was before: a
squared error would soften them. The past is the world's, shaken a little, or the student's own behind a first block of
the world.
"""

import copy
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor
from torch.nn import functional as F

from echo_cli.rollout.sampling import schedule
from echo_cli.spec import Grid, ModelSpec
from echo_cli.training.attempts import Sampler, guess
from echo_cli.training.draws import dice_of, shaken
from echo_cli.training.lessons import Lesson, Library
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.training.pool import Pool
from echo_cli.training.teacher import Pupil, pick, sequences
from echo_cli.training.teaching import Class
from echo_cli.world.stories import BLOCK

_LENGTHS = {2: 0.3, 4: 0.5, 6: 0.2}  # blocks in a sequence: chance
_MOVES = 0.02  # how much of a token's depths changes where the camera moves, or cuts


@dataclass(frozen=True)
class SteadyPlan:
    """What decides the weights, beside the seed, the pool and the student."""

    batch: int = 12  # as the teacher's
    rate: float = 0.001
    small_rate: float = 1e-4
    rounds: int = 3
    ema: float = 0.995
    hops: float = 0.3  # share of sequences drawn where the subject bounces
    kept: float = 2.0  # weight of the loss where the student is held to what it was
    rolled: float = 0.5  # share of the steps on the student's own past
    shaken: float = 0.5  # share of the other sequences whose past is noised a little
    shake: float = 0.2  # the most it is noised
    shards: int = 20


class Steadying:
    """One step at a time: the student makes a lesson's blocks and learns from what they should have kept."""

    def __init__(self, spec: ModelSpec, plan: SteadyPlan, seed: int, pool: Pool, distilled: Pupil,
                 device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.plan, self.seed, self.device, self.dtype = plan, seed, device, dtype
        self.pupil = distilled.to(device)
        before = copy.deepcopy(self.pupil).requires_grad_(False)
        for each in (self.pupil, before):
            each.truth.eval()  # it is not used here, so it need not keep features
        self.student, self.before = (Class(each.transformer, each.words) for each in (self.pupil, before))
        self.sampler = Sampler(self.student, schedule(spec.steps, spec.shift).sigmas)
        self.lessons = Library(device)
        for number in range(plan.shards):
            self.lessons.add(pool.shard(number))
        optimiser = Muon(self.pupil.parameters(), plan.rate, plan.small_rate, small=self.pupil.small(),
                         rounds=plan.rounds, dtype=dtype)
        self.learner = Learner(self.pupil, optimiser, plan.ema)

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        dice, generator = Random(f"steady {self.seed} {step}"), dice_of(self.device, self.seed, 7, step)
        blocks = pick(_LENGTHS, dice)
        lesson = self.lessons.draw(blocks, max(2, sequences(self.plan.batch, blocks)), generator, self.plan.hops)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            losses = self.losses(lesson, dice.random() < self.plan.rolled, generator)
        loss = losses["place"] + self.plan.kept * losses["kept"]
        self.learner.descend(loss, rate_at(step, spent))
        losses = {"loss": loss, **losses, "blocks": torch.tensor(float(blocks), device=self.device)}
        return {name: part.detach() for name, part in losses.items()}

    def losses(self, lesson: Lesson, own: bool, generator: torch.Generator) -> dict[str, Tensor]:
        """How far the student is from the world where its past shows it, how far it was before this stage, and how far
        it has moved elsewhere."""
        if own:
            past, inputs = self.sampler.rolled_out(lesson, generator, opened=True)
        else:
            past = shaken(lesson.latents, self.plan.shake, generator, self.plan.shaken)
            _, inputs = self.sampler.beside(lesson, past, generator)
        noisy, level = self.sampler.one_step(lesson, inputs, generator)
        here = guess(self.student, lesson, past, noisy, level)
        with torch.no_grad():
            before = guess(self.before, lesson, past, noisy, level)
        shown = decided(lesson, self.student.grid, everywhere=not own)
        rest = 1 - shown
        if own:
            rest[:, :BLOCK] = 0  # the world's: it was not sampled
        error, error_before = ((guessed - lesson.latents).square() for guessed in (here, before))
        return {"place": mean_where(error, shown), "place before": mean_where(error_before, shown),
                "kept": mean_where((here - before).square(), rest)}


def decided(lesson: Lesson, grid: Grid, everywhere: bool) -> Tensor:
    """One where the past decides what a frame shows, else zero [sequence, F, 1, h, w]: behind the first block of a
    sequence that stays in one place under a camera that rests, away from the subject. Unless `everywhere`, only in rows
    that the subject never comes near, since a student's own may be elsewhere in its rows than the world's; so too in a
    block that does not see where its subject was, or has a new one."""
    depths = lesson.truth["depths"].float()
    rests = (depths - depths[:, :1]).abs().flatten(1).amax(1) < _MOVES
    near = F.max_pool2d(lesson.truth["cover"].float().unflatten(-1, (grid.rows, grid.cols)), 3, 1, 1) > 0
    rows = near.any(3, keepdim=True).any(1, keepdim=True)
    known = _known(lesson) if everywhere else torch.zeros_like(near[:, :, 0, 0])
    away = torch.where(known[..., None, None], ~near, ~rows) & rests[:, None, None, None]
    away[:, :BLOCK] = False
    return _cells(away, grid)


def _known(lesson: Lesson) -> Tensor:
    """Whether the block of a frame sees the frames right before it, and they were made for the same prompt
    [sequence, F]."""
    block = torch.arange(1, lesson.blocks, device=lesson.words.device)
    latest = torch.stack((block * BLOCK - 1, block * BLOCK - 2), 1)  # the last two frames of the block before
    sees = lesson.sight[:, 1:].gather(2, latest.expand(len(lesson.sight), -1, -1)).all(2)
    same = (lesson.words[:, 1:] == lesson.words[:, :-1]).all(2)
    return F.pad(sees & same, (1, 0)).repeat_interleave(BLOCK, 1)


def _cells(tokens: Tensor, grid: Grid) -> Tensor:
    cells = tokens.repeat_interleave(grid.height // grid.rows, -2).repeat_interleave(grid.width // grid.cols, -1)
    return cells.unsqueeze(2).float()


def mean_where(error: Tensor, where: Tensor) -> Tensor:
    return (error * where).sum() / (where.sum() * error.shape[2]).clamp(min=1)
