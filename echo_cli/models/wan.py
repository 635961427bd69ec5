"""A model of Wan's family, put together from the files of its folder. Which names they go by there is not known here."""

from pathlib import Path

import torch

from echo_cli.models.backend import Backend
from echo_cli.models.loading import stream_into
from echo_cli.models.registry import cache_folder
from echo_cli.models.transformer import Transformer
from echo_cli.models.wan_codec import WanCodec
from echo_cli.models.wan_text import WanText
from echo_cli.models.wan_weights import open_weights
from echo_cli.runtime import Runtime


def load(runtime: Runtime, folder: Path) -> Backend:
    """Transformer and codec on the device; the text encoder stays in its file until there are prompts."""
    weights = open_weights(folder)
    hashes = weights.hashes
    with torch.device("meta"):
        transformer, codec = Transformer(weights.spec), WanCodec(weights.codec_config)
    stream_into(transformer, weights.transformer, runtime.device, runtime.dtype)
    stream_into(codec.vae, weights.codec, runtime.device, runtime.dtype)
    text = WanText(weights.text, weights.text_config, weights.tokenizer, runtime,
                   f"{hashes['text']} {hashes['tokenizer']}", cache_folder() / "text")
    return Backend(weights.spec, transformer, text, codec.to(runtime.device).eval(), weights.digest)
