"""The teacher stage: the transformer learns the world by flow matching, from single blocks to whole windows.

x_t = (1 − σ) x0 + σ ε, velocity v = ε − x0, on blocks that see clean, slightly shaken copies of the blocks before them.
Prompts are sometimes empty, so that guidance has a reference to push away from.
"""

from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn

from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.models.transformer import Transformer
from echo_cli.rollout.sampling import schedule
from echo_cli.spec import ModelSpec
from echo_cli.training.draws import below, chance, dice_of, noise_like, shaken
from echo_cli.training.lessons import Lesson, Library
from echo_cli.training.loop import Learner, rate_at
from echo_cli.training.muon import Muon
from echo_cli.training.pool import Pool
from echo_cli.training.teaching import Class
from echo_cli.world.truth import TruthHead


@dataclass(frozen=True)
class TeacherPlan:
    """What decides the weights, beside the seed and the pool."""

    batch: int = 32  # blocks in a step of single blocks; fewer sequences if they are longer, at the same cost
    rate: float = 0.02
    small_rate: float = 2e-3
    rounds: int = 3  # of the optimiser's orthogonalisation: five would cost a third of a small step
    ema: float = 0.998
    truth: float = 0.15  # weight of the truth head's losses
    empty: float = 0.1  # share of sequences without a prompt
    shaken: float = 0.5  # share of sequences whose clean frames are noised a little
    shake: float = 0.2  # the most they are noised
    at_steps: float = 0.5  # share of noise levels that are exactly those of the few steps
    shards: int = 20  # in the pool when it has grown
    first_shards: int = 4
    shard_every: int = 40  # steps
    skipped: float = 0.0  # share of the curriculum that is skipped at the start
    subject: float = 0.0  # how much more than scenery a token counts that the subject fills
    hops: float = 0.0  # share of sequences drawn where the subject bounces


# (share of the budget spent, {blocks in a sequence: chance}): what is drawn from then on
CURRICULUM: tuple[tuple[float, dict[int, float]], ...] = (
    (0.0, {1: 1.0}),
    (0.45, {1: 0.5, 2: 0.5}),
    (0.55, {1: 0.4, 2: 0.15, 4: 0.3, 7: 0.15}),
)


