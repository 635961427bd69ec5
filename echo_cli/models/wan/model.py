"""A model of Wan's family, assembled from the files of its folder. Their names there are not known here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from echo_cli.models.backend import Backend, Codec
from echo_cli.models.files.eight_bits import EightBits, measured
from echo_cli.models.files.folders import SCALED_DECODER
from echo_cli.models.files.loading import stream_into
from echo_cli.models.files.tensors import Tensors
from echo_cli.models.fp8 import attend_in_eight_bits, use_eight_bits
from echo_cli.models.offload import keep_layers_on_host
from echo_cli.models.queries.files import QUERIES
from echo_cli.models.queries.weights import load_queries
from echo_cli.models.registry import cache_folder
from echo_cli.models.running import Offload, Pictures, Running
from echo_cli.models.transformer import Transformer
from echo_cli.models.tuning import choose_attention, eight_bit_layers, quicken
from echo_cli.models.wan.codec import WanCodec, latent_scales
from echo_cli.models.wan.fast_decoder import FastCodec, FastDecoder, decoder_alone
from echo_cli.models.wan.hashes import decoder_digest
from echo_cli.models.wan.text import WanText
from echo_cli.models.wan.weights import Choice, Weights, codec_config, open_weights
from echo_cli.runtime import Runtime


def load(runtime: Runtime, folder: Path, running: Running = Running(), choice: Choice = Choice()) -> Backend:
    """Transformer and codec on the device; the text encoder stays in its file until there are prompts."""
    weights = open_weights(folder, choice)
    hashes, decoder_hash = weights.hashes, decoder_digest(folder, running.pictures)
    text = WanText(lambda: open_weights(folder, choice).text, weights.text_config, weights.tokenizer, runtime,
                   f"{hashes['text']} {hashes['tokenizer']}", cache_folder() / "text")
    queries = load_queries(folder, weights.spec, runtime.device) if QUERIES in hashes else None
    return Backend(
        weights.spec,
        _transformer(weights, runtime, running, measured(folder, weights.spec.depth, weights.digest)),
        text,
        _codec(weights, runtime, running.pictures),
        weights.digest,
        queries,
        decoder_hash=decoder_hash,
        home=torch.device("cpu") if running.offload in (Offload.MEMORY, Offload.LAYERS) else None,
    )


def _transformer(weights: Weights, runtime: Runtime, running: Running, near: EightBits | None) -> Transformer:
    with torch.device("meta"):
        transformer = Transformer(weights.spec)
    visiting = running.offload is Offload.LAYERS
    stream_into(transformer, weights.transformer, "cpu" if visiting else runtime.device, runtime.dtype)
    if running.fast:
        use_eight_bits(transformer, runtime.device)
    if visiting:
        keep_layers_on_host(transformer, runtime.device)
        _move_all_but_layers(transformer, runtime.device)
    choose_attention(transformer)
    if running.fast:
        layers, kernel, _ = eight_bit_layers(near, runtime.device, runtime.dtype)
        if kernel:
            attend_in_eight_bits(transformer, layers, kernel)
    wanted = runtime.device.type == "cuda" if running.compiled is None else running.compiled
    if wanted and not visiting:  # a compiler needs weights that stay in place
        quicken(transformer)
    return transformer


def _move_all_but_layers(transformer: Transformer, device: torch.device) -> None:
    for name, module in transformer.named_children():
        if name != "blocks":
            module.to(device)


def _codec(weights: Weights, runtime: Runtime, pictures: Pictures) -> Codec:
    if pictures is Pictures.FAST:
        assert weights.fast_decoder and weights.files.fast_decoder, "its hash is taken first"
        scaled = weights.files.fast_decoder.stem == SCALED_DECODER
        with torch.device("meta"):
            fast = FastDecoder(weights.spec.channels, scales=latent_scales(weights.codec_config) if scaled else None)
        stream_into(fast, decoder_alone(weights.fast_decoder), runtime.decoding, runtime.dtype)
        return FastCodec(fast.to(runtime.decoding),
                         lambda: _full_codec(weights.codec_config, weights.codec, runtime))
    config, tensors = weights.codec_config, weights.codec
    if pictures is Pictures.LIGHT:
        assert weights.light_codec, "its hash is taken first"
        config, tensors = codec_config(weights.light_codec), weights.light_codec
    return _full_codec(config, tensors, runtime)


def _full_codec(config: Mapping[str, Any], tensors: Tensors, runtime: Runtime) -> WanCodec:
    with torch.device("meta"):
        codec = WanCodec(config)
    stream_into(codec.vae, tensors, runtime.decoding, runtime.dtype)
    return codec.to(runtime.decoding).eval()
