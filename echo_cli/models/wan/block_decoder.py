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
        self._norm_silu, self._add, self._enlarge = _plain_norm_silu, _plain_add, _plain_enlarge
        if usable(vae.post_quant_conv.weight.device):
            from echo_cli.kernels.pictures import add, enlarge, norm_silu

            self._norm_silu, self._add, self._enlarge = norm_silu, add, enlarge
        for module in vae.decoder.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                form = torch.channels_last_3d if isinstance(module, nn.Conv3d) else torch.channels_last
                module.weight.data = module.weight.data.contiguous(memory_format=form)
        out = vae.decoder.conv_out
        padding = max(0, _OUTPUTS - out.out_channels)
        self._out = F.pad(out.weight.data, (0,) * 9 + (padding,)).contiguous(memory_format=torch.channels_last_3d)

    def __call__(self, raw: Tensor, caches: Caches) -> Tensor:
        """Latents [batch, channel, frame, y, x] of one call to pictures of the same axes; `caches` are brought up to
        date. The first latent of a stream must come alone."""
        self._caches, self._at = caches, 0
        network = self._vae.decoder
        x = _last(self._vae.post_quant_conv(raw)).contiguous()
        x = self._add(self._convolve(network.conv_in, x), network.conv_in.bias)
        resnets = network.mid_block.resnets
        x = self._residual(resnets[0], x)
        for attention, block in zip(network.mid_block.attentions, resnets[1:], strict=True):
            x = self._residual(block, _last(attention(_first(x))).contiguous())
        for level in network.up_blocks:
            for block in level.resnets:
                x = self._residual(block, x)
            if level.upsamplers is not None:
                x = self._grow(level.upsamplers[0], x)
        made = self._convolve(network.conv_out, x, network.norm_out, weight=self._out)
        return _first(made[..., :network.conv_out.out_channels] + network.conv_out.bias)

    def _residual(self, block: Any, x: Tensor) -> Tensor:
        shortcut = block.conv_shortcut
        beside = x if isinstance(shortcut, nn.Identity) else F.linear(x, shortcut.weight.flatten(1), shortcut.bias)
        x = self._convolve(block.conv1, x, block.norm1)
        x = self._convolve(block.conv2, x, block.norm2, block.conv1.bias)
        return self._add(x, block.conv2.bias, beside)

    def _convolve(self, conv: nn.Conv3d, x: Tensor, norm: Any = None, bias: Tensor | None = None,
                  weight: Tensor | None = None) -> Tensor:
        """A causal convolution, without its own bias, over its cached frames and x. Before that, x is normalised, after
        the bias of the convolution that it comes from is added."""
        batch, frames, height, width, channels = x.shape
        before = self._caches[self._at]
        wide = torch.empty(batch, _REACH + frames, height, width, channels, dtype=x.dtype, device=x.device)
        self._remembered(wide, before)
        for film, into in zip(x, wide, strict=True):
            if norm is None:
                into[_REACH:] = film
            else:
                self._norm_silu(film, bias, norm.gamma.flatten(), into[_REACH:])
        self._remember(wide, None if before is None else _REACH, frames)
        sides = (0, conv.kernel_size[1] // 2, conv.kernel_size[2] // 2)
        return _last(F.conv3d(_first(wide), conv.weight if weight is None else weight, padding=sides)).contiguous()

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
        times, bias = 1, None
        if resample.mode == "upsample3d":
            before = self._caches[self._at]
            if before is None:  # the first latent of a stream is a single picture
                self._caches[self._at] = True
                self._at += 1
            else:
                x, times, bias = self._convolve(resample.time_conv, x), 2, resample.time_conv.bias
        large = torch.empty(batch * frames * times, 2 * height, 2 * width, channels, dtype=x.dtype, device=x.device)
        self._enlarge(x.flatten(0, 1), bias, times, large)
        conv = resample.resample[1]
        x = F.conv2d(large.permute(0, 3, 1, 2), conv.weight, padding=1).permute(0, 2, 3, 1).contiguous()
        return self._add(x, conv.bias).unflatten(0, (batch, frames * times))


def _plain_norm_silu(x: Tensor, bias: Tensor | None, gain: Tensor, out: Tensor) -> None:
    x = x if bias is None else x + bias
    wide = F.normalize(x.float(), dim=-1).to(x.dtype)
    out.copy_(F.silu(wide * x.shape[-1] ** 0.5 * gain))


def _plain_add(x: Tensor, bias: Tensor, other: Tensor | None = None) -> Tensor:
    x = x.add_(bias)
    return x if other is None else x.add_(other)


def _plain_enlarge(x: Tensor, bias: Tensor | None, times: int, out: Tensor) -> None:
    x = x if bias is None else x + bias
    x = x.unflatten(-1, (times, -1)).permute(0, 3, 1, 2, 4)  # [frame, times, y, x, channel]
    out.copy_(x.repeat_interleave(2, 2).repeat_interleave(2, 3).flatten(0, 1))
