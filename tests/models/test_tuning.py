"""What is compiled computes what was written."""

import pytest
import torch
from torch._dynamo.utils import counters

from echo_cli.models.tuning import choose_attention, compile_passes
from echo_cli.rope import RopeTable, rotate, rotate_pairs
from tests.small import GRID, SHORT, SPEC, model, run, story


def test_rotation_in_real_numbers_is_rotation() -> None:
    x, rotation = torch.randn(2, 2 * GRID.tokens, 2, 24), RopeTable(SPEC, GRID).frames(17, 2)
    torch.testing.assert_close(rotate_pairs(x, torch.view_as_real(rotation)), rotate(x, rotation), atol=2e-6, rtol=0)
    half = x.to(torch.bfloat16)
    assert torch.equal(rotate_pairs(half, torch.view_as_real(rotation)), rotate(half, rotation))


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@torch.inference_mode()
def test_a_compiled_film_is_the_same_and_all_layers_share_what_was_compiled(backend: str) -> None:
    torch._dynamo.reset()
    counters.clear()
    timeline, compiled = story(SHORT), model()
    compile_passes(compiled, backend)
    for plain, made in zip(run("echo-forcing", timeline), run("echo-forcing", timeline, transformer=compiled), strict=True):
        torch.testing.assert_close(made.latents, plain.latents, atol=1e-5, rtol=0)
    # Before memory, after it, and rotation: of a block's tokens, and of a remembered frame's. Not once for each layer.
    assert counters["stats"]["unique_graphs"] == 4 and SPEC.depth > 1


def test_a_cpu_attends_with_torch() -> None:
    assert choose_attention(model()) == "torch"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_the_kernels_of_a_gpu_attend_as_the_cpu_does() -> None:
    from echo_cli.models.layers import attend
    from echo_cli.models.tuning import _best

    query, key, value = (torch.randn(1, count, 12, 128) for count in (300, 2000, 2000))
    _, best = _best(torch.device("cuda"), torch.bfloat16)
    made = best(*(part.to("cuda", torch.bfloat16) for part in (query, key, value))).float().cpu()
    torch.testing.assert_close(made, attend(query, key, value), atol=2e-2, rtol=0)
