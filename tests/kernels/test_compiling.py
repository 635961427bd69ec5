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
SPILLED = 128  # bytes a thread that may not fit into registers


def built(kernel: Any, warps: int, stages: int = 3, /, **given: Any) -> int:
    """Compiles a kernel, whose arguments are types, or values that are known; → the bytes a thread that it spills."""
    types = {name: given[name] if isinstance(given[name], str) else "constexpr" for name in kernel.arg_names}
    known = {(kernel.arg_names.index(name),): value for name, value in given.items() if not isinstance(value, str)}
    made = triton.compile(ASTSource(kernel, types, known), target=GPUTarget("cuda", 90, 32),
                          options={"num_warps": warps, "num_stages": stages})
    assembler = next(Path(triton.__file__).parent.glob("backends/nvidia/bin/ptxas*"))
    said = subprocess.run([assembler, "-arch=sm_90a", "-v", "-o", os.devnull, "/dev/stdin"], input=made.asm["ptx"],
                          capture_output=True, text=True, check=True)
    return max(map(int, re.findall(r"(\d+) bytes spill stores", said.stderr)))


def test_the_choice_of_history() -> None:
    numbers = dict.fromkeys(("base", "loud", "asked", "reference", "gating", "spread"), "*fp32")
    places = dict.fromkeys(("slots", "orders", "index"), "*i32")
    assert built(choosing._choose, 32, **numbers, **places, uses="*i16", valid="*i8", candidates="i32",
                 batch_slots="i32", most_used="i32", strength="fp32", TOKENS=TOKENS, COUNT=9 * TOKENS,
                 COUNT_BLOCK=16384, WIDTH=WIDTH, WIDE=2048, LOUD=True, GATED=True, BLOCK=32768,
                 PART=choosing.PART) <= SPILLED


def test_what_queries_read() -> None:
    tensors = dict.fromkeys(("held", "ask", "k", "v", "key_out", "value_out"), "*bf16")
    steps = dict.fromkeys(("held_layer", "held_batch", "held_slot", "layer_step", "batch_step", "slot_step"), "i64")
    counts = dict.fromkeys(("batch", "queries", "frames", "rows", "columns", "patches"), "i32")
    assert built(near._near, near.NEAR_WARPS, near.NEAR_STAGES, **tensors, **steps, **counts, held_slots="*i32",
                 slots="*i32", lengths="*fp32", longest="*fp32", near="*fp32", HEADS=HEADS, DIM=DIM, BLOCK=DIM,
                 PATCH=near.PATCH, ROWS=near.NEAR_ROWS, COLUMNS=near.NEAR_COLUMNS) <= SPILLED


@pytest.mark.parametrize("width", [FEED, WIDTH])
def test_rows_in_eight_bits(width: int) -> None:
    main, rest = rows.lanes_of(width)
    assert width <= main + rest < 1.05 * width
    assert not built(rows._eight, rows.block_of(main)[1], x="*bf16", out="*fp8e4nv", scale="*fp32", WIDTH=width,
                     GELU=width == FEED, MAIN=main, REST=rest)


def test_a_frame_that_is_laid_out() -> None:
    assert not built(rows._turn, rows.block_of(WIDTH)[1], x="*bf16", beside="*bf16", rotation="*fp32", out="*bf16",
                     beside_out="*bf16", x_group="i64", out_group="i64", x_row="i32", WIDTH=WIDTH, HALF=DIM // 2,
                     BLOCK=2048)


@pytest.mark.parametrize("biased", [False, True])
def test_what_lies_between_a_decoders_convolutions(biased: bool) -> None:
    assert not built(pictures._norm_silu, 8, x="*bf16", bias="*bf16", gain="*bf16", out="*bf16", rows="i32",
                     CHANNELS=96, SCALE=96**0.5, BIAS=biased, BLOCK=128, ROWS=32)
    assert not built(pictures._add, 8, x="*bf16", bias="*bf16", other="*bf16", numbers="i64", CHANNELS=96,
                     OTHER=biased, BLOCK=4096)
    assert not built(pictures._enlarge, 4, x="*bf16", bias="*bf16", out="*bf16", pixels="i32", rows="i32",
                     columns="i32", CHANNELS=384, TIMES=2, BIAS=biased, BLOCK=512, PIXELS=16)
