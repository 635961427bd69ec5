"""Teacher, distillation and steadying: the seed decides the losses, a run that was killed resumes as if nothing had
happened, and learning happens."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from echo_cli.training.distill import Distiller, DistillPlan
from echo_cli.training.lessons import Lesson
from echo_cli.training.loop import Budget, Progress, rate_at, run
from echo_cli.training.pool import Pool
from echo_cli.training.steady import Steadying, SteadyPlan, decided
from echo_cli.training.teacher import Pupil, Teacher, TeacherPlan

from .pupils import SMALL, small_pool

PLAN = TeacherPlan(batch=4, shards=1, first_shards=1)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory) -> Pool:
    return small_pool(tmp_path_factory.mktemp("pool"), stories=8)


def trained(
    pool: Pool, folder: Path, steps: int, until: int | None = None, seed: int = 1
) -> tuple[Teacher, list[float]]:
    teacher = Teacher(SMALL, PLAN, seed, pool, CPU)
    losses: list[float] = []
    done = run(
        "teacher",
        teacher.learner,
        teacher.advance,
        Budget(steps),
        folder,
        lambda p: losses.append(p.losses["loss"]),
        lambda: until is not None and teacher.learner.step >= until,
    )
    assert done is (until is None)
    return teacher, losses


def test_the_same_seed_gives_the_same_losses(pool, tmp_path):
    (_, one), (_, same), (_, other) = (
        trained(pool, tmp_path / name, 6, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert one == same and one != other


def test_a_killed_run_ends_like_an_unbroken_one(pool, tmp_path):
    whole, unbroken = trained(pool, tmp_path / "whole", 8)
    _, before = trained(pool, tmp_path / "broken", 8, until=3)
    resumed, after = trained(pool, tmp_path / "broken", 8)
    assert before + after == unbroken
    for name, value in whole.learner.average.items():
        assert torch.equal(value, resumed.learner.average[name]), name
    kept = (tmp_path / "broken" / "teacher.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in kept[1:]] == [str(step) for step in range(1, 9)]
    assert [row.split(",")[2] for row in kept] == [
        row.split(",")[2] for row in (tmp_path / "whole" / "teacher.csv").read_text().splitlines()
    ]


def test_losses_after_the_last_checkpoint_are_forgotten(pool, tmp_path):
    trained(pool, tmp_path, 8, until=4)
    with (tmp_path / "teacher.csv").open("a") as file:
        file.write("5,1.0,9.9\n")
    _, after = trained(pool, tmp_path, 8)
    assert len(after) == 4 and "9.9" not in (tmp_path / "teacher.csv").read_text()


def test_polishing_goes_on_from_what_was_taught_with_other_lessons(pool, tmp_path):
    taught = Pupil(SMALL)
    torch.nn.init.normal_(taught.transformer.head.head.weight, std=0.1)
    before = {name: value.clone() for name, value in taught.state_dict().items()}
    polishes = Teacher(SMALL, replace(PLAN, skipped=0.55, subject=10.0), 1, pool, CPU, taught=taught)
    assert all(torch.equal(value, before[name]) for name, value in polishes.learner.average.items())
    blocks = [int(polishes.advance(step, 0.0)["blocks"]) for step in range(12)]
    assert max(blocks) > 1  # whole films from the first step on
    assert not torch.equal(taught.state_dict()["transformer.head.head.weight"], before["transformer.head.head.weight"])


def test_the_subject_counts_more_where_the_noise_lets_it_be_seen(pool, tmp_path):
    teacher = Teacher(SMALL, replace(PLAN, subject=10.0), 1, pool, CPU)
    teacher.stock(0)
    lesson = teacher.lessons.draw(2, 4, torch.Generator().manual_seed(0))
    grid, cover = teacher.school.grid, lesson.truth["cover"].float()
    level = torch.tensor([1.0] * 3 + [0.4] * 3).view(1, 6, 1, 1, 1).expand(4, -1, -1, -1, -1)
    counts = teacher.importance(lesson, level).expand_as(lesson.latents)
    assert counts.mean() == pytest.approx(1, abs=1e-5)
    tokens = F.avg_pool2d(counts[:, :, 0], (grid.height // grid.rows, grid.width // grid.cols)).flatten(2)
    assert tokens[:, :3].std() < 1e-6  # pure noise shows no subject
    full, bare = tokens[:, 3:][cover[:, 3:] == cover[:, 3:].max()], tokens[:, 3:][cover[:, 3:] == 0]
    assert (full / bare.mean()).mean() == pytest.approx(1 + 10 * cover[:, 3:].max().item(), rel=1e-3)


def test_the_teacher_learns(pool, tmp_path):
    teacher = Teacher(SMALL, replace(PLAN, batch=8), 1, pool, CPU)
    losses = [teacher.advance(step, 0.0)["loss"].item() for step in range(40, 80)]  # warm already
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_gradients_reach_what_only_memory_reads(pool):
    teacher = Teacher(SMALL, PLAN, 1, pool, CPU)
    torch.nn.init.normal_(teacher.pupil.transformer.head.head.weight, std=0.1)
    teacher.stock(0)
    generator = torch.Generator().manual_seed(0)
    lesson = teacher.lessons.draw(3, 4, generator)
    loss, _ = teacher.loss(lesson, torch.full((4, 3), 0.8), generator)
    loss.backward()
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for p in teacher.pupil.transformer.blocks[0].self_attn.parameters()
        if p.dim() == 2
    )


def test_distillation_follows_from_the_seed_and_moves_the_student(pool):
    torch.manual_seed(0)
    taught = Pupil(SMALL)
    torch.nn.init.normal_(taught.transformer.head.head.weight, std=0.1)
    runs = [Distiller(SMALL, DistillPlan(batch=2, shards=1), 1, pool, taught, CPU) for _ in range(2)]
    first, second = (
        [one.advance(step, spent)["loss"].item() for step, spent in enumerate((0.0, 0.5, 0.9, 0.9))] for one in runs
    )
    assert first == second
    after = runs[0].pair.student.state_dict()
    assert any(not torch.equal(value, after[name]) for name, value in taught.state_dict().items())
    assert all(torch.equal(value, taught.state_dict()[name]) for name, value in runs[0].teacher.state_dict().items())


def test_the_critic_waits_while_the_student_imitates(pool):
    torch.manual_seed(0)
    taught = Pupil(SMALL)
    torch.nn.init.normal_(taught.transformer.head.head.weight, std=0.1)
    one = Distiller(SMALL, DistillPlan(batch=2, shards=1), 1, pool, taught, CPU)
    results = [set(one.advance(step, spent)) - {"loss", "blocks", "place"}
               for step, spent in enumerate((0.0, 0.21, 0.5, 0.5))]
    assert results == [{"imitation"}, {"critic"}, {"match", "critic"}, {"critic"}]
    fresh = Distiller(SMALL, DistillPlan(batch=2, shards=1), 1, pool, taught, CPU)
    fresh.advance(0, 0.0)
    assert all(torch.equal(value, taught.state_dict()[name]) for name, value in fresh.pair.critic.state_dict().items())
    assert any(
        not torch.equal(value, taught.state_dict()[name]) for name, value in fresh.pair.student.state_dict().items()
    )


def test_distillation_keeps_what_the_worlds_past_shows_of_a_place(pool):
    """Only beside the world's past: what the student made itself may be elsewhere."""
    torch.manual_seed(0)
    taught = Pupil(SMALL)
    torch.nn.init.normal_(taught.transformer.head.head.weight, std=0.1)
    one = Distiller(SMALL, DistillPlan(batch=4, shards=1), 1, pool, taught, CPU)
    lesson = one.lessons.draw(4, 2, torch.Generator().manual_seed(0))
    depths = lesson.truth["depths"][:, :1].expand_as(lesson.truth["depths"])
    still = replace(lesson, truth={**lesson.truth, "depths": depths, "cover": torch.zeros_like(lesson.truth["cover"])})

    def losses(of: Lesson, own: bool, teaches: bool) -> dict[str, torch.Tensor]:
        return one.converse(of, own, teaches, torch.Generator().manual_seed(1))

    assert losses(still, False, True)["place"] > 0
    assert "place" not in losses(still, True, True) and "place" not in losses(still, False, False)
    moving = still.truth["depths"].clone()
    moving[:, 0] = 1 - moving[:, 0]
    assert losses(replace(still, truth={**still.truth, "depths": moving}), False, True)["place"] == 0


