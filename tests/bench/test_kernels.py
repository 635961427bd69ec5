"""Kernels are charged to a kind by their names, and none is lost."""

import pytest
import torch

from echo_cli.bench.kernels import OTHER, by_kind, kernels_of, kind_of


@pytest.mark.parametrize(("name", "kind"), [
    ("void cutlass::device_kernel<flash::FlashAttnFwdSm90<...>>", "attention"),
    ("nvjet_hsh_256x128_64x4_1x2_h_bz_coopA_NNT", "linear"),
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n", "linear"),
    ("sm90_xmma_fprop_implicit_gemm_bf16bf16", "convolutions"),
    ("_add_norm", "norms and rotation"),
    ("_norm_silu", "norms and rotation"),
    ("_place", "norms and rotation"),
    ("_choose", "memory"),
    ("Memcpy DtoD (Device -> Device)", "copies"),
    ("void at::native::vectorized_elementwise_kernel<4, ...>", "element by element"),
    ("something_new", OTHER),
])
def test_a_kernel_has_the_kind_that_its_name_says(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_no_time_is_lost_between_kernels_and_kinds() -> None:
    matrix = torch.ones(64, 64)
    kernels = kernels_of(lambda: (matrix @ matrix, torch.nn.functional.rms_norm(matrix, (64,))), torch.device("cpu"))
    kinds = by_kind(kernels)
    assert sum(kinds.values()) == pytest.approx(sum(kernel.ms for kernel in kernels))
    assert next(kernel for kernel in kernels if kernel.name == "aten::mm").count == 1 and "linear" in kinds
