"""Nests of state: taken apart for a file and put together again."""

import json
from collections import namedtuple

import pytest
import torch

from echo_cli.state import pack, unpack


def test_a_nest_comes_back_from_tensors_and_json() -> None:
    nest = {
        "a": None,
        "b": [True, 2, -0.5, "x", [torch.arange(3), None, [torch.ones(2, 2)]]],
        "c": {"d": (1, torch.zeros(0))},
    }
    tensors, plain = pack(nest)
    assert sorted(tensors) == ["b.4.0", "b.4.2.0", "c.d.1"]
    back = unpack(tensors, json.loads(json.dumps(plain)))
    assert back["a"] is None and back["b"][:4] == [True, 2, -0.5, "x"] and back["c"]["d"][0] == 1
    assert back["b"][4][0] is nest["b"][4][0] and back["b"][4][1] is None and back["c"]["d"][1].shape == (0,)
    assert unpack(*pack(None)) is None and unpack(*pack(True)) is True


@pytest.mark.parametrize("nest", [{1: 2}, {"$tensor": "x"}, {"a.b": 1}, [object()], {"a": {3.5}}, [b"bytes"]])
def test_what_no_file_could_hold_is_refused_by_its_path(nest) -> None:
    with pytest.raises(ValueError):
        pack(nest)


def test_a_type_of_its_own_is_told_as_what_it_is_made_of() -> None:
    Pair = namedtuple("Pair", "left right")
    assert unpack(*pack(Pair(1, [2]))) == [1, [2]]
