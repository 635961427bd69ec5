"""The memory stage: lessons are what inference does, the seed decides them, and queries learn while the transformer
stays."""

import itertools
from pathlib import Path
from random import Random

import pytest
import torch

from echo_cli.bench.scenarios import SCENARIOS
from echo_cli.memory.store import KVStore
from echo_cli.models.backend import Backend
from echo_cli.rope import RopeTable
from echo_cli.training.loop import Budget, run
from echo_cli.training.remember import Film, MemoryPlan, Plot, Remembering, figures, order, plot
from echo_cli.world.stories import StoryKind

from .pupils import SMALL, Squares, small_backend

PLAN = MemoryPlan(queries=3, batch=2, lessons=2)
RETURN = Plot(StoryKind.RETURN, ((0, 7), (1, 3), (0, 2)))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backend() -> Backend:
    return small_backend(0, Squares())


def stage(backend: Backend, plan: MemoryPlan = PLAN, seed: int = 1) -> Remembering:
    return Remembering(plan, seed, backend, CPU)


@pytest.fixture(scope="module")
def both(backend: Backend) -> tuple[Remembering, dict[bool, Film]]:
    """A film of the model's own and a clip, with the windows that the policy showed while they were made."""
    one, generator = stage(backend), torch.Generator().manual_seed(0)
    return one, {clip: one.film(0, RETURN, clip, generator) for clip in (False, True)}


def test_plots_leave_and_come_back_in_orders_that_the_benchmark_does_not_have() -> None:
    plots = [plot(Random(number)) for number in range(300)]
    returns = [each for each in plots if each.kind is StoryKind.RETURN]
    assert 150 < len(returns) < 270 and all(len(each.places) <= 16 for each in plots)
    filmed = {order([place for place, _ in itertools.groupby(act.place for act in scenario.acts)])
              for scenario in SCENARIOS.values()}
    orders = {order([place for place, _ in each.visits]) for each in returns}
    assert not orders & filmed and len(orders) > 12
    assert all(each.places[-1] in each.places[:-1] for each in returns)
    # Whichever place opens a film, anchors hold it: mostly another one comes back, which queries alone can know.
    assert sum(each.places[0] != each.places[-1] for each in returns) > len(returns) / 3
    assert {StoryKind.PAN, StoryKind.LEAVE, StoryKind.HOLD} < {each.kind for each in plots}


