"""What must be true of any rollout: cached equals uncached, keyed noise, gradients through memory."""

import pytest
import torch
from torch import Tensor

from echo_cli.memory.store import KVStore
from echo_cli.memory.table import POLICIES
from echo_cli.rollout.rollout import rollout
from echo_cli.rollout.sampling import schedule
from echo_cli.rope import RopeTable, rotate
from echo_cli.runtime import KeyedNoise
from echo_cli.storyboard.nouns import Kind
from tests.small import GRID, SHORT, SPEC, model, policy_for, prompts_for, run, story


class Recomputed:
    """A context without a cache: keeps every block's raw tokens and rotates the window in every layer and pass."""

    def __init__(self, blocks: list[list[tuple[Tensor, Tensor]]]) -> None:
        self.blocks, self.fresh = blocks, []
        self.rope = RopeTable(SPEC, GRID)

    def extend(self, layer: int, query: Tensor, key: Tensor, value: Tensor):
        if layer == 0:
            self.fresh = []
        self.fresh.append((key, value))
        past = [block[layer] for block in self.blocks[-6:]]
        keys = torch.cat([k for k, _ in past] + [key], 1)
        values = torch.cat([v for _, v in past] + [value], 1)
        frames = keys.shape[1] // GRID.tokens
        return (rotate(query, self.rope.frames(frames - 3, 3)), rotate(keys, self.rope.frames(0, frames)), values, None)


def test_cached_equals_uncached() -> None:
    timeline, transformer = story([(None, None, 10)]), model()
    noise, rows = KeyedNoise(1, timeline.scenes), prompts_for(timeline)
    levels, text, blocks = schedule(SPEC.steps, SPEC.shift), transformer.read(rows[0]), []
    for result in rollout(timeline, transformer, rows, policy_for("window", timeline), noise, GRID):
        context, shape = Recomputed(blocks), result.latents.shape
        noisy = noise(result.block, 0, shape)
        for step, (sigma, time) in enumerate(zip(levels.sigmas, levels.times, strict=True)):
            clean = noisy - sigma * transformer(noisy, torch.full(shape[:2], time), text, context)
            if step < 3:
                noisy = (1 - levels.sigmas[step + 1]) * clean + levels.sigmas[step + 1] * noise(
                    result.block, step + 1, shape
                )
        transformer(clean, torch.zeros(shape[:2]), text, context)
        blocks.append(context.fresh)
        torch.testing.assert_close(result.latents, clean, atol=2e-5, rtol=1e-4)


def test_noise_levels_are_the_released_ones() -> None:
    assert schedule((1000, 750, 500, 250), 5.0).times == pytest.approx((1000, 937.5, 833.3333, 625), abs=1e-4)


def order_free(noise_of) -> bool:
    """Whether a block's noise is the same whatever was drawn before it."""
    timeline = story()
    shape = (1, 3, 4, 4, 6)
    forward = noise_of(timeline)
    drawn = {(block.index, step): forward(block, step, shape) for block in timeline.blocks for step in range(4)}
    backward = noise_of(timeline)
    return all(torch.equal(backward(block, step, shape), drawn[block.index, step])
               for block in reversed(timeline.blocks) for step in (3, 1, 0, 2))


def test_noise_is_keyed_not_drawn_in_turn() -> None:
    assert order_free(lambda timeline: KeyedNoise(7, timeline.scenes))

    def in_turn(timeline):
        generator = torch.Generator().manual_seed(7)
        return lambda block, step, shape: torch.randn(shape, generator=generator)

    assert not order_free(in_turn)  # the mistake that the property is there to catch


def test_noise_tells_seeds_scenes_blocks_and_steps_apart() -> None:
    timeline = story()
    noise, shape = KeyedNoise(7, timeline.scenes), (1, 1, 1, 2, 2)
    first, second, other = timeline.blocks[0], timeline.blocks[1], timeline.blocks[9]
    draws = [noise(first, 0, shape), noise(first, 1, shape), noise(second, 0, shape), noise(other, 0, shape),
             KeyedNoise(8, timeline.scenes)(first, 0, shape)]
    assert len({tuple(draw.flatten().tolist()) for draw in draws}) == 5


def test_editing_one_scene_leaves_the_noise_of_the_others_alone() -> None:
    short, long = story([(None, None, 2), (Kind.HARD_CUT, None, 2)]), story([(None, None, 5), (Kind.HARD_CUT, None, 2)])
    draw = [KeyedNoise(7, line.scenes)(line.blocks[index], 2, (3,)) for line, index in ((short, 2), (long, 5))]
    assert torch.equal(*draw)


@pytest.mark.parametrize("name", ["window", "sink", "flush", "recache", "echo-forcing"])
def test_gradients_change_no_number_and_flow_through_memory(name: str) -> None:
    timeline = story([(None, None, 8), (Kind.SMOOTH, None, 2)])
    plain = run(name, timeline)
    transformer = model().requires_grad_(True)
    rows = [row.requires_grad_(True) for row in prompts_for(timeline)]
    policy = policy_for(name, timeline)
    results = list(rollout(timeline, transformer, rows, policy, KeyedNoise(1, timeline.scenes), GRID))
    for without, with_gradients in zip(plain, results, strict=True):
        torch.testing.assert_close(without.latents, with_gradients.latents.detach(), atol=1e-5, rtol=1e-4)
    # The last block never reads the first scene's prompt: only memory can carry its gradient there.
    gradient, = torch.autograd.grad(results[-1].latents.square().sum(), rows[0], allow_unused=True)
    assert gradient is not None and gradient.isfinite().all() and gradient.abs().max() > 0


def test_forgetting_everything_carries_no_gradient() -> None:
    timeline = story([(None, None, 2), (Kind.SMOOTH, None, 2)])
    rows = [row.requires_grad_(True) for row in prompts_for(timeline)]
    results = list(rollout(timeline, model().requires_grad_(True), rows, policy_for("none", timeline),
                           KeyedNoise(1, timeline.scenes), GRID))
    gradient, = torch.autograd.grad(results[-1].latents.sum(), rows[0], allow_unused=True)
    assert gradient is None or gradient.abs().max() == 0


def test_shapes_and_buffers_stand_still_once_the_window_is_full() -> None:
    """What a captured graph needs: from then on every pass sees tensors of one shape at one address."""
    timeline = story([(None, None, 14)])
    for name in POLICIES:
        seen: list[tuple] = []
        prepare = KVStore.prepare

        def prepared(store: KVStore, layout, prepare=prepare, seen=seen):
            context = prepare(store, layout)
            seen.append((context.past, context.keys.data_ptr(), context.values.data_ptr(), context.keys.shape,
                         context.query_rotation.shape))
            return context

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(KVStore, "prepare", prepared)
            noise = KeyedNoise(1, timeline.scenes)
            list(rollout(timeline, model(), prompts_for(timeline), policy_for(name, timeline), noise, GRID))
        assert len(set(seen[7:])) == 1


@pytest.mark.parametrize("name", POLICIES)
def test_bfloat16_runs_and_stays_near(name: str) -> None:
    timeline = story(SHORT)
    small = model().to(torch.bfloat16)
    policy = policy_for(name, timeline)
    for whole, half in zip(run(name, timeline), rollout(timeline, small, prompts_for(timeline), policy,
                                                        KeyedNoise(1, timeline.scenes), GRID), strict=True):
        assert half.latents.dtype is torch.bfloat16 and half.latents.isfinite().all()
        apart = (whole.latents - half.latents.float()).norm() / whole.latents.norm()
        assert apart < 0.15, f"block {whole.block.index}: {apart:.3f}"
