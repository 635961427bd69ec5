"""The parts of the embedded model at any size, with random weights that depend only on the sizes."""

import torch

from echo_cli.models.backend import Backend
from echo_cli.models.files.loading import random_transformer
from echo_cli.models.tiny.codec import TinyCodec
from echo_cli.models.tiny.text import WordTextEncoder
from echo_cli.runtime import Runtime
from echo_cli.spec import ModelSpec

_CODEC_WIDTHS = (4, 8, 8, 8)


def load(spec: ModelSpec, runtime: Runtime, digest: str) -> Backend:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        codec, text = TinyCodec(spec.channels, _CODEC_WIDTHS), WordTextEncoder(spec.text_dim)
    for module, device in ((codec, runtime.decoding), (text, runtime.device)):
        module.to(device, runtime.dtype).requires_grad_(False).eval()
    return Backend(spec, random_transformer(spec, 3, runtime.device, runtime.dtype), text, codec, digest)
