"""The embedded model comes whole or not at all."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from echo_cli.errors import MissingError
from echo_cli.files import sha256
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.queries.model import MemoryQueries
from echo_cli.models.queries.weights import save_queries
from echo_cli.models.tiny import model as tiny
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.runtime import Runtime
from echo_cli.spec import TINY


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    parts = {
        "transformer": random_transformer(TINY, 0),
        "words": WordTextEncoder(TINY.text_dim),
        "codec": TinyCodec(TINY.channels),
    }
    for part, module in parts.items():
        tiny.save_part(tmp_path, part, module, {"seed": 1})
    tiny.save_index(tmp_path, {"trained": {"seed": 1}})
    return tmp_path


def test_what_is_saved_is_loaded(folder):
    backend = tiny.load(Runtime.choose("cpu"), folder)
    want = random_transformer(TINY, 0).state_dict()
    for name, value in backend.transformer.state_dict().items():
        assert torch.allclose(value, want[name], atol=2e-3), name
    assert backend.weights_hash == tiny.check(folder) and backend.spec is TINY
    assert tiny.index(folder)["trained"] == {"seed": 1}


def test_what_was_measured_is_told_and_nothing_else_changes(folder):
    before = tiny.check(folder)
    tiny.save_measured(folder, {"place": 1.0})
    assert tiny.check(folder) == before and tiny.index(folder)["measured"] == {"place": 1.0}
    assert tiny.index(folder)["trained"] == {"seed": 1}


def test_one_changed_byte_is_found(folder):
    path = tiny.part_path(folder, "words")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(MissingError, match="words.safetensors"):
        tiny.load(Runtime.choose("cpu"), folder)


def test_a_missing_part_and_a_broken_index_are_told(folder):
    tiny.part_path(folder, "codec").unlink()
    with pytest.raises(MissingError, match="codec.safetensors"):
        tiny.check(folder)
    (folder / tiny.INDEX).write_text(json.dumps({"model": "tiny"}))
    with pytest.raises(MissingError, match="damaged"):
        tiny.check(folder)
    (folder / tiny.INDEX).unlink()
    with pytest.raises(MissingError, match="no weights"):
        tiny.check(folder)


def test_the_packaged_weights_are_whole_and_small():
    assert tiny.check() == tiny.check()
    backend = tiny.load(Runtime.choose("cpu"))
    assert all(torch.isfinite(value).all() for value in backend.transformer.state_dict().values())
    assert sum(path.stat().st_size for path in tiny.WEIGHTS.iterdir()) <= 40e6


def test_queries_belong_to_the_weights_they_were_trained_with(folder):
    runtime, before = Runtime.choose("cpu"), tiny.check(folder)
    assert tiny.load(runtime, folder).queries is None
    save_queries(folder, MemoryQueries(TINY, 2), sha256(tiny.part_path(folder, "transformer")), {"seed": 1})
    assert tiny.check(folder) == before  # nothing is part of a model that its index does not name
    tiny.save_index(folder, {})
    assert tiny.check(folder) != before and tiny.load(runtime, folder).queries.frames == 2
    path = tiny.part_path(folder, "queries")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(MissingError, match="queries.safetensors"):
        tiny.load(runtime, folder)
    save_queries(folder, MemoryQueries(TINY, 2), "of other weights", {})
    tiny.save_index(folder, {})
    assert tiny.check(folder) == before and tiny.load(runtime, folder).queries is None


def test_words_of_no_prompt_are_silence():
    encoder = WordTextEncoder(8)
    rows = encoder.encode(["A red ball in the city", "", "zyx"])
    assert rows.shape == (3, 16, 8)
    assert rows[1].abs().sum() == 0 and rows[0, :3].abs().sum(-1).all() and rows[0, 3:].abs().sum() == 0
    assert rows[2].abs().sum() == 0 and encoder.unknown_words("a zyx ball") == ["zyx"]


@pytest.mark.parametrize("part", ["transformer", "words", "codec"])
def test_weights_that_are_not_finite_are_refused(folder, part, capfd):
    from echo_cli.cli.app import run

    tensors = load_file(tiny.part_path(folder, part))
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, tiny.part_path(folder, part))
    tiny.save_index(folder, {})
    with pytest.raises(MissingError, match=f"{part}.safetensors: .* holds values that are not finite"):
        tiny.load(Runtime.choose("cpu"), folder)
    assert run(["models", "check", f"{folder}/"]) == 3
    assert f"{part}.safetensors: " in capfd.readouterr().err


def test_loading_imports_no_compiler() -> None:
    """It would take a second of every start."""
    script = ("import sys, torch; from echo_cli.models.tiny.model import load; from echo_cli.runtime import Runtime; "
              "load(Runtime(torch.device('cpu'), torch.float32)); sys.exit('torch._dynamo' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
