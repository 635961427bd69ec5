"""The distillation stage: few steps that look like many, on memory of the student's own making.

First the student imitates the guided teacher at the levels of its few steps, so that guidance no longer costs anything.
Then distributions are matched: the student makes blocks by the few-step sampler; a frozen, guided teacher says where
noisy versions of them would go if they came from the world, a critic where they would go if they came from the student,
and the student moves along the difference. Part of the sequences are rolled out, so that the student learns from its
own past. Where the world's past decides what a block shows of its place, the student is drawn to just that: of what is
likely, distributions allow more than one, such as a second moon.
"""

import copy
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from echo_cli.rollout.sampling import schedule
from echo_cli.spec import ModelSpec
from echo_cli.training.attempts import Sampler, guess, spread
from echo_cli.training.draws import below, chance, dice_of, noise_like
from echo_cli.training.lessons import Lesson, Library
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.training.pool import Pool
from echo_cli.training.steady import decided, mean_where
from echo_cli.training.teacher import Pupil, pick, sequences
from echo_cli.training.teaching import Class


@dataclass(frozen=True)
class DistillPlan:
    """What decides the weights, beside the seed, the pool and the teacher."""

    batch: int = 16  # blocks in a step of single blocks
    rate: float = 0.003  # of the imitating student, and of the critic
    small_rate: float = 3e-4
    careful: float = 0.25  # the student's share of these rates once it follows the critic, which must keep up with it
    turns: int = 2  # steps of the critic for each of the student's
    rounds: int = 3
    ema: float = 0.99
    guidance: float = 2.5
    lowest: float = 0.1  # noise levels at which teacher and critic are asked
    highest: float = 0.95
    shards: int = 20
    imitation: float = 0.2  # share of the budget
    alone: float = 0.05  # share of the budget in which the critic learns and the student waits
    imitated: int = 2  # times the batch, while imitating: it costs half as much
    # how much more than scenery a place counts for which the prompt matters as much as it does on average
    prompted: float = 1.5
    hops: float = 0.25  # share of sequences drawn where the subject bounces
    place: float = 1.0  # weight of the squared error where the past decides what a block shows


# (share of the budget spent, {blocks in a sequence: chance}, share of longer sequences that are rolled out)
CURRICULUM: tuple[tuple[float, dict[int, float], float], ...] = (
    (0.0, {1: 0.5, 2: 0.2, 4: 0.3}, 0.0),
    (0.2, {1: 0.5, 2: 0.2, 4: 0.3}, 0.5),
    (0.7, {1: 0.4, 4: 0.4, 7: 0.2}, 0.7),
)


class Pair(torch.nn.Module):
    """Student and critic, which learn in turns and are stored together."""

    def __init__(self, taught: Pupil) -> None:
        super().__init__()
        self.student, self.critic = copy.deepcopy(taught), copy.deepcopy(taught)


