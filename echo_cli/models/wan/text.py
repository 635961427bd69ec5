"""The text encoder of Wan 2.1: UMT5, read from its file layer by layer, so that it is never in memory as a whole.

All prompts go through a layer before the next one is read: eleven gigabytes of weights need the room of one layer, and
a film's prompts are encoded in one pass over the file. Encoded prompts are kept on disk. Knows nothing of the
transformer.
"""

import hashlib
import html
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError
from echo_cli.models.files.tensors import finite
from echo_cli.runtime import Runtime, upload

ROWS = 512
AT_ONCE = 1 << 16  # tokens that go through the encoder together; half a gigabyte
EMBEDDING, NORM = "shared.weight", "encoder.final_layer_norm.weight"


class Weights(Protocol):
    """Tensors that are read one at a time."""

    where: str

    def read(self, name: str) -> Tensor: ...


def cleaned(prompt: str) -> str:
    """A prompt as the release reads it: repaired, without HTML's escapes, with single spaces."""
    try:
        from ftfy import fix_text
    except ImportError as error:
        raise _lacking(error) from None
    return re.sub(r"\s+", " ", html.unescape(html.unescape(fix_text(prompt))).strip()).strip()


def empty_encoder(config: Mapping[str, Any]) -> nn.Module:
    """The library's encoder with these sizes and no weights; its attention rounds as the release's does."""
    encoder: nn.Module = _library_encoder(config)
    return encoder


def _library_encoder(config: Mapping[str, Any]) -> Any:
    """The same, of the library's own class, which is not typed."""
    try:
        from transformers import AutoModelForTextEncoding, UMT5Config
    except ImportError as error:
        raise _lacking(error) from None
    with torch.device("meta"):
        return AutoModelForTextEncoding.from_config(UMT5Config(**config), attn_implementation="eager").eval()


class Stack:
    """UMT5's layers, one at a time. `config` is the library's."""

    def __init__(self, weights: Weights, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        self.weights, self.device, self.dtype = weights, device, dtype
        # one layer that all layers are loaded into
        self._mould = _library_encoder({**config, "num_layers": 1}).encoder
        self.layers, self._eps = config["num_layers"], self._mould.config.layer_norm_epsilon
        self._mould.final_layer_norm = nn.Identity()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Tensor]) -> list[Tensor]:
        """Indices [token] of each prompt, on the host → rows [token, dim]. No padding is ever computed."""
        embedding = self.weights.read(EMBEDDING)
        hidden = [finite(EMBEDDING, embedding[indices], self.weights.where).to(self.device, self.dtype).unsqueeze(0)
                  for indices in prompts]
        del embedding
        for layer in range(self.layers):
            self._pour(layer)
            hidden = [self._mould(inputs_embeds=rows).last_hidden_state for rows in hidden]
        norm = self._read(NORM)
        return [self._normed(rows[0], norm) for rows in hidden]

    def _pour(self, layer: int) -> None:
        """Loads one layer's weights in place of the previous layer's."""
        names = [name for name in self._mould.state_dict() if name.startswith("block.0.")]
        self._mould.load_state_dict({name: self._read(f"encoder.block.{layer}.{name.removeprefix('block.0.')}")
                                     for name in names}, strict=False, assign=True)

    def _read(self, name: str) -> Tensor:
        return finite(name, self.weights.read(name), self.weights.where).to(self.device, self.dtype)

    def _normed(self, rows: Tensor, weight: Tensor) -> Tensor:
        wide = rows.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)).to(weight.dtype)


class WanText:
    """Rows of prompts, from memory, from the folder `kept`, or from the encoder, in this order. `opened` opens the
    encoder's file, which is closed again after reading; `digest` names its weights and the tokenizer, so that rows of
    another encoder are never used."""

    def __init__(
        self,
        opened: Callable[[], Weights],
        config: Mapping[str, Any],
        tokenizer: Path,
        runtime: Runtime,
        digest: str,
        kept: Path | None,
    ) -> None:
        self._opened, self._config, self._tokenizer, self._kept = opened, config, tokenizer, kept
        self._device = runtime.device
        # In float16 the network overflows; the release runs it in bfloat16.
        self._dtype = torch.float32 if runtime.dtype is torch.float16 else runtime.dtype
        self._digest = digest
        self._rows: dict[str, Tensor] = {}  # cleaned prompt → [token, dim], on the host, if no disk keeps them

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[prompt, ROWS, dim]; rows past a prompt's end are zero."""
        self.prepare(prompts)
        rows = [row for prompt in prompts if (row := self._stored(cleaned(prompt))) is not None]
        assert len(rows) == len(prompts), "every prompt has just been encoded"
        return upload(
            torch.stack([nn.functional.pad(row, (0, 0, 0, ROWS - len(row))) for row in rows]), self._device
        )

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode those that were never encoded before, in one pass over the encoder, or several for a storyboard of
        thousands of scenes."""
        lacking = [prompt for prompt in dict.fromkeys(map(cleaned, prompts)) if self._stored(prompt) is None]
        if not lacking:
            return
        stack, indices = Stack(self._opened(), self._config, self._device, self._dtype), self._indices(lacking)
        tokens = list(accumulate(map(len, indices)))
        for _, group in groupby(range(len(lacking)), key=lambda index: tokens[index] // AT_ONCE):
            chosen = list(group)
            for index, rows in zip(chosen, stack([indices[index] for index in chosen]), strict=True):
                self._keep(lacking[index], rows.cpu())

    def unknown_words(self, prompt: str) -> Sequence[str]:
        return ()

    def _indices(self, prompts: Sequence[str]) -> list[Tensor]:
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise _lacking(error) from None
        try:
            tokenizer = AutoTokenizer.from_pretrained(self._tokenizer, local_files_only=True)
        except (OSError, ValueError, ImportError) as error:
            raise MissingError(f"{self._tokenizer}: no tokenizer can be read here ({error})",
                               hint="Download the model again, or check it with `echo-cli models check`.") from None
        return [torch.tensor(tokenizer(prompt, truncation=True, max_length=ROWS).input_ids) for prompt in prompts]

    def _place(self, prompt: str) -> Path | None:
        if self._kept is None:
            return None
        key = hashlib.sha256("\0".join((self._digest, str(self._dtype), prompt)).encode()).hexdigest()
        return self._kept / key[:2] / f"{key[2:]}.safetensors"

    def _stored(self, prompt: str) -> Tensor | None:
        """The stored rows, or None if they cannot be read."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._place(prompt)
        if prompt in self._rows or path is None or not path.is_file():
            return self._rows.get(prompt)
        try:
            return load_file(path)["rows"]
        except (SafetensorError, OSError, ValueError, KeyError):
            return None

    def _keep(self, prompt: str, rows: Tensor) -> None:
        """Store rows for later runs; in memory for this one if the disk refuses."""
        from safetensors.torch import save

        path = self._place(prompt)
        if path is None:
            self._rows[prompt] = rows
            return
        growing = path.with_name(f"{path.name}.{os.getpid()}")  # several runs may store the same prompt at once
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            growing.write_bytes(save({"rows": rows.contiguous()}))
            growing.replace(path)
        except OSError:
            self._rows[prompt] = rows
            with suppress(OSError):
                growing.unlink()


def _lacking(error: ImportError) -> MissingError:
    return MissingError(
        f"the text encoder of Wan needs transformers and ftfy ({error})", hint="Run `pip install 'echo-cli[wan]'`."
    )
