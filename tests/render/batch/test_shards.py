"""Shares cover the list, each once; a scheduler's variables say which share a task is, or are refused."""

import pytest

from echo_cli.errors import UsageError
from echo_cli.render.batch.shards import Shard, read_shard


@pytest.mark.parametrize("count", [1, 2, 5, 7, 20, 33])
def test_shares_are_everything_each_once_and_even(count: int) -> None:
    items = list(range(20))
    shares = [read_shard(f"{number}/{count}", {}).of(items) for number in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/0", "1", "1/", "a/b", "-1/5", "1/5/2", "1.0/2", ""])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        read_shard(text, {})


def slurm(task: int, first: int, last: int, count: int, step: int | None = None) -> dict[str, str]:
    said = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{what}": str(number) for what, number in said.items() if number is not None}


def opencue(frame: int, frames: str, chunk: int | None = None) -> dict[str, str]:
    return {"CUE_IFRAME": str(frame), "CUE_RANGE": frames} | ({"CUE_CHUNK": str(chunk)} if chunk else {})


def aws(index: int, size: int) -> dict[str, str]:
    return {"AWS_BATCH_JOB_ARRAY_INDEX": str(index), "AWS_BATCH_JOB_ARRAY_SIZE": str(size)}


@pytest.mark.parametrize(
    ("environment", "shard"),
    [
        (slurm(0, 0, 9, 10, 1), Shard(1, 10)),
        (slurm(10, 1, 10, 10, 1), Shard(10, 10)),
        (slurm(9, 3, 21, 7, 3), Shard(3, 7)),
        (slurm(5, 5, 5, 1), Shard(1, 1)),
        (slurm(5, 5, 5, 1, 1), Shard(1, 1)),
        (slurm(7, 3, 7, 2), Shard(2, 2)),
        ({"SLURM_ARRAY_TASK_ID": "4", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}, Shard(4, 4)),
        (opencue(1, "1-20"), Shard(1, 20)),
        (opencue(20, "1-20", 1), Shard(20, 20)),
        (opencue(11, "1-20", 5), Shard(3, 4)),
        (opencue(9, "1-19x4,30"), Shard(3, 6)),
        (opencue(30, "1-19x4, 30"), Shard(6, 6)),
        (opencue(16, "1-18", 5), Shard(4, 4)),
        (opencue(-2, "-3--1"), Shard(2, 3)),
        (opencue(7, "7"), Shard(1, 1)),
        (aws(0, 2), Shard(1, 2)),
        (aws(9999, 10000), Shard(10000, 10000)),
    ],
)
def test_auto_asks_the_scheduler(environment: dict[str, str], shard: Shard) -> None:
    assert read_shard("auto", environment | {"PATH": "/bin"}) == shard


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({}, "no scheduler says which share this is"),
        ({"SLURM_ARRAY_TASK_ID": ""}, "no scheduler"),
        (slurm(4, 3, 7, 3, 1), "no place that can be counted"),  # --array=3,4,7
        (slurm(4, 3, 7, 3), "no place that can be counted"),
        (slurm(2, 1, 2, 1), "no place"),
        (slurm(1, 2, 3, 2), "no place"),
        ({"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_MIN is not set"),
        (slurm(1, 1, 4, 4, 0), "no place"),
        ({**slurm(1, 1, 4, 4), "SLURM_ARRAY_TASK_ID": "one"}, "SLURM_ARRAY_TASK_ID is 'one'"),
        (opencue(21, "1-20"), "frame 21 is not in the range 1-20"),
        (opencue(12, "1-20", 5), "does not begin a chunk of 5"),
        (opencue(1, "1-20y3"), "the range 1-20y3 is not understood"),
        (opencue(1, "1-99999999999"), "not understood"),
        (opencue(1, "5-1"), "not understood"),
        (opencue(1, ""), "not understood"),
        ({"CUE_IFRAME": "1"}, "CUE_RANGE is not set"),
        (opencue(1, "1-3x0"), "not understood"),
        (aws(3, 3), "child 3 of an array of 3"),
        ({"AWS_BATCH_JOB_ARRAY_INDEX": "3"}, "AWS_BATCH_JOB_ARRAY_SIZE is not set"),
        (aws(0, 2) | opencue(1, "1-2"), "OpenCue and of AWS"),
    ],
)
def test_auto_is_refused_where_the_share_cannot_be_known(environment: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match="--shard auto") as caught:
        read_shard("auto", environment)
    assert said in caught.value.message
