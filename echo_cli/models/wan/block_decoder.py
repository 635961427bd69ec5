"""The library's decoder for several latents in one call, with channels last: the same weights and states, for GPUs.

The library decodes one latent after another and copies each convolution's cached frames in front of its input. Here a
norm writes directly behind the cached frames, in the layout that convolutions prefer, and all latents after the first
of a stream share the calls. Sums are taken in another order than the library's, so pictures differ by rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from echo_cli.kernels import usable

Caches = list[Any]  # one item a causal convolution: its last frames [batch, channel, frame, y, x]; True; None

_REACH = 2  # earlier frames that a causal convolution reads
_OUTPUTS = 8  # channels of a convolution's output that tensor cores like at least


def _last(x: Tensor) -> Tensor:
    """[batch, channel, frame, y, x] seen as [batch, frame, y, x, channel]."""
    return x.permute(0, 2, 3, 4, 1)


def _first(x: Tensor) -> Tensor:
    return x.permute(0, 4, 1, 2, 3)


class BlockDecoder:
    """Runs the decoder of a codec, which belongs to the library and is untyped. Inside, features are
    [batch, frame, y, x, channel]."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._norm_silu = _plain_norm_silu
        if usable(vae.post_quant_conv.weight.device):
            from echo_cli.kernels.pictures import norm_silu

            self._norm_silu = norm_silu
        for module in vae.decoder.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                form = torch.channels_last_3d if isinstance(module, nn.Conv3d) else torch.channels_last
                module.weight.data = module.weight.data.contiguous(memory_format=form)
        out = vae.decoder.conv_out
        padding = max(0, _OUTPUTS - out.out_channels)
        self._out = (F.pad(out.weight.data, (0,) * 9 + (padding,)).contiguous(memory_format=torch.channels_last_3d),
                     F.pad(out.bias.data, (0, padding)))

    def __call__(self, raw: Tensor, caches: Caches) -> Tensor:
        """Latents [batch, channel, frame, y, x] of one call to pictures of the same axes; `caches` are brought up to
        date. The first latent of a stream must come alone."""
        self._caches, self._at = caches, 0
        network = self._vae.decoder
        x = _last(self._vae.post_quant_conv(raw)).contiguous()
        x = self._convolve(network.conv_in, x, None)
        resnets = network.mid_block.resnets
        x = self._residual(resnets[0], x)
        for attention, block in zip(network.mid_block.attentions, resnets[1:], strict=True):
            x = self._residual(block, _last(attention(_first(x))).contiguous())
        for level in network.up_blocks:
            for block in level.resnets:
                x = self._residual(block, x)
            if level.upsamplers is not None:
                x = self._grow(level.upsamplers[0], x)
        made = self._convolve(network.conv_out, x, network.norm_out, self._out)
        return _first(made[..., :network.conv_out.out_channels])

    def _residual(self, block: Any, x: Tensor) -> Tensor:
        shortcut = block.conv_shortcut
        beside = x if isinstance(shortcut, nn.Identity) else F.linear(x, shortcut.weight.flatten(1), shortcut.bias)
        x = self._convolve(block.conv1, x, block.norm1)
        return self._convolve(block.conv2, x, block.norm2).add_(beside)

    def _convolve(self, conv: nn.Conv3d, x: Tensor, norm: Any, weights: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """A causal convolution over its cached frames and x, which is normalised first."""
        batch, frames, height, width, channels = x.shape
        before = self._caches[self._at]
        wide = torch.empty(batch, _REACH + frames, height, width, channels, dtype=x.dtype, device=x.device)
        self._remembered(wide, before)
        if norm is None:
            wide[:, _REACH:] = x
        elif batch == 1:
            self._norm_silu(x, norm.gamma.flatten(), wide[:, _REACH:])
        else:
            for film, into in zip(x, wide, strict=True):
                self._norm_silu(film, norm.gamma.flatten(), into[_REACH:])
        self._remember(wide, None if before is None else _REACH, frames)
        weight, bias = weights or (conv.weight, conv.bias)
        sides = (0, conv.kernel_size[1] // 2, conv.kernel_size[2] // 2)
        return _last(F.conv3d(_first(wide), weight, bias, padding=sides)).contiguous()

    def _remembered(self, wide: Tensor, before: Any) -> None:
        """A convolution's cached frames, at the front of its input; zeros if there are none."""
        if isinstance(before, Tensor):
            there = before.shape[2]
            wide[:, _REACH - there:_REACH] = _last(before)
            wide[:, :_REACH - there] = 0
        else:
            wide[:, :_REACH] = 0

    def _remember(self, wide: Tensor, before: int | None, frames: int) -> None:
        """The last frames available; at the beginning of a stream, only those of its first latent."""
        kept = min(_REACH, frames) if before is None else _REACH
        self._caches[self._at] = _first(wide[:, -kept:].clone())
        self._at += 1

    def _grow(self, resample: Any, x: Tensor) -> Tensor:
        """Twice the rows and columns, and twice the frames where the level has them."""
        batch, frames, height, width, channels = x.shape
        times = 1
        if resample.mode == "upsample3d":
            before = self._caches[self._at]
            if before is None:  # the first latent of a stream is a single picture
                self._caches[self._at] = True
                self._at += 1
            else:
                x, times = self._convolve(resample.time_conv, x, None), 2
        x = x.view(batch, frames, height, width, times, channels).permute(0, 1, 4, 2, 3, 5)
        x = x[:, :, :, :, None, :, None].expand(-1, -1, -1, -1, 2, -1, 2, -1)
        x = x.reshape(batch * frames * times, 2 * height, 2 * width, channels)
        conv = resample.resample[1]
        x = F.conv2d(x.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=1).permute(0, 2, 3, 1)
        return x.unflatten(0, (batch, frames * times)).contiguous()


def _plain_norm_silu(x: Tensor, gain: Tensor, out: Tensor) -> None:
    wide = F.normalize(x.float(), dim=-1).to(x.dtype)
    out.copy_(F.silu(wide * x.shape[-1] ** 0.5 * gain))
