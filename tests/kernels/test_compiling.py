"""Kernels compile for a Hopper card at a large model's sizes, and keep what they hold in registers. No card is needed,
but Triton's compiler is: its interpreter, by which the other tests run, accepts more and knows no registers."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

try:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
except ImportError:
    triton = None

READY = triton is not None and os.environ.get("TRITON_INTERPRET") != "1"
if READY:
    from echo_cli.kernels import choosing, near, pictures, rows

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not READY, reason="needs Triton's compiler")]

WIDTH, HEADS, DIM, FEED, TOKENS = 1536, 12, 128, 8960, 1560  # of Wan 2.1 1.3B


def built(kernel: Any, warps: int, stages: int = 3, /, **given: Any) -> int:
    """Compiles a kernel, whose arguments are values that are known, or types: with ":16", of what 16 divides, which a
    launch makes use of. → the bytes a thread that it spills."""
    names = kernel.arg_names
    types = {name: given[name].split(":")[0] if isinstance(given[name], str) else "constexpr" for name in names}
    known = {(names.index(name),): value for name, value in given.items() if not isinstance(value, str)}
    divisible = {(names.index(name),): [["tt.divisibility", 16]] for name, value in given.items()
                 if isinstance(value, str) and value.endswith(":16")}
    made = triton.compile(ASTSource(kernel, types, known, divisible), target=GPUTarget("cuda", 90, 32),
                          options={"num_warps": warps, "num_stages": stages})
    assembler = next(Path(triton.__file__).parent.glob("backends/nvidia/bin/ptxas*"))
    said = subprocess.run([assembler, "-arch=sm_90a", "-v", "-o", os.devnull, "/dev/stdin"], input=made.asm["ptx"],
                          capture_output=True, text=True, check=True)
    return max(map(int, re.findall(r"(\d+) bytes spill stores", said.stderr)))


def choice(part: int) -> int:
    numbers = dict.fromkeys(("base", "loud", "asked", "reference", "spread"), "*fp32:16")
    places = dict.fromkeys(("slots", "orders", "index"), "*i32:16")
    return built(choosing._choose, 32, **numbers, **places, gating="*fp32", uses="*i16:16", valid="*i8",
                 candidates="i32", batch_slots="i32", most_used="i32", strength="fp32", TOKENS=TOKENS,
                 COUNT=9 * TOKENS, COUNT_BLOCK=16384, WIDTH=WIDTH, WIDE=2048, LOUD=True, GATED=True, BLOCK=32768,
                 PART=part)


def near_by(rows: int) -> int:
    tensors = dict.fromkeys(("held", "ask", "k", "v", "key_out", "value_out"), "*bf16:16")
    steps = dict.fromkeys(("held_layer", "held_batch", "held_slot", "layer_step", "batch_step", "slot_step"), "i32:16")
    counts = dict.fromkeys(("queries", "frames", "rows", "columns", "patches"), "i32")
    numbers = dict.fromkeys(("lengths", "longest", "near"), "*fp32:16")
    return built(near._near, near.NEAR_WARPS, near.NEAR_STAGES, **tensors, **steps, **counts, **numbers, batch=1,
                 held_slots="*i32:16", slots="*i32:16", HEADS=HEADS, DIM=DIM, BLOCK=DIM, PATCH=near.PATCH, ROWS=rows,
                 COLUMNS=near.NEAR_COLUMNS)


def test_the_choice_of_history() -> None:
    assert not choice(choosing.PART)


def test_what_queries_read() -> None:
    assert not near_by(near.NEAR_ROWS)


def test_what_overflows_the_registers_is_noticed() -> None:
    assert near_by(2 * near.NEAR_ROWS) and choice(2 * choosing.PART)


@pytest.mark.parametrize("width", [FEED, WIDTH])
def test_rows_in_eight_bits(width: int) -> None:
    main, rest = rows.lanes_of(width)
    assert width <= main + rest < 1.05 * width
    assert not built(rows._eight, rows.block_of(main)[1], x="*bf16:16", out="*fp8e4nv:16", scale="*fp32:16",
                     WIDTH=width, GELU=width == FEED, MAIN=main, REST=rest)


def test_a_frame_that_is_laid_out() -> None:
    tensors = dict.fromkeys(("x", "beside", "out", "beside_out"), "*bf16:16")
    steps = dict.fromkeys(("x_group", "out_group", "x_row"), "i32:16")
    assert not built(rows._turn, rows.block_of(WIDTH)[1], **tensors, **steps, rotation="*fp32:16", WIDTH=WIDTH,
                     HALF=DIM // 2, BLOCK=2048)


@pytest.mark.parametrize("biased", [False, True])
def test_what_lies_between_a_decoders_convolutions(biased: bool) -> None:
    assert not built(pictures._norm_silu, 8, x="*bf16:16", bias="*bf16:16", gain="*bf16:16", out="*bf16:16", rows="i32",
                     CHANNELS=96, SCALE=96**0.5, BIAS=biased, BLOCK=128, ROWS=32)
    assert not built(pictures._add, 8, x="*bf16:16", bias="*bf16:16", other="*bf16:16", numbers="i64:16", CHANNELS=96,
                     OTHER=biased, BLOCK=4096)
    assert not built(pictures._enlarge, 4, x="*bf16:16", bias="*bf16:16", out="*bf16:16", pixels="i32", rows="i32",
                     columns="i32", CHANNELS=384, TIMES=2, BIAS=biased, BLOCK=512, PIXELS=16)
