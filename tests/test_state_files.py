"""State in a file: what comes back, and what is not taken for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from echo_cli.errors import Damaged, OutputError
from echo_cli.state_files import DTYPES, Stored, read_state, write_state

NEST = {
    "a": [None, True, 7, -0.25, "x", torch.arange(7, dtype=torch.uint8), torch.randn(3, 5)],
    "b": {"half": torch.randn(5).to(torch.bfloat16), "scalar": torch.tensor(2.5), "empty": torch.zeros(2, 0, 3),
          "turned": torch.randn(4, 6).T, "truth": torch.tensor([True, False])},
}


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return len(one) == len(other) and all(map(same, one, other)) if isinstance(one, list) else one == other


def noted(stored: Stored) -> Stored:
    """As it comes back from JSON."""
    return replace(stored, nest=json.loads(json.dumps(stored.nest)))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    stored = write_state(path, NEST)
    assert stored.bytes == path.stat().st_size and same(read_state(path, noted(stored)), NEST)
    assert len(load_file(path)) == 7  # an ordinary safetensors file


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_kind_of_number(tmp_path: Path, dtype: torch.dtype) -> None:
    nest = [
        torch.arange(9).reshape(3, 3).to(dtype),
        torch.ones(1, dtype=torch.uint8),
        torch.ones(1, dtype=torch.float64),
    ]
    assert same(read_state(tmp_path / "s", noted(write_state(tmp_path / "s", nest))), nest)


def test_what_is_read_shares_nothing_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s"
    nest = read_state(path, write_state(path, [torch.zeros(1000)]))
    path.write_bytes(b"")
    nest[0] += 1
    assert nest[0].sum() == 1000


def test_a_file_that_was_cut_or_changed_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    stored = noted(write_state(path, [torch.randn(40, 50)]))
    content = path.read_bytes()
    harmed = [content[:length] for length in range(0, len(content), 1000)] + [content + b"x"]
    harmed += [
        content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :] for at in range(0, len(content), 499)
    ]
    for each in harmed:
        path.write_bytes(each)
        with pytest.raises(Damaged) as caught:
            read_state(path, stored)
        assert str(path) in caught.value.message and "--restart" in caught.value.hint
    path.unlink()
    with pytest.raises(Damaged, match="gone"):
        read_state(path, stored)


def test_a_disk_without_room_keeps_no_piece_of_it(small_disk: Path) -> None:
    with pytest.raises(OutputError, match="the disk is full"):
        write_state(small_disk / "s", [torch.randn(200_000)])
    assert list(small_disk.iterdir()) == []
