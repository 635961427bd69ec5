"""The report films by the rollout that users run, measures what it says it measures, and leaves sheets to look at."""

import json

import pytest
import torch

from echo_cli.models.backend import Backend
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.storyboard.nouns import Kind
from echo_cli.training import report
from echo_cli.training.sheets import codec_sheet, film_sheet, films, prompt_label, stream, views

from .pupils import SMALL


@pytest.fixture(scope="module")
def backend() -> Backend:
    torch.manual_seed(0)
    codec = TinyCodec(widths=(4, 4, 8)).requires_grad_(False).eval()
    return Backend(
        SMALL, random_transformer(SMALL, 3), WordTextEncoder(SMALL.text_dim).requires_grad_(False), codec, "0" * 64
    )


def test_films_have_the_pictures_their_blocks_make(backend):
    made = films(backend, [["a red ball", "a blue box"]] * 2, [2, 1], [None, Kind.HARD_CUT], "echo-forcing", 0)
    assert made.shape == (2, 33, 3, 128, 192) and made.min() >= 0 and made.max() <= 1
    pieces = [piece.shape[1] for piece in stream(backend, [["a red ball"]], [3], [None], "window", 0)]
    assert pieces == [9, 12, 12]


def test_the_seed_decides_a_film(backend):
    one, same, other = (films(backend, [["a red ball"]], [1], [None], "none", seed) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_sheets_are_written(backend, tmp_path):
    film_sheet(backend, tmp_path / "films.png", 1)
    codec_sheet(backend.codec, tmp_path / "codec.png", 1)
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("films.png", "codec.png"))
    assert len(views(torch.rand(9, 3, 8, 8))) == len(prompt_label("a ball")) == 6


@pytest.mark.slow
def test_a_report_is_written_part_by_part(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_SECONDS", 36)
    monkeypatch.setattr(report, "_COLD", 3)
    heard = []
    figures = report.report(backend, tmp_path, 4, heard.append)
    assert json.loads((tmp_path / "report.json").read_text()) == figures
    assert len(heard) == 8 and figures["judges on real clips"]["place"] <= 1
    assert {"attributes.png", "variety.png", "recall.png", "five-minutes.png"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert 0 <= figures["recall"]["share that gains"] <= 1 and figures["five minutes"]["motion kept"] > 0
