"""Changes of resolution by two with a finite impulse response (FIR) filter, as in StyleGAN2  (Karras et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad

NEAREST = 1, 1  # taps that take the mean of 2 x 2 positions, or repeat each position
SMOOTH = 1, 3, 3, 1


class Rate(Enum):
    """Half or twice the resolution."""

    DOWN = 0
    UP = 1


class Resample(nn.Module):
    """Filters an image and takes every second position, or fills zeros in between the positions and filters.

    Args:
        rate: which of the two.
        taps: of the filter in either direction, an even number; they are scaled so that constants are kept.
    """

    taps: Tensor

    def __init__(self, rate: Rate, taps: Sequence[int]) -> None:
        super().__init__()
        self.rate = rate
        line = torch.tensor(taps, dtype=torch.float32) / sum(taps)
        self.register_buffer("taps", torch.outer(line, line) * (4 if rate is Rate.UP else 1), persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"], margin: int = 0) -> Float[Tensor, "b c h2 w2"]:
        """The image at the other resolution, with further positions on each side by which it has been made larger."""
        channels, padding = x.shape[1], len(self.taps) // 2 - 1
        filters = self.taps.expand(channels, 1, *self.taps.shape)
        # in float32 on CPUs, which have no fast kernel of this kind for bfloat16
        wide = x.float() if x.device.type == "cpu" and x.dtype == torch.bfloat16 else x
        with torch.autocast(x.device.type, enabled=False):
            if self.rate is Rate.DOWN:
                y = conv2d(wide, filters.to(wide.dtype), stride=2, padding=padding, groups=channels)
            else:
                y = conv_transpose2d(wide, filters.to(wide.dtype), stride=2, padding=padding - margin, groups=channels)
        return y.to(x.dtype)


class ResampleConv(nn.Module):
    """A 3 x 3 convolution at the finer of two resolutions, and the change from one to the other.

    Args:
        rate: of the resolution.
        inp: channels of the input.
        out: channels of the output.
        fir: filter by the taps (1, 3, 3, 1). Otherwise the convolution has stride 2 going down, and follows the
            repetition of each position going up  (Ho et al. 2020).
        centred: without a filter going down, position i of the output looks at 2i - 1, 2i, 2i + 1 of the input, as in
            PyTorch with padding 1, instead of 2i, 2i + 1, 2i + 2.
    """

    def __init__(self, rate: Rate, inp: int, out: int, fir: bool, centred: bool = False) -> None:
        super().__init__()
        self.rate, self.fir, self.centred = rate, fir, centred
        self.resample = Resample(rate, SMOOTH if fir else NEAREST)
        self.conv = nn.Conv2d(inp, out, 3, stride=2 if rate is Rate.DOWN else 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h2 w2"]:
        """The features at the other resolution."""
        if self.rate is Rate.UP:
            # beyond the borders the filtered image is not zero, as the padding of a convolution would have it
            return self.conv(self.resample(x, 1) if self.fir else pad(self.resample(x), (1, 1, 1, 1)))
        if self.fir:
            taps = self.resample.taps.to(x.dtype).expand(x.shape[1], 1, 4, 4)
            x = conv2d(x, taps, padding=2, groups=x.shape[1])
        else:
            x = pad(x, (1, 0, 1, 0) if self.centred else (0, 1, 0, 1))
        return self.conv(x)