def steadying(pool: Pool, rate: float = 0.002) -> Steadying:
    torch.manual_seed(0)
    student = Pupil(SMALL)
    torch.nn.init.normal_(student.transformer.head.head.weight, std=0.1)
    return Steadying(SMALL, SteadyPlan(batch=4, rate=rate, small_rate=rate / 10, shards=1), 1, pool, student, CPU)


def test_steadying_follows_from_the_seed_and_leaves_its_reference_alone(pool):
    one, two = steadying(pool), steadying(pool)
    untrained = {name: value.clone() for name, value in one.pupil.state_dict().items()}
    first, second = ([{name: value.item() for name, value in each.advance(step, 0.0).items()} for step in range(4)]
                     for each in (one, two))
    assert first == second
    assert first[0]["kept"] == 0 and first[0]["place"] == first[0]["place before"], "nothing has been learned yet"
    assert first[3]["kept"] > 0
    assert all(torch.equal(value, untrained[f"transformer.{name}"])
               for name, value in one.before.transformer.state_dict().items())


def test_steadying_draws_the_student_to_what_its_past_shows(pool):
    one = steadying(pool, rate=0.02)
    results = [one.advance(step, 0.0) for step in range(40, 80)]  # warm already
    assert sum(each["place"] for each in results[-10:]) < 0.9 * sum(each["place before"] for each in results[-10:])


