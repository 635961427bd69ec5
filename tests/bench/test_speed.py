import io
import json
import subprocess
import sysconfig
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from echo_cli.bench.speed import PARTS, _loaded, charged, operations, trend
from echo_cli.cli.app import run
from echo_cli.rollout.rollout import rollout
from echo_cli.rollout.stopwatch import Stopwatch
from echo_cli.runtime import KeyedNoise, Runtime
from echo_cli.spec import TINY, WAN_1_3B
from tests import small

SCRIPT = Path(sysconfig.get_path("scripts")) / "echo-cli"


def measured(*arguments: str) -> dict:
    """What the command prints with --json."""
    with redirect_stdout(io.StringIO()) as printed:
        assert run(["bench", "speed", "--warmup", "0", "--policy", "sink", "--json", *arguments]) == 0
    return json.loads(printed.getvalue())


@pytest.fixture(scope="module")
def report() -> dict:
    return measured("--blocks", "2", "--policy", "echo-forcing", "--film", "1")


def test_the_command_charges_all_of_a_block(report: dict) -> None:
    assert [row["policy"] for row in report["policies"]] == ["sink", "echo-forcing"]
    for row in report["policies"]:
        assert set(row["parts_ms"]) == set(PARTS) and all(time > 0 for time in row["parts_ms"].values())
        assert sum(row["parts_ms"].values()) == pytest.approx(row["block_ms"], rel=0.5)
        assert row["bytes_first"] == row["bytes_last"] > 0
        assert 0 < row["memory_share"] < 1 and row["processor_ms"] > 0
        assert row["pictures_per_second"] == pytest.approx(12_000 / row["block_ms"])
        assert row["whole_pictures_per_second"] > 0


def test_what_the_machine_could_do_is_measured_beside_what_it_did(report: dict) -> None:
    assert report["peak_flops"] > 1e8 and report["decode_ms"] > 0 and report["encode_ms"] > 0
    for row in report["policies"]:
        assert row["share_of_peak"] == pytest.approx(
            row["operations"] / (row["block_ms"] / 1000) / report["peak_flops"]
        )
    assert report["machine"] and report["device"] in report["machine"]


def test_an_earlier_run_stands_beside_this_one(
        report: dict, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    earlier, other = tmp_path / "earlier.json", tmp_path / "other.json"
    half = [{**row, "block_ms": row["block_ms"] / 2} for row in report["policies"]]
    earlier.write_text(json.dumps({**report, "policies": half}))
    other.write_text(json.dumps({"kind": "bench memory"}))
    result = measured("--blocks", "1", "--film", "0", "--no-decode", "--profile", "--against", str(earlier))
    ratio = next(each for each in result["against"]["changes"] if each["metric"] == "block_ms")
    assert ratio["before"] == half[0]["block_ms"] and ratio["after"] == result["policies"][0]["block_ms"]
    kernels = result["policies"][0]["kernels"]
    assert {"attention", "linear"} <= {kernel["kind"] for kernel in kernels} and kernels[0]["ms"] >= kernels[-1]["ms"]
    assert run(["bench", "speed", "--against", str(other)]) == 2
    assert "the result of `bench memory`, not of `bench speed`" in capsys.readouterr().err


def test_whole_films_are_timed_from_storyboard_to_mp4(report: dict) -> None:
    assert [film["policy"] for film in report["films"]] == ["sink", "echo-forcing"]
    for film in report["films"]:
        assert film["pictures"] == 16 and 0 < film["first_picture_s"] < film["wall_s"] and film["encoder_s"] > 0
    assert report["load_s"] > 0 and report["left_out"] == []


def test_what_is_not_here_is_left_out_with_its_reason(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("ECHO_MODELS", str(tmp_path))
    left_out: list[str] = []
    assert _loaded("wan-1.3b", Runtime.choose("cpu"), left_out) == (None, None)
    assert left_out[0].startswith("whole films: ") and "weights of wan2.1" in left_out[0]


def test_operations_are_those_that_torch_counts() -> None:
    timeline = small.story([(None, None, 4)])
    loop = rollout(timeline, small.model(), small.prompts_for(timeline), small.policy_for("window", timeline),
                   KeyedNoise(1, timeline.scenes), small.GRID)
    next(loop)  # the first block also reads the prompt
    for _ in range(2):
        # it counts no other kernel
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
            result = next(loop)
        assert operations(small.SPEC, small.GRID, result.layout.tokens) == pytest.approx(
            counter.get_total_flops(), rel=0.15
        )
    assert operations(WAN_1_3B, WAN_1_3B.grid(), 21 * 1560) > 1000 * operations(
        TINY, TINY.grid(), 21 * 24
    )


@pytest.mark.parametrize("compiled", [False, True])
def test_what_was_charged_is_given_back(compiled: bool) -> None:
    """Else the second policy would pay for the first one's clocks."""
    transformer, watch = small.model(), [Stopwatch(torch.device("cpu"))]
    before = [(block.self_attn.attend, block.ask, block.answer) for block in transformer.blocks]
    with charged(transformer, compiled, watch):
        assert (
            transformer.blocks[0].self_attn.attend != before[0][0]
            and (transformer.blocks[0].ask == before[0][1]) != compiled
        )
    assert [(block.self_attn.attend, block.ask, block.answer) for block in transformer.blocks] == before


@pytest.mark.slow
def test_what_is_compiled_is_charged_too() -> None:
    done = subprocess.run(
        [SCRIPT, "bench", "speed", "--spec", "wan-1.3b", "--layers", "1", "--size", "32x32", "--blocks", "2",
         "--policy", "window", "--compile", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["compiled"] and report["attention"] == "torch"
    (row,) = report["policies"]
    assert row["block_ms"] < 5_000, "the compiler was timed"
    assert all(time > 0 for time in row["parts_ms"].values()) and row["whole_pictures_per_second"] is None


@pytest.mark.parametrize(("arguments", "said"), [
    (["--spec", "wan"], "no model is called 'wan'"),
    (["--policy", "sinc"], "did you mean 'sink'"),
    (["--layers", "99"], "has 6 layers, not 99"),
    (["--size", "100x100"], "cannot make pictures of 100x100"),
    (["--size", "large"], "not a size"),
    (["--dtype", "float8"], "no dtype is called 'float8'"),
    (["--device", "tpu"], "tpu"),
])
def test_bad_input(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "speed", *arguments]) == 2
    printed = capsys.readouterr().err
    assert said in printed and "Traceback" not in printed


def test_a_trend_is_found_and_noise_is_not() -> None:
    slope, error = trend([10 + 0.5 * index for index in range(40)])
    assert slope == pytest.approx(0.5) and error == pytest.approx(0, abs=1e-9)
    slope, error = trend([10 + (-1) ** index for index in range(40)])
    assert abs(slope) < 2 * error
