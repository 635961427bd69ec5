"""Contact sheets and the films on them, made by the rollout that users run."""

from pathlib import Path

import pytest
import torch

from echo_cli.models.backend import Backend
from echo_cli.storyboard.nouns import Kind
from echo_cli.training.sheets import codec_sheet, film_sheet, films, prompt_label, stream, views

from .pupils import small_backend


@pytest.fixture(scope="module")
def backend() -> Backend:
    return small_backend()


def test_films_have_the_pictures_their_blocks_make(backend: Backend) -> None:
    made = films(backend, [["a red ball", "a blue box"]] * 2, [2, 1], [None, Kind.HARD_CUT], "echo-forcing", 0)
    assert made.shape == (2, 33, 3, 256, 384) and made.min() >= 0 and made.max() <= 1
    pieces = [piece.shape[1] for piece in stream(backend, [["a red ball"]], [3], [None], "window", 0)]
    assert pieces == [9, 12, 12]


def test_the_seed_decides_a_film(backend: Backend) -> None:
    one, same, other = (films(backend, [["a red ball"]], [1], [None], "none", seed) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_sheets_are_written(backend: Backend, tmp_path: Path) -> None:
    film_sheet(backend, tmp_path / "films.png", 1)
    codec_sheet(backend.codec, tmp_path / "codec.png", 1)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("films.png", "codec.png"))
    assert len(views(torch.rand(9, 3, 8, 8))) == len(prompt_label("a ball")) == 6
