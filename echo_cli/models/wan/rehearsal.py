"""A model's folder with random weights at any size: to rehearse a machine before the real weights are on it.

Every part is there, under its own names and sizes, and the tokenizer spells: films made with it show noise, and need
the time and the memory of real ones. Knows nothing of films.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from echo_cli.files import sha256, told_as_output, write_whole
from echo_cli.models.files.convert import write_safetensors
from echo_cli.models.files.folders import DESCRIPTION, FORMAT, VERSION, sizes_of, tokenizer_files
from echo_cli.models.transformer import Transformer
from echo_cli.models.wan.codec import WanCodec
from echo_cli.models.wan.text import EMBEDDING, empty_encoder
from echo_cli.spec import ModelSpec

TEXT = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6}


class Random:
    """Tensors of a module's names and shapes and of a trained network's magnitude, drawn when they are read: gains are
    one, the rest falls with the number of inputs."""

    def __init__(self, module: nn.Module, dtype: torch.dtype, seed: int) -> None:
        self.where, self._dtype = "random weights", dtype
        self._empty = {
            name: tensor for name, tensor in module.state_dict().items() if name != "encoder.embed_tokens.weight"
        }
        self._generator = torch.Generator().manual_seed(seed)

    def names(self) -> Sequence[str]:
        return tuple(self._empty)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._empty[name].shape)

    def dtype(self, name: str) -> torch.dtype:
        return self._dtype

    def read(self, name: str) -> Tensor:
        empty, leaf = self._empty[name], name.rpartition(".")[2]
        if leaf == "gamma" or (leaf == "weight" and empty.dim() == 1):
            return torch.ones(empty.shape, dtype=self._dtype)
        inputs = (
            1
            if name == EMBEDDING
            else empty.shape[-1]
            if leaf == "modulation" or empty.dim() == 1
            else empty[0].numel()
        )
        return torch.empty(empty.shape, dtype=self._dtype).normal_(0, inputs**-0.5, generator=self._generator)


def write(folder: Path, spec: ModelSpec, codec: Mapping[str, Any] | None = None, text: Mapping[str, Any] | None = None,
          told: Callable[[str, int, int], None] = lambda part, done, whole: None) -> None:
    """The folder, whole: `codec` and `text` are the libraries' sizes, the released ones when left out. `told` hears of
    bytes done, and in all, of each part."""
    with told_as_output(folder):
        (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    sizes = {**TEXT, "d_model": spec.text_dim, **(text or {})}
    with torch.device("meta"):
        vae = WanCodec(codec).vae
        empty = {
            "transformer": (Transformer(spec), torch.bfloat16, sizes_of(spec)),
            "codec": (vae, torch.float32, {key: value for key, value in vae.config.items() if not key.startswith("_")}),
            "text": (empty_encoder(sizes), torch.bfloat16, sizes),
        }
    parts: dict[str, Any] = {}
    for seed, (part, (module, dtype, config)) in enumerate(empty.items()):
        path = folder / f"{part}.safetensors"
        written = write_safetensors(path, Random(module, dtype, seed), None, functools.partial(told, part))
        parts[part] = {"file": path.name, **written, "config": config, "from": []}
    speller().save_pretrained(folder / "tokenizer")
    parts["tokenizer"] = {
        "folder": "tokenizer",
        "files": {path.name: sha256(path) for path in tokenizer_files(folder / "tokenizer")},
    }
    description = {"format": FORMAT, "version": VERSION, "model": spec.name, "parts": parts,
                   "made": {"by": "random weights", "layout": "echo"}}
    write_whole(folder / DESCRIPTION, json.dumps(description, indent=2, default=list) + "\n")


def speller() -> Any:
    """A tokenizer that knows bytes and no words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", *letters])}
    tokenizer = Tokenizer(models.BPE(known, [], unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