def test_every_place_is_told_by_its_own_prompt(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A place that opens elsewhere has a prompt of its own, and so has the story's first place when it comes back."""
    one, said = stage(backend), []
    monkeypatch.setattr(one, "remember", lambda step, prompts, *rest: said.extend(prompts))
    one.film(0, Plot(StoryKind.RETURN, ((2, 3), (0, 3), (1, 4), (0, 2), (2, 1))), False, torch.Generator())
    places = [prompts[0] for prompts in said]
    assert [places.index(prompt) for prompt in places] == [0, 0, 0, 3, 3, 3, 6, 6, 6, 6, 10, 10, 0]


@pytest.mark.parametrize("clip", [False, True])
def test_lessons_absorb_again_what_the_policy_absorbed(both, clip: bool) -> None:
    """The chain of updates that gets gradients ends in the state that the policy had, to rounding."""
    one, films = both
    film = films[clip]
    assert film.held[:film.first_left() + 1] == [None] * (film.first_left() + 1)
    for block in (film.first_left() + 1, len(film.rows) - 1):
        with torch.no_grad():
            for mine, theirs in zip(one.again(film, block), film.held[block], strict=True):
                torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


def test_lessons_show_the_window_that_the_policy_shows(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    prepare = KVStore.prepare

    def prepared(store, layout):
        context = prepare(store, layout)
        shown.append(
            (
                context.keys[:, :, : context.past].clone(),
                context.values[:, :, : context.past].clone(),
                context.query_rotation,
            )
        )
        return context

    monkeypatch.setattr(KVStore, "prepare", prepared)
    one = stage(backend)
    film = one.film(0, RETURN, False, torch.Generator().manual_seed(0))
    keys, values, rotation = shown[-1]
    context = one.context(film, len(film.rows) - 1, *film.held[-1])
    assert context.past == keys.shape[2] and torch.equal(context.query_rotation, rotation)
    for layer in range(SMALL.depth):
        torch.testing.assert_close(context.keys[layer][:, :context.past], keys[layer])
        torch.testing.assert_close(context.values[layer][:, :context.past], values[layer])


def test_what_is_worth_keeping_has_left_and_is_of_the_place(both) -> None:
    one, films = both
    film = films[False]
    last = len(film.rows) - 1
    keys, _ = one.worth_keeping(film, last)
    assert keys.shape[2] == PLAN.queries
    gone = [frame for frame in range(film.anchors, film.recent[last][0]) if film.places[frame // 3] == 0]
    assert all(any(torch.equal(keys[:, :, at], film.keys[:, :, frame]) for frame in gone) for at in range(PLAN.queries))
    in_between = one.worth_keeping(film, 8)[0]  # the second place, of which nothing has left yet
    assert in_between.shape[2] == 0
    nearest = one.worth_keeping(films[True], last)[0]
    assert nearest.shape[2] == PLAN.queries


def test_training_uses_no_position_beyond_the_window(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    ends = []
    frames = RopeTable.frames

    def counted(table, first: int, count: int):
        ends.append(first + count)
        return frames(table, first, count)

    monkeypatch.setattr(RopeTable, "frames", counted)
    one, wide = stage(backend), Plot(StoryKind.RETURN, ((0, 7), (1, 3), (0, 2)), recent=99)
    film = one.film(0, wide, False, torch.Generator().manual_seed(0))
    one.lesson(film, 11, Random(0), torch.Generator().manual_seed(0), True)
    assert max(ends) == SMALL.window
    for step in range(2):
        one.advance(step, 0.5)
    assert max(ends) == SMALL.window


def trained(
    backend: Backend, folder: Path, steps: int, until: int | None = None, seed: int = 1
) -> tuple[Remembering, list[float]]:
    one = stage(backend, seed=seed)
    results: list[float] = []
    assert run("memory", one.learner, one.advance, Budget(steps), folder, lambda p: results.append(p.losses["loss"]),
               lambda: until is not None and one.learner.step >= until) is (until is None)
    return one, results


def test_a_killed_run_ends_like_an_unbroken_one_and_another_seed_differs(backend: Backend, tmp_path: Path) -> None:
    whole, unbroken = trained(backend, tmp_path / "whole", 2)
    _, before = trained(backend, tmp_path / "broken", 2, until=1)
    resumed, after = trained(backend, tmp_path / "broken", 2)
    assert before + after == unbroken
    assert all(torch.equal(value, resumed.learner.average[name]) for name, value in whole.learner.average.items())
    assert trained(backend, tmp_path / "other", 2, until=1, seed=2)[1] != before
    said = figures(tmp_path / "whole" / "memory.csv")
    assert set(said) == {"with memory", "without memory", "share told"} and said["with memory"] > 0


def test_queries_learn_and_nothing_else_does(backend: Backend) -> None:
    one = stage(backend, MemoryPlan(queries=3, batch=3, bare=0.0, through=10))
    film = one.film(0, RETURN, True, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in backend.transformer.state_dict().items()}

    def loss() -> float:
        with torch.no_grad():
            parts = [
                one.lesson(film, 11, Random(0), torch.Generator().manual_seed(number), False)[1]["loss"]
                for number in range(4)
            ]
        return torch.stack(parts).mean().item()

    untrained = loss()
    for number in range(12):
        lesson, _ = one.lesson(film, 11, Random(0), torch.Generator().manual_seed(100 + number), False)
        one.learner.descend(lesson, 3.0)
    assert loss() < 0.9 * untrained
    assert all(torch.equal(value, before[name]) for name, value in backend.transformer.state_dict().items())


def test_the_initial_state_learns_by_itself(backend: Backend) -> None:
    one = stage(backend, MemoryPlan(queries=3, batch=2, bare=1.0))
    film = one.film(0, RETURN, False, torch.Generator().manual_seed(0))
    loss, _ = one.lesson(film, 11, Random(0), torch.Generator().manual_seed(0), False)
    loss.backward()
    moved = {name for name, p in one.queries.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {"keys", "values"}