def test_the_past_decides_behind_the_first_block_of_a_place_that_rests_and_away_from_the_subject(pool):
    one = steadying(pool)
    lesson = one.lessons.draw(3, 8, torch.Generator().manual_seed(0))
    grid = one.student.grid
    rest = {name: value[:, :1].expand_as(value) for name, value in lesson.truth.items() if name == "depths"}
    cover = torch.zeros_like(lesson.truth["cover"])
    cover[:, :, 0] = 1  # the subject fills the upper left token
    cover[1] = 0
    words, sight = lesson.words[:, :1].expand_as(lesson.words).clone(), torch.ones_like(lesson.sight)
    words[3, 2] = words[3, 2].roll(1) + 1  # a new subject
    sight[4, 2, 4] = False  # where the subject was is not seen
    still = replace(lesson, truth={**lesson.truth, **rest, "cover": cover}, words=words, sight=sight)

    def shown(of: Lesson, everywhere: bool) -> torch.Tensor:
        cells = decided(of, grid, everywhere)[:, :, 0]
        return F.avg_pool2d(cells, (grid.height // grid.rows, grid.width // grid.cols))  # [sequence, F, row, column]

    tokens = shown(still, True)
    assert tokens[:, :3].sum() == 0 and tokens[1, 3:].min() == 1
    assert tokens[0, 3:, :2, :2].sum() == 0 and tokens[0, 3:, 2:].min() == tokens[0, 3:, :, 2:].min() == 1
    for blind in (3, 4):
        assert torch.equal(tokens[blind, 3:6], tokens[0, 3:6]), "the block before is as the others"
        assert tokens[blind, 6:, :2].sum() == 0 and tokens[blind, 6:, 2:].min() == 1, "the subject may be anywhere"
    rows = shown(still, False)
    assert rows[0, 3:, :2].sum() == 0 and rows[0, 3:, 2:].min() == 1, "its rows, and those beside them, are left out"
    moved = still.truth["depths"].clone()
    moved[2, -1] = 1 - moved[2, -1]
    assert shown(replace(still, truth={**still.truth, "depths": moved}), True)[2].sum() == 0


def test_a_rolled_out_lesson_may_open_with_a_block_of_the_world(pool):
    one = steadying(pool)
    lesson = one.lessons.draw(3, 4, torch.Generator().manual_seed(0))
    made, inputs = one.sampler.rolled_out(lesson, torch.Generator().manual_seed(1), opened=True)
    own, _ = one.sampler.rolled_out(lesson, torch.Generator().manual_seed(1))
    assert torch.equal(made[:, :3], lesson.latents[:, :3]) and not torch.equal(own[:, :3], made[:, :3])
    assert not torch.allclose(own[:, 3:], made[:, 3:]), "its past is another"
    assert len(inputs) == len(one.sampler.sigmas) and all(each.shape == made.shape for each in inputs)


def test_a_budget_is_spent_by_steps_or_minutes():
    assert Budget(100).spent(50, 1e9) == 0.5
    assert Budget(100, minutes=1).spent(10, 30) == 0.5
    assert Budget(100, minutes=1).spent(10, 90) == 1.0
    rates = [rate_at(step, step / 1000) for step in range(1000)]
    assert rates[0] < rates[39] == 1.0 == rates[500] and rates[-1] <= 0.06


def test_progress_tells_every_step(pool, tmp_path):
    teacher = Teacher(SMALL, PLAN, 1, pool, CPU)
    results: list[Progress] = []
    run("teacher", teacher.learner, teacher.advance, Budget(3), tmp_path, results.append, lambda: False)
    assert [progress.step for progress in results] == [1, 2, 3]
    assert all("loss" in progress.losses for progress in results)
