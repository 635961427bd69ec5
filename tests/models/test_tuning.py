"""What is compiled computes what was written."""

import sys
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend

from echo_cli.eight import Codes, EightBitLayers, EightBitWindow, attend_to_codes
from echo_cli.models import layers, tuning
from echo_cli.models.files.eight_bits import EightBits
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
    for plain, made in zip(
        run("echo-forcing", timeline), run("echo-forcing", timeline, transformer=compiled), strict=True
    ):
        torch.testing.assert_close(made.latents, plain.latents, atol=1e-5, rtol=0)
    # Before memory, after it, and rotation: of a block's tokens, and of a remembered frame's. Not once for each layer.
    assert counters["stats"]["unique_graphs"] == 4 and SPEC.depth > 1


def test_a_cpu_attends_with_torch() -> None:
    assert choose_attention(model()) == "torch"


HOPPER = (torch.device("cuda"), torch.bfloat16)


def tokens(count: int) -> torch.Tensor:
    return torch.randn(1, count, 2, 24, generator=torch.Generator().manual_seed(count))


def test_a_kernel_that_is_installed_is_taken_and_given_no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = ModuleType("flash_attn_interface")
    kernel.flash_attn_func = lambda *parts: calls.append(parts) or (parts[0] + 1, "sums")
    monkeypatch.setitem(sys.modules, "flash_attn_interface", kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    name, attend = tuning._best(*HOPPER)
    query, keys = tokens(3), tokens(8)
    assert (
        name == "FlashAttention 3"
        and torch.equal(attend(query, keys, keys, None), (query + 1).flatten(2))
        and len(calls) == 1
    )
    bias = torch.randn(1, 1, 1, 8)
    assert torch.equal(attend(query, keys, keys, bias), layers.attend(query, keys, keys, bias)) and len(calls) == 1
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (10, 0))
    assert tuning._best(*HOPPER)[0] == "torch, cuDNN first"


NEAR = EightBits("", (0.02, 0.2, 0.03), "NVIDIA H200")


def test_attention_in_eight_bits_is_given_codes_and_scales_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    kernel = ModuleType("flash_attn_interface")
    kernel.flash_attn_func = lambda *parts, **scales: calls.append((parts, scales)) or parts[0].to(torch.bfloat16)
    monkeypatch.setitem(sys.modules, "flash_attn_interface", kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    layers, attend, words = tuning.eight_bit_layers(NEAR, *HOPPER)
    assert layers == (0, 2) and attend is not None and "in 2 of 3 layers, those within 5%" in words
    parts = [tokens(count).to(torch.float8_e4m3fn) for count in (3, 8, 8)]
    scales = [torch.full((1, 2), float(number)) for number in range(3)]
    assert attend(Codes(*parts, *scales)).shape == (1, 3, 48)
    ((given, named),) = calls
    assert all(one is two for one, two in zip(given, parts, strict=True))
    assert [named[f"{part}_descale"] for part in "qkv"] == scales


@pytest.mark.parametrize(("result", "capability", "said"), [
    (None, (9, 0), "has not been measured"),
    (EightBits("", (0.1, 0.2), "NVIDIA H200"), (9, 0), "no layer is within 5%, measured on NVIDIA H200"),
    (NEAR, (10, 0), "FlashAttention 3 is for Hopper"),
])
def test_why_attention_is_not_in_eight_bits_is_said(result: EightBits | None, capability: tuple[int, int], said: str,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = ModuleType("flash_attn_interface")
    kernel.flash_attn_func = lambda *parts: parts[0]
    monkeypatch.setitem(sys.modules, "flash_attn_interface", kernel)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    layers, attend, words = tuning.eight_bit_layers(result, *HOPPER)
    assert layers == () and attend is None and words.startswith("attention is not in eight bits: ") and said in words
    assert "a CPU has no kernel" in tuning.eight_bit_layers(NEAR, torch.device("cpu"), torch.float32)[2]


def test_a_kernel_built_for_another_torch_is_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "flash_attn_interface.py").write_text("raise ImportError('undefined symbol')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert tuning._best(*HOPPER) == ("torch, cuDNN first", tuning._cudnn_first)
    monkeypatch.setattr(tuning, "PRIORITIES", False)  # torch 2.5
    assert tuning._best(*HOPPER) == ("torch", layers.attend)


def test_cudnn_is_asked_first_and_never_with_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(tuning, "sdpa_kernel", lambda kernels, set_priority: asked.append(kernels) or nullcontext())
    query, keys, bias = tokens(3), tokens(8), torch.randn(1, 1, 1, 8)
    assert torch.equal(tuning._cudnn_first(query, keys, keys), layers.attend(query, keys, keys))
    assert torch.equal(tuning._cudnn_first(query, keys, keys, bias), layers.attend(query, keys, keys, bias))
    assert asked[0][0] is SDPBackend.CUDNN_ATTENTION and SDPBackend.CUDNN_ATTENTION not in asked[1]


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@torch.inference_mode()
def test_the_kernel_of_a_gpu_attends_in_eight_bits_as_torch_does() -> None:
    """Nearer to the plain path, which rounds alike, than either is to exact attention."""
    kernel, words = tuning.eight_bit_attention(torch.device("cuda"), torch.bfloat16)
    if kernel is None:
        pytest.skip(words)
    query, keys, values = (torch.randn(1, count, 12, 128, device="cuda").to(torch.bfloat16)
                           for count in (300, 2000, 2000))
    bounds = torch.full((1, 12), 40.0)
    window = EightBitWindow(EightBitLayers((0,), bounds, bounds), keys[None], 1000)
    window.measure(keys[None], values[None], [0, 1])
    window.write(keys[None], values[None], [0, 1])
    seen = window.seen(0, query, 2000)
    made, plain = kernel(seen).float(), attend_to_codes(seen)
    exact = layers.attend(query.float(), keys.float(), values.float())
    assert (made - plain).norm() < 0.5 * (plain - exact).norm() < 0.1 * exact.norm()
