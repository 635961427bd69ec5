"""The codec of Wan 2.1: the library's network, driven latent by latent with caches that belong to the caller.

A stream is decoded in pieces of any length and may be forked, saved and resumed: its only state is what `decode`
returns. Names and sizes are the library's. Knows nothing of files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from echo_cli.errors import MissingError
from echo_cli.models.wan.block_decoder import BlockDecoder

# one item a causal convolution: its last frames, or True after a single latent
State = list[Tensor | bool | None]

_SKIPPED = "Rep"  # the library's value for True


class WanCodec(nn.Module):
    """`decode` and `encode` take and give normalised latents [batch, frame, channel, y, x], and pictures in [0, 1].
    `config` is the library's, by default that of the release."""

    mean: Tensor  # of each channel of raw latents
    scale: Tensor  # one over the deviation

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        try:
            from diffusers import AutoencoderKLWan
        except ImportError as error:
            raise MissingError(
                f"the codec of Wan needs diffusers ({error})", hint="Run `pip install 'echo-cli[wan]'`."
            ) from None
        self.vae = AutoencoderKLWan(**config or {})
        # The release multiplies and divides by one over the deviation, and rounding shows it.
        for name, values in (("mean", self.vae.config.latents_mean), ("scale", self.vae.config.latents_std)):
            tensor = torch.tensor(values, dtype=torch.float32, device="cpu")[:, None, None]
            self.register_buffer(name, tensor if name == "mean" else 1.0 / tensor, persistent=False)
        # Counted as the release does: the 1x1 shortcut has a slot that it never uses.
        self.places = sum(type(module) is type(self.vae.post_quant_conv) for module in self.vae.decoder.modules())
        self.encoder_places = sum(
            type(module) is type(self.vae.quant_conv) for module in self.vae.encoder.modules())
        self._blockwise: BlockDecoder | None = None  # where decoding several latents together is faster

    @torch.no_grad()
    def decode(self, latents: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Pictures [batch, picture, 3, y, x], and the state for the next piece. The first latent of a stream (state
        None) gives one picture, every other four. The given state is not changed."""
        raw = (latents.float() / self.scale + self.mean).to(self.vae.dtype)
        if raw.device.type == "cuda":
            return self.decode_blockwise(raw, state)
        caches = [_SKIPPED if item is True else item for item in state or [None] * self.places]
        pictures = []
        for index, latent in enumerate(raw.unbind(1)):
            features = self.vae.post_quant_conv(latent.unsqueeze(2))
            pictures.append(
                self.vae.decoder(features, feat_cache=caches, feat_idx=[0], first_chunk=state is None and not index)
            )
        items = [True if isinstance(item, str) else item for item in caches]
        return torch.cat(pictures, 2).transpose(1, 2).float().add(1).div(2).clamp(0, 1), items

    def decode_blockwise(self, raw: Tensor, state: State | None) -> tuple[Tensor, State]:
        """As `decode`, of latents at their own scale, with one call for all but the first latent of a stream."""
        if self._blockwise is None:
            self._blockwise = BlockDecoder(self.vae)
        caches = list(state or [None] * self.places)
        pieces = [raw] if state else [raw[:, :1], *([raw[:, 1:]] if raw.shape[1] > 1 else [])]
        pictures = torch.cat([self._blockwise(piece.transpose(1, 2), caches) for piece in pieces], 2)
        return pictures.transpose(1, 2).float().add(1).div(2).clamp(0, 1), caches

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures [batch, 1 + 4 (n - 1), 3, y, x] → n latent frames; surplus pictures at the end are dropped."""
        return self.encode_piece(pictures)[0]

    @torch.no_grad()
    def encode_piece(self, pictures: Tensor, state: list[Tensor | None] | None = None) -> tuple[Tensor, Any]:
        """As `encode`, of a piece of a stream, with the state for the next. A stream (state None) begins with a picture
        alone; from then on four make a latent. The given state is not changed."""
        caches = list(state or [None] * self.encoder_places)
        film, latents = (pictures * 2 - 1).transpose(1, 2).to(self.vae.dtype), []
        starts = [*([] if state else [0]), *range(0 if state else 1, film.shape[2] - 3, 4)]
        for start in starts:
            alone = not state and start == 0
            piece = film[:, :, start:start + (1 if alone else 4)]
            latents.append(self.vae.encoder(piece, feat_cache=caches, feat_idx=[0]))
        moments = self.vae.quant_conv(torch.cat(latents, 2)).chunk(2, 1)[0]
        return (moments.transpose(1, 2).float() - self.mean) * self.scale, caches


def latent_scales(config: Mapping[str, Any]) -> tuple[Sequence[float], Sequence[float]]:
    """The mean and deviation of each channel of raw latents."""
    codec = WanCodec(config)
    return codec.vae.config.latents_mean, codec.vae.config.latents_std


@torch.no_grad()
def room(config: Mapping[str, Any], height: int, width: int, size: int) -> tuple[int, int]:
    """Bytes that weights and a stream's state take for latents of this height and width at `size` bytes a value, and an
    estimate of what decoding one latent needs temporarily: eight times its largest features, as measured."""
    with torch.device("meta"):
        codec = WanCodec(config)
        state: list[Any] = [None] * codec.places
        for first in (True, False):
            latent = torch.empty(1, codec.vae.config.z_dim, 1, height, width)
            codec.vae.decoder(codec.vae.post_quant_conv(latent), feat_cache=state, feat_idx=[0], first_chunk=first)
    kept = sum(weight.numel() for weight in codec.vae.parameters()) + sum(
        item.numel() for item in state if isinstance(item, Tensor)
    )
    return kept * size, 8 * 4 * 64 * codec.vae.config.base_dim * height * width * size
