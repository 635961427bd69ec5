"""Linear layers in eight bits: near, not equal, and as far off as is said."""

import json

import pytest
import torch
from torch import nn

from echo_cli.models.fp8 import EightBitLinear, attend_in_eight_bits, quantised, use_eight_bits
from echo_cli.models.layers import attend
from echo_cli.models.offload import keep_layers_on_host
from echo_cli.models.tuning import compile_passes
from tests.small import SPEC, model, run, story

CPU = torch.device("cpu")
SHORT = [(None, None, 4)]


def test_a_row_is_scaled_by_itself() -> None:
    x = torch.randn(4, 32) * torch.tensor([[1e-4], [1.0], [1e4], [0.0]])
    rows, scale = quantised(x)
    assert rows.dtype is torch.float8_e4m3fn and scale.shape == (4, 1)
    back = rows.float() * scale
    assert torch.isfinite(back).all() and not back[3].any()
    assert ((back - x).norm(dim=1) <= 0.04 * x.norm(dim=1)).all()


@torch.inference_mode()
def test_a_layer_is_near_the_one_it_stands_for() -> None:
    torch.manual_seed(0)
    linear, x = nn.Linear(64, 48), torch.randn(2, 5, 64)
    exact, near = linear(x), EightBitLinear(linear)(x)
    assert near.shape == exact.shape and near.dtype is exact.dtype
    off = float((near - exact).norm() / exact.norm())
    assert 1e-3 < off < 0.06


def test_attention_in_eight_bits_is_near_and_a_common_part_of_the_keys_costs_nothing() -> None:
    torch.manual_seed(0)
    query, keys, values = (torch.randn(1, count, 2, 24) for count in (30, 200, 200))
    exact = attend(query, keys, values)
    moved = [float((attend_in_eight_bits(query, keys + common, values) - exact).norm() / exact.norm())
             for common in (0.0, 50.0)]
    assert 1e-3 < moved[0] < 0.1 and moved[1] == pytest.approx(moved[0], rel=0.05)


@torch.inference_mode()
def test_a_film_moves_a_little_and_nothing_else_of_the_transformer_changes() -> None:
    timeline, fast = story(SHORT), model()
    before = {name for name, part in fast.named_modules() if isinstance(part, nn.Linear)}
    use_eight_bits(fast, CPU)
    changed = before - {name for name, part in fast.named_modules() if isinstance(part, nn.Linear)}
    assert len(changed) == 8 * SPEC.depth and all(name.startswith("blocks.") for name in changed)
    for exact, near in zip(run("window", timeline), run("window", timeline, transformer=fast), strict=True):
        off = float((near.latents - exact.latents).norm() / exact.latents.norm())
        assert 1e-4 < off < 0.1


@torch.inference_mode()
def test_eight_bits_may_visit_and_be_compiled() -> None:
    torch._dynamo.reset()
    timeline, fast, visiting, compiled = story(SHORT), model(), model(), model()
    for transformer in (fast, visiting, compiled):
        use_eight_bits(transformer, CPU)
    keep_layers_on_host(visiting, CPU)
    compile_passes(compiled, "aot_eager")
    wanted = run("window", timeline, transformer=fast)
    assert all(
        torch.equal(one.latents, two.latents)
        for one, two in zip(wanted, run("window", timeline, transformer=visiting), strict=True)
    )
    for one, two in zip(wanted, run("window", timeline, transformer=compiled), strict=True):
        torch.testing.assert_close(one.latents, two.latents, atol=2e-2, rtol=0)


def test_the_bench_says_how_far(capfd: pytest.CaptureFixture[str]) -> None:
    from echo_cli.cli import app

    assert (
        app.run(["bench", "fast", "--spec", "tiny", "--layers", "2", "--size", "32x32", "--blocks", "2", "--json"]) == 0
    )
    printed = json.loads(capfd.readouterr().out)
    for part in ("moved", "attention", "both"):
        assert len(printed[part]) == 2 and all(0 < share < 0.2 for share in printed[part])
    assert printed["rounding"] is None
    assert printed["block_s"] > 0 and printed["fast_block_s"] > 0
