"""Linear layers in eight bits: near, not equal, and as far off as is said; and which layers attend so."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from echo_cli.cli import app
from echo_cli.errors import MissingError
from echo_cli.models.files import eight_bits
from echo_cli.models.files.eight_bits import LIMIT, EightBits, measured
from echo_cli.models.fp8 import EightBitLinear, quantised, use_eight_bits
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


SMALL = ("--spec", "tiny", "--layers", "2", "--size", "32x32", "--blocks", "3")


def test_the_bench_says_how_far_each_part_moves_latents(capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["bench", "fast", *SMALL, "--json"]) == 0
    printed = json.loads(capfd.readouterr().out)
    for part in ("moved", "attention", "both"):
        assert len(printed[part]) == 3 and all(0 < share < 0.2 for share in printed[part][1:])
    assert printed["attention"][0] == 0, "nothing is remembered yet"
    assert printed["moved"][0] == printed["both"][0] > 0
    assert len(printed["distances"]) == 2 and all(0 < distance < 0.1 for distance in printed["distances"])
    assert printed["near"] == [layer for layer, far in enumerate(printed["distances"]) if far <= LIMIT]
    assert printed["rounding"] is None and printed["weights"] is None
    assert printed["block_s"] > 0 and printed["fast_block_s"] > 0
    assert app.run(["bench", "fast", *SMALL]) == 0
    assert f"of 2 layers within {LIMIT:.0%}" in capfd.readouterr().out


@pytest.mark.parametrize(("arguments", "said"), [
    (["--keep"], "--keep needs a model"),
    (["--model", "tiny", "--layers", "2"], "ask for different things"),
    (["--model", "tiny", "--keep"], "model 'tiny' has no --fast"),
])
def test_what_cannot_be_measured_or_kept_is_refused(arguments: list[str], said: str,
                                                    capfd: pytest.CaptureFixture[str]) -> None:
    assert app.run(["bench", "fast", *arguments]) == 2
    assert said in capfd.readouterr().err


def test_a_layer_attends_in_eight_bits_where_it_was_measured_to_be_near(tmp_path: Path) -> None:
    assert measured(tmp_path, 3, "abc") is None and measured(None, 3) is None
    eight_bits.keep(tmp_path, EightBits("abc", (0.02, LIMIT, 0.06), "NVIDIA H200"))
    near = measured(tmp_path, 3, "abc")
    assert near is not None and near == measured(tmp_path, 3) and near.layers == (0, 1)
    assert measured(tmp_path, 3, "other weights") is None
    for damaged in ("{}", "[1", '{"format": 2}', '{"format": 1, "weights": "abc", "distances": 3, "device": "x"}'):
        (tmp_path / eight_bits.FILE).write_text(damaged)
        with pytest.raises(MissingError, match="not what `bench fast --keep` writes"):
            measured(tmp_path, 3, "abc")


def test_distances_of_another_number_of_layers_are_refused(tmp_path: Path) -> None:
    eight_bits.keep(tmp_path, EightBits("abc", (0.02, 0.03, 0.06), "NVIDIA H200"))
    with pytest.raises(MissingError, match="it has 3 layers, the model has 2"):
        measured(tmp_path, 2, "abc")
    assert measured(tmp_path, 2, "other weights") is None
