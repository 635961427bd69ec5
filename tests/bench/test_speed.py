import json
import subprocess
import sysconfig
from pathlib import Path

import pytest

from echo_cli.bench.speed import PARTS, trend


SCRIPT = Path(sysconfig.get_path("scripts")) / "echo-cli"


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, "bench", "speed", *arguments], capture_output=True, text=True)


def test_the_command_charges_all_of_a_block() -> None:
    done = bench("--layers", "1", "--blocks", "3", "--warmup", "0", "--policy", "sink", "--policy", "echo-forcing", "--decode",
                 "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [row["policy"] for row in report["policies"]] == ["sink", "echo-forcing"]
    for row in report["policies"]:
        assert set(row["parts_ms"]) == set(PARTS) and all(time > 0 for time in row["parts_ms"].values())
        assert sum(row["parts_ms"].values()) == pytest.approx(row["block_ms"], rel=0.5)
        assert row["bytes_first"] == row["bytes_last"] > 0
        assert 0 < row["memory_share"] < 1
        assert row["pictures_per_second"] == pytest.approx(12_000 / row["block_ms"])
        assert row["whole_pictures_per_second"] > 0


@pytest.mark.slow
def test_what_is_compiled_is_charged_too() -> None:
    done = bench("--spec", "wan-1.3b", "--layers", "1", "--size", "32x32", "--blocks", "2", "--policy", "window", "--compile", "--json")
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
def test_bad_input(arguments: list[str], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr


def test_a_trend_is_found_and_noise_is_not() -> None:
    slope, error = trend([10 + 0.5 * index for index in range(40)])
    assert slope == pytest.approx(0.5) and error == pytest.approx(0, abs=1e-9)
    slope, error = trend([10 + (-1) ** index for index in range(40)])
    assert abs(slope) < 2 * error