class Pupil(nn.Module):
    """Everything that learns in this stage: transformer, words, and the head that is dropped afterwards."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.transformer = Transformer(spec)
        self.words = WordTextEncoder(spec.text_dim)
        self.truth = TruthHead(self.transformer)
        nn.init.normal_(self.words.words.weight, std=0.5)
        nn.init.zeros_(self.transformer.head.head.weight)
        nn.init.zeros_(self.transformer.head.head.bias)

    def small(self) -> list[nn.Parameter]:
        """Parameters for AdamW whatever their dimensions."""
        net = self.transformer
        apart = [self.words, self.truth, net.patch_embedding, net.text_embedding, net.time_embedding, net.head]
        modulations = [p for name, p in net.blocks.named_parameters() if name.endswith(".modulation")]
        return [p for module in apart for p in module.parameters()] + modulations


def optimiser(plan: TeacherPlan, pupil: Pupil, dtype: torch.dtype) -> Muon:
    return Muon(pupil.parameters(), plan.rate, plan.small_rate, small=pupil.small(), rounds=plan.rounds, dtype=dtype)


def pick(mixture: dict[int, float], dice: Random) -> int:
    return dice.choices(list(mixture), list(mixture.values()))[0]


def sequences(batch: int, blocks: int) -> int:
    """How many sequences of `blocks` cost about what `batch` single blocks cost."""
    return max(1, round(batch / (2 * blocks - 1) * (1.25 if blocks > 1 else 1)))


class Teacher:
    """One step at a time: `advance` draws a lesson and descends. Polishing starts from a pupil that was `taught`
    before."""

    def __init__(self, spec: ModelSpec, plan: TeacherPlan, seed: int, pool: Pool, device: torch.device,
                 dtype: torch.dtype = torch.float32, taught: Pupil | None = None) -> None:
        self.plan, self.seed, self.pool, self.device, self.dtype = plan, seed, pool, device, dtype
        torch.manual_seed(seed)
        self.pupil = (taught or Pupil(spec)).to(device).train()
        self.lessons = Library(device)
        self.school = Class(self.pupil.transformer, self.pupil.words)
        self.learner = Learner(self.pupil, optimiser(plan, self.pupil, dtype), plan.ema)
        self.sigmas = torch.tensor(schedule(spec.steps, spec.shift).sigmas, device=device)
        self.shift = spec.shift

    def stock(self, step: int) -> None:
        """The shards that this step may read, made if they are missing."""
        wanted = min(self.plan.shards, self.plan.first_shards + step // self.plan.shard_every)
        while self.lessons.shards < wanted:
            self.lessons.add(self.pool.shard(self.lessons.shards))

    def advance(self, step: int, spent: float) -> dict[str, Tensor]:
        plan = self.plan
        self.stock(step)
        dice = Random(f"{'polish' if plan.skipped else 'teacher'} {self.seed} {step}")
        generator = dice_of(self.device, self.seed, bool(plan.skipped), step)
        learned = plan.skipped + (1 - plan.skipped) * spent
        blocks = pick(next(mix for start, mix in reversed(CURRICULUM) if learned >= start), dice)
        lesson = self.lessons.draw(blocks, sequences(plan.batch, blocks), generator, plan.hops)
        sigma = self.levels(lesson, generator)
        loss, parts = self.loss(lesson, sigma, generator)
        self.learner.descend(loss, rate_at(step, spent))
        return {"loss": parts.pop("flow"), "blocks": torch.tensor(float(blocks), device=self.device), **parts}

    def levels(self, lesson: Lesson, generator: torch.Generator) -> Tensor:
        """A noise level for each block, spread evenly over the batch: [sequence, block]."""
        shape = (len(lesson.words), lesson.blocks)
        count = shape[0] * shape[1]
        even = torch.randperm(count, generator=generator, device=self.device).view(shape)
        share = (even + chance(shape, generator)) / count
        smooth = self.shift * share / (1 + (self.shift - 1) * share)
        exact = self.sigmas[below(len(self.sigmas), shape, generator)]
        return torch.where(chance(shape, generator) < self.plan.at_steps, exact, smooth)

    def loss(self, lesson: Lesson, sigma: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        plan, x0 = self.plan, lesson.latents
        clean = shaken(x0, plan.shake, generator, plan.shaken)
        spoken = chance((len(x0), 1, 1), generator) >= plan.empty
        noise = noise_like(x0, generator)
        level = sigma.repeat_interleave(x0.shape[1] // lesson.blocks, 1)[..., None, None, None]
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            text = self.school.read(lesson.words * spoken)
            said = self.school.velocity(lesson, text, clean, (1 - level) * x0 + level * noise, 1000 * sigma)
        counts = self.importance(lesson, level)
        flow = ((said.float() - (noise - x0)).square() * counts).mean()
        truths = self.pupil.truth(lesson.truth)
        parts = {"flow": flow.detach(), **{name: value.detach() for name, value in truths.items()}}
        return flow + plan.truth * self.pupil.truth.total(truths), parts

    def importance(self, lesson: Lesson, level: Tensor) -> Tensor:
        """The weight of each place of the latents, 1 on average: subjects are small, and are what people look at.

        Only as far as the noise shows where they are: extra weight where a subject might be would make it appear there
        too often.
        """
        grid = self.school.grid
        cover = lesson.truth["cover"].float().unflatten(-1, (grid.rows, grid.cols))
        cover = cover.repeat_interleave(grid.height // grid.rows, -2).repeat_interleave(grid.width // grid.cols, -1)
        counts = 1 + self.plan.subject * (2 - 2 * level).clamp(max=1) * cover.unsqueeze(2)
        return counts / counts.mean()