class Distiller:
    """One step at a time: the student makes a lesson's blocks, then student and critic learn from them."""

    def __init__(self, spec: ModelSpec, plan: DistillPlan, seed: int, pool: Pool, taught: Pupil, device: torch.device,
                 dtype: torch.dtype = torch.float32) -> None:
        self.plan, self.seed, self.device, self.dtype, self.shift = plan, seed, device, dtype, spec.shift
        self.sigmas = schedule(spec.steps, spec.shift).sigmas
        self.pair = Pair(taught).to(device)
        self.teacher = copy.deepcopy(taught).to(device).requires_grad_(False)
        self.student, self.critic, self.guide = (Class(p.transformer, p.words)
                                                 for p in (self.pair.student, self.pair.critic, self.teacher))
        self.sampler = Sampler(self.student, self.sigmas)
        for pupil in (self.pair.student, self.pair.critic, self.teacher):
            pupil.truth.eval()  # it is not used here, so it need not keep features
        self.lessons = Library(device)
        for number in range(plan.shards):
            self.lessons.add(pool.shard(number))
        self.learner = Learner(self.pair, self._optimiser(), plan.ema)

    def _optimiser(self) -> Muon:
        plan, pair = self.plan, self.pair
        both = Muon(
            pair.student.parameters(),
            plan.rate,
            plan.small_rate,
            small=pair.student.small(),
            rounds=plan.rounds,
            dtype=self.dtype,
        )
        self._student_groups = len(both.param_groups)
        both.include(pair.critic.parameters(), plan.rate, plan.small_rate, small=pair.critic.small())
        return both

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        plan = self.plan
        dice = Random(f"distill {self.seed} {step}")
        generator = dice_of(self.device, self.seed, 2, step)
        mixture, rolled = next((mix, rolled) for start, mix, rolled in reversed(CURRICULUM) if spent >= start)
        blocks = pick(mixture, dice)
        imitates = spent < plan.imitation
        batch = plan.batch * plan.imitated if imitates else plan.batch
        lesson = self.lessons.draw(blocks, sequences(batch, blocks), generator, plan.hops)
        own = blocks > 1 and dice.random() < rolled
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            # The critic first learns the student's distribution, then they take turns.
            teaches = spent > plan.imitation + plan.alone and step % plan.turns == 0
            losses = self.imitate(lesson, generator) if imitates else self.converse(lesson, own, teaches, generator)
        loss = torch.stack(list(losses.values())).sum()
        for group in self.learner.optimiser.param_groups[:self._student_groups]:
            group["share"] = 1.0 if imitates else plan.careful
        self.learner.descend(loss, rate_at(step, spent))
        losses = {"loss": loss, **losses, "blocks": torch.tensor(float(blocks), device=self.device)}
        return {name: part.detach() for name, part in losses.items()}

    def imitate(self, lesson: Lesson, generator: torch.Generator) -> dict[str, Tensor]:
        """The student's velocity becomes the guided teacher's, at the levels of the few steps."""
        x0 = lesson.latents
        shape = (len(x0), lesson.blocks)
        step = below(len(self.sigmas), shape, generator)
        level = torch.tensor(self.sigmas, device=self.device)[step]
        noisy = noised(x0, level, generator)
        with torch.no_grad():
            world, counts = self.guided(lesson, x0, noisy, level)
        said = self.student.velocity(lesson, self.student.read(lesson.words), x0, noisy, 1000 * level)
        return {"imitation": ((said.float() - world).square() * counts).mean()}

    def converse(self, lesson: Lesson, own: bool, teaches: bool, generator: torch.Generator) -> dict[str, Tensor]:
        """The student makes the lesson's blocks; the critic learns from them, and the student when it is its turn."""
        made, inputs = (self.sampler.rolled_out(lesson, generator) if own
                        else self.sampler.beside(lesson, lesson.latents, generator))
        past = made if own else lesson.latents
        with torch.set_grad_enabled(teaches):
            noisy, level = self.sampler.one_step(lesson, inputs, generator)
            again = guess(self.student, lesson, past, noisy, level)
        losses = {"critic": self.criticise(lesson, again.detach(), past, generator)}
        if teaches:
            losses["match"] = self.match(lesson, again, past, generator)
            if self.plan.place and not own:
                shown = decided(lesson, self.student.grid, everywhere=True)
                losses["place"] = self.plan.place * mean_where((again - lesson.latents).square(), shown)
        return losses

    def match(self, lesson: Lesson, again: Tensor, past: Tensor, generator: torch.Generator) -> Tensor:
        """A loss whose gradient is the difference between the critic's and the guided teacher's scores."""
        with torch.no_grad():
            level = self.levels(lesson, generator)
            noisy = noised(again, level, generator)
            like = self.critic.velocity(lesson, self.critic.read(lesson.words), past, noisy, 1000 * level).float()
            world, counts = self.guided(lesson, past, noisy, level)
            real = noisy - spread(level) * world
            scale = blockwise((again - real).abs(), lesson.blocks).clamp(min=1e-3)
            apart = counts * spread(level) * (world - like) / scale  # x0 of the critic minus x0 of the teacher
        return 0.5 * (again - (again - apart).detach()).square().mean()

    def guided(self, lesson: Lesson, past: Tensor, noisy: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's velocity, pushed away from what it would say without a prompt; and what each place counts for,
        1 on average over a block: what the prompt names is small, and is what people look at."""
        asked, silent = (self.guide.velocity(lesson, self.guide.read(words), past, noisy, 1000 * level).float()
                         for words in (lesson.words, torch.zeros_like(lesson.words)))
        said = (asked - silent).square().mean(2, keepdim=True)
        counts = 1 + self.plan.prompted * (said / blockwise(said, lesson.blocks).clamp(min=1e-6)).clamp(max=4)
        return silent + self.plan.guidance * (asked - silent), counts / blockwise(counts, lesson.blocks)

    def criticise(self, lesson: Lesson, made: Tensor, past: Tensor, generator: torch.Generator) -> Tensor:
        """Flow matching on the student's blocks: the critic learns their distribution."""
        level = self.levels(lesson, generator)
        noise = noise_like(made, generator)
        noisy = (1 - spread(level)) * made + spread(level) * noise
        said = self.critic.velocity(lesson, self.critic.read(lesson.words), past, noisy, 1000 * level)
        return (said.float() - (noise - made)).square().mean()

    def levels(self, lesson: Lesson, generator: torch.Generator) -> Tensor:
        plan = self.plan
        share = chance((len(lesson.words), lesson.blocks), generator)
        return (self.shift * share / (1 + (self.shift - 1) * share)).clamp(plan.lowest, plan.highest)


def noised(x0: Tensor, level: Tensor, generator: torch.Generator) -> Tensor:
    return (1 - spread(level)) * x0 + spread(level) * noise_like(x0, generator)


def blockwise(value: Tensor, blocks: int) -> Tensor:
    """The mean over each block, repeated over the block."""
    return spread(value.unflatten(1, (blocks, -1)).mean((2, 3, 4, 5)))
