import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from echo_cli.errors import UsageError
from echo_cli.models.transformer import Transformer
from echo_cli.spec import TINY, WAN_1_3B
from tests.small import SPEC


@pytest.mark.parametrize(("change", "said"), [
    ({"heads": 5}, "width 48 is not divisible by 5 heads"),
    ({"heads": 16}, "a head has 3 dimensions"),
    ({"depth": 0}, "depth is 0"),
    ({"freq_dim": 15}, "freq_dim 15 is odd"),
    ({"patch": (2, 2, 2)}, "straddle"),
    ({"window": 3}, "no room"),
    ({"positions": 20}, "20 temporal positions cannot hold a window of 21"),
    ({"steps": (500, 750)}, "must fall"),
    ({"steps": (1200,)}, "between 1 and 1000"),
])
def test_a_spec_that_cannot_be_says_why(change: dict, said: str) -> None:
    with pytest.raises(UsageError, match="cannot be built") as caught:
        replace(SPEC, **change)
    assert said in str(caught.value)


def test_sizes_that_do_not_fit_name_the_nearest() -> None:
    assert WAN_1_3B.grid((832, 480)).tokens == 1560
    with pytest.raises(UsageError, match="833x480") as caught:
        WAN_1_3B.grid((833, 480))
    assert "832x480" in caught.value.hint


def test_the_released_names_and_shapes() -> None:
    recorded = json.loads((Path(__file__).parent / "golden" / "dit_1_3B_keys.json").read_text())
    with torch.device("meta"):
        ours = {name: list(tensor.shape) for name, tensor in Transformer(WAN_1_3B).state_dict().items()}
    theirs = {name.replace(".N.", f".{layer}."): shape for name, shape in recorded["keys"].items()
              for layer in (range(WAN_1_3B.depth) if ".N." in name else (0,))}
    assert len(ours) == recorded["n_keys"] == 825
    assert ours == theirs


@pytest.mark.parametrize(("aspect", "size"), [
    ((16, 9), (832, 480)), ((9, 16), (480, 832)), ((1, 1), (624, 624)), ((4, 3), (720, 544)), ((3, 4), (544, 720))])
def test_a_shape_is_the_models_own_size_turned_or_as_many_pixels(
    aspect: tuple[int, int], size: tuple[int, int]
) -> None:
    assert WAN_1_3B.sized(aspect) == size
    WAN_1_3B.grid(size)


@pytest.mark.parametrize("aspect", [(9, 16), (1, 1), (3, 2), (21, 9), (1, 4)])
def test_a_shape_stays_within_the_sizes_that_look_right(aspect: tuple[int, int]) -> None:
    size = TINY.sized(aspect)
    TINY.grid(size)
    assert TINY.was_seen(size)
