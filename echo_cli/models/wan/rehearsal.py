"""A model's folder with random weights at any size: to rehearse a machine before the real weights are on it.

Every part has its real names and sizes, and the tokenizer works on bytes: films rendered with it show noise, but take
the time and the memory of real ones. Knows nothing of films.
"""

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError, OutputError
from echo_cli.files import make_folder, output_errors, partial, sha256, write_partial, write_whole
from echo_cli.models.files.convert import grow_safetensors, name_parts
from echo_cli.models.files.folders import DESCRIPTION, FORMAT, VERSION, read_object, sizes_of, tokenizer_files
from echo_cli.models.files.hashes import known_sha256
from echo_cli.models.transformer import Transformer
from echo_cli.models.wan.codec import WanCodec
from echo_cli.models.wan.hashes import PARTS
from echo_cli.models.wan.text import EMBEDDING, empty_encoder
from echo_cli.spec import ModelSpec

TEXT = {"vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6}
SMALL_TEXT = {"vocab_size": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 1, "num_heads": 4}  # enough to run
MADE = {"by": "random weights", "layout": "echo"}


class Random:
    """Tensors of a module's names and shapes and of a trained network's magnitude, drawn when they are read: gains are
    one, the rest shrinks with the number of inputs."""

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
          progress: Callable[[str, int, int], None] = lambda part, done, whole: None, force: bool = False) -> None:
    """Writes the folder. `codec` and `text` are the libraries' sizes, by default the released ones. `progress` gets
    each part, its bytes done and in all. Parts that a stopped rehearsal finished are kept; files that no rehearsal
    wrote are overwritten only with `force`."""
    begun = _begun(folder)
    _make_room(folder, begun, force)
    parts: dict[str, Any] = {}
    growing: dict[Path, str] = {}
    for seed, (part, (module, dtype, config)) in enumerate(_modules(spec, codec, text).items()):
        path, facts = folder / f"{part}.safetensors", begun.get(part, {})
        if facts.get("config") != config or not (_holds(partial(path), facts) or _is(path, facts)):
            written = grow_safetensors(path, Random(module, dtype, seed), None, functools.partial(progress, part))
            facts = {"file": path.name, **written, "config": config, "from": []}
        parts[part] = facts
        if partial(path).exists():
            growing[path] = facts["sha256"]
        write_partial(folder / DESCRIPTION, _described(spec, parts))
    name_parts(folder, growing)
    with output_errors(folder):
        (folder / "tokenizer").mkdir(exist_ok=True)
        speller().save_pretrained(folder / "tokenizer")
    parts["tokenizer"] = {
        "folder": "tokenizer",
        "files": {path.name: sha256(path) for path in tokenizer_files(folder / "tokenizer")},
    }
    write_whole(folder / DESCRIPTION, _described(spec, parts))


def _modules(
    spec: ModelSpec, codec: Mapping[str, Any] | None, text: Mapping[str, Any] | None
) -> dict[str, tuple[nn.Module, torch.dtype, dict[str, Any]]]:
    """Each part without weights, its dtype, and its sizes as plain JSON values."""
    sizes = {**TEXT, "d_model": spec.text_dim, **(text or {})}
    with torch.device("meta"):
        vae = WanCodec(codec).vae
        config = {key: value for key, value in vae.config.items() if not key.startswith("_")}
        modules = {
            "transformer": (Transformer(spec), torch.bfloat16, sizes_of(spec)),
            "codec": (vae, torch.float32, config),
            "text": (empty_encoder(sizes), torch.bfloat16, sizes),
        }
    return {part: (module, dtype, json.loads(json.dumps(config, default=list)))
            for part, (module, dtype, config) in modules.items()}


def _described(spec: ModelSpec, parts: Mapping[str, Any]) -> str:
    described = {"format": FORMAT, "version": VERSION, "model": spec.name, "parts": parts, "made": MADE}
    return json.dumps(described, indent=2) + "\n"


def _begun(folder: Path) -> dict[str, Any]:
    """The parts that a rehearsal has written here, by name, with their bytes and hashes; nothing if none has."""
    for path in (partial(folder / DESCRIPTION), folder / DESCRIPTION):
        try:
            described = read_object(path)
        except MissingError:
            continue
        parts = described.get("parts")
        if described.get("made") == MADE and isinstance(parts, dict):
            return {part: facts for part, facts in parts.items() if isinstance(facts, dict)}
    return {}


def _make_room(folder: Path, begun: Mapping[str, Any], force: bool) -> None:
    files = {f"{part}.safetensors": part for part in PARTS}
    make_folder(folder, {DESCRIPTION, "tokenizer", *files}.__contains__, "a rehearsal")
    strange = [name for name, part in files.items()
               if (folder / name).exists() and not _is(folder / name, begun.get(part, {}))]
    if not begun and (folder / DESCRIPTION).exists():
        strange.append(DESCRIPTION)
    if strange and not force:
        raise OutputError(f"{folder / strange[0]} was not written by a rehearsal; it may be part of a real model",
                          "Name another folder, or overwrite it with --force.")


def _holds(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a file exists and has the recorded size."""
    return path.is_file() and path.stat().st_size == facts.get("bytes")


def _is(path: Path, facts: Mapping[str, Any]) -> bool:
    """Whether a file is the recorded one, by its hash."""
    return _holds(path, facts) and known_sha256(path) == facts.get("sha256")


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
