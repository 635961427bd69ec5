"""Wan's text encoder against recordings of the released one, and what is kept of its work."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytest.importorskip("transformers", reason="needs the extra: pip install 'echo-cli[wan]'")
pytest.importorskip("ftfy", reason="needs the extra: pip install 'echo-cli[wan]'")

from echo_cli.errors import MissingError
from echo_cli.models.wan.names import text_name
from echo_cli.models.wan.text import ROWS, Stack, WanText, cleaned
from echo_cli.runtime import Runtime

GOLDEN = Path(__file__).parents[2] / "golden" / "wan"
TOLD = json.loads((GOLDEN / "manifest.json").read_text())
CPU = Runtime(torch.device("cpu"), torch.float32)


class Reading:
    """The recorded weights, counting how often each is read."""

    where = "the recorded weights"

    def __init__(self) -> None:
        self.tensors = {
            text_name(name): tensor for name, tensor in load_file(GOLDEN / "umt5.weights.safetensors").items()
        }
        self.reads: list[str] = []

    def read(self, name: str) -> torch.Tensor:
        self.reads.append(name)
        return self.tensors[name]


@cache
def config() -> dict:
    said = TOLD["cases"]["umt5"]["config"]
    return {"vocab_size": said["vocab"], "d_model": said["dim"], "d_kv": said["dim_attn"] // said["num_heads"],
            "d_ff": said["dim_ffn"], "num_layers": said["num_layers"], "num_heads": said["num_heads"],
            "relative_attention_num_buckets": said["num_buckets"], "relative_attention_max_distance": 128,
            "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6}


@cache
def words(folder: Path) -> Path:
    """A tokenizer of thirty words, in the files that the library reads."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    known = {
        word: index for index, word in enumerate(["<pad>", "</s>", "<unk>"] + [f"word{index}" for index in range(30)])
    }
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return words(tmp_path_factory.mktemp("tokenizer"))


@pytest.mark.parametrize("case", ["short", "long", "pad512"])
def test_rows_are_the_release_and_padding_costs_nothing(case: str) -> None:
    recorded = load_file(GOLDEN / "umt5.io.safetensors")
    ids, lengths, wanted = recorded[f"{case}.ids"], recorded[f"{case}.mask"].sum(1), recorded[f"{case}.out"]
    stack = Stack(Reading(), config(), CPU.device, CPU.dtype)
    made = stack([row[:length].long() for row, length in zip(ids, lengths, strict=True)])
    for rows, length, out in zip(made, lengths, wanted, strict=True):
        kept = min(int(length), out.shape[0])
        assert rows.shape == (length, out.shape[1])
        torch.testing.assert_close(rows[:kept], out[:kept], atol=2e-5, rtol=0)
        assert not out[kept:].any()


@pytest.mark.parametrize(("prompt", "wanted"), TOLD["prompt_clean"]["cases"])
def test_prompts_are_cleaned_as_the_release_does(prompt: str, wanted: str) -> None:
    assert cleaned(prompt) == wanted


def text(weights: Reading, tokenizer: Path, kept: Path | None, digest: str = "one") -> WanText:
    return WanText(lambda: weights, config(), tokenizer, CPU, digest, kept)


def test_rows_past_the_prompt_are_zero_and_every_prompt_has_512(tokenizer: Path) -> None:
    encoder = text(Reading(), tokenizer, None)
    rows = encoder.encode(["word1 word2", "word3", " ".join(["word4"] * 700)])
    assert rows.shape == (3, ROWS, config()["d_model"])
    assert [int((row != 0).any(-1).sum()) for row in rows] == [3, 2, ROWS]
    assert rows[0, :3].any(-1).all() and not rows[0, 3:].any()
    assert torch.equal(encoder.encode(["word3"])[0], rows[1])


def test_all_prompts_take_one_reading_of_the_encoder(tokenizer: Path) -> None:
    weights = Reading()
    encoder = text(weights, tokenizer, None)
    encoder.prepare(["word1", "word2 word3", "word1 "])
    assert sorted(weights.reads) == sorted(weights.tensors)
    encoder.encode(["word2  word3"])
    encoder.encode(["word1"])
    assert len(weights.reads) == len(weights.tensors)


def test_what_was_encoded_once_is_taken_from_the_disk(tokenizer: Path, tmp_path: Path) -> None:
    first = text(Reading(), tokenizer, tmp_path).encode(["word1 word5"])
    weights = Reading()
    assert torch.equal(text(weights, tokenizer, tmp_path).encode(["word1   word5"]), first) and not weights.reads
    text(weights, tokenizer, tmp_path, digest="another encoder").encode(["word1 word5"])
    assert weights.reads


def test_a_damaged_or_unwritable_cache_only_costs_time(tokenizer: Path, tmp_path: Path) -> None:
    first = text(Reading(), tokenizer, tmp_path).encode(["word1"])
    (kept,) = tmp_path.rglob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:40])
    assert torch.equal(text(Reading(), tokenizer, tmp_path).encode(["word1"]), first)
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert torch.equal(text(Reading(), tokenizer, blocked).encode(["word1"]), first)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix not in (".safetensors", "")]


def test_a_folder_without_a_tokenizer_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no tokenizer can be read here"):
        text(Reading(), tmp_path, None).encode(["word1"])
