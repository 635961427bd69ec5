"""The text encoder of Wan 2.1: UMT5, read from its file layer by layer, so that it never stands anywhere as a whole.

All prompts go through a layer before the next one is read: eleven gigabytes of weights need the room of one layer, and
a film's prompts are encoded in one reading. What was encoded once is kept on disk. Knows nothing of the transformer.
"""

import hashlib
import html
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError
from echo_cli.runtime import Runtime

ROWS = 512
_EMBEDDING, _NORM = "shared.weight", "encoder.final_layer_norm.weight"


class Weights(Protocol):
    """Tensors that are read one at a time."""

    def read(self, name: str) -> Tensor: ...


def cleaned(prompt: str) -> str:
    """A prompt as the release reads it: mended, without HTML's escapes, with single spaces."""
    try:
        from ftfy import fix_text
    except ImportError as error:
        raise _lacking(error) from None
    return re.sub(r"\s+", " ", html.unescape(html.unescape(fix_text(prompt))).strip()).strip()


class Stack:
    """UMT5's layers, one at a time. `config` is the library's."""

    def __init__(self, weights: Weights, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> None:
        try:
            from transformers import AutoModelForTextEncoding, UMT5Config
        except ImportError as error:
            raise _lacking(error) from None
        self.weights, self.device, self.dtype = weights, device, dtype
        told = UMT5Config(**config)
        self.layers, self._eps = told.num_layers, told.layer_norm_epsilon
        told.num_layers = 1
        with torch.device("meta"):  # one layer is the mould for all; eager attention, since others round differently
            self._mould = AutoModelForTextEncoding.from_config(told, attn_implementation="eager").eval().encoder
        self._mould.final_layer_norm = nn.Identity()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Tensor]) -> list[Tensor]:
        """Indices [token] of each prompt, on the host → rows [token, dim]. No padding is ever computed."""
        embedding = self.weights.read(_EMBEDDING)
        hidden = [embedding[indices].to(self.device, self.dtype).unsqueeze(0) for indices in prompts]
        del embedding
        for layer in range(self.layers):
            self._pour(layer)
            hidden = [self._mould(inputs_embeds=rows).last_hidden_state for rows in hidden]
        norm = self.weights.read(_NORM).to(self.device, self.dtype)
        return [self._normed(rows[0], norm) for rows in hidden]

    def _pour(self, layer: int) -> None:
        """One layer's weights into the mould; those of the layer before go."""
        names = [name for name in self._mould.state_dict() if name.startswith("block.0.")]
        self._mould.load_state_dict({name: self.weights.read(f"encoder.block.{layer}.{name.removeprefix('block.0.')}")
                                    .to(self.device, self.dtype) for name in names}, strict=False, assign=True)

    def _normed(self, rows: Tensor, weight: Tensor) -> Tensor:
        wide = rows.float()
        return weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)).to(weight.dtype)


class WanText:
    """Rows of prompts, from memory, from the folder `kept`, or from the encoder, in this order. `digest` names the
    encoder's weights and tokenizer: rows of another encoder are never taken."""

    def __init__(self, weights: Weights, config: Mapping[str, Any], tokenizer: Path, runtime: Runtime, digest: str,
                 kept: Path | None) -> None:
        self._weights, self._config, self._tokenizer, self._kept = weights, config, tokenizer, kept
        self._device = runtime.device
        # In float16 the network overflows; the release runs it in bfloat16.
        self._dtype = torch.float32 if runtime.dtype is torch.float16 else runtime.dtype
        self._digest = digest
        self._rows: dict[str, Tensor] = {}  # cleaned prompt → [token, dim], on the host

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """[prompt, ROWS, dim]; rows past a prompt's end are zero."""
        self.prepare(prompts)
        rows = [self._rows[cleaned(prompt)] for prompt in prompts]
        return torch.stack([nn.functional.pad(found, (0, 0, 0, ROWS - len(found))) for found in rows]).to(self._device)

    def prepare(self, prompts: Sequence[str]) -> None:
        """Encode whatever of these was never encoded before, all in one reading of the encoder."""
        wanted = [prompt for prompt in dict.fromkeys(map(cleaned, prompts)) if prompt not in self._rows]
        for prompt in wanted:
            if (rows := self._found(prompt)) is not None:
                self._rows[prompt] = rows
        lacking = [prompt for prompt in wanted if prompt not in self._rows]
        if not lacking:
            return
        stack = Stack(self._weights, self._config, self._device, self._dtype)
        for prompt, rows in zip(lacking, stack(self._indices(lacking)), strict=True):
            self._rows[prompt] = rows.cpu()
            self._keep(prompt, self._rows[prompt])

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
                               hint="Fetch the model again, or check it: echo-cli models check.") from None
        return [torch.tensor(tokenizer(prompt, truncation=True, max_length=ROWS).input_ids) for prompt in prompts]

    def _place(self, prompt: str) -> Path | None:
        if self._kept is None:
            return None
        key = hashlib.sha256("\0".join((self._digest, str(self._dtype), prompt)).encode()).hexdigest()
        return self._kept / key[:2] / f"{key[2:]}.safetensors"

    def _found(self, prompt: str) -> Tensor | None:
        """Rows kept by an earlier run; what cannot be read is encoded again."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._place(prompt)
        if path is None or not path.is_file():
            return None
        try:
            return load_file(path)["rows"]
        except (SafetensorError, OSError, ValueError, KeyError):
            return None

    def _keep(self, prompt: str, rows: Tensor) -> None:
        """For the next run; a disk that takes nothing costs that run its time, and this one nothing."""
        from safetensors.torch import save

        path = self._place(prompt)
        if path is None:
            return
        growing = path.with_name(f"{path.name}.{os.getpid()}")  # several runs may keep the same prompt at once
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            growing.write_bytes(save({"rows": rows.contiguous()}))
            growing.replace(path)
        except OSError:
            with suppress(OSError):
                growing.unlink()


def _lacking(error: ImportError) -> MissingError:
    return MissingError(f"the text encoder of Wan needs transformers and ftfy ({error})", hint="pip install 'echo-cli[wan]'")
