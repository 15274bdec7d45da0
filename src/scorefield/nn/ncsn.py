"""The networks of NCSN and NCSNv2: a RefineNet of dilated residual blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, elu, interpolate, max_pool2d

from scorefield._inputs import Shape, as_shape, check_event
from scorefield.nn.network import Network, filled

EPS = 1e-5


class NCSN(Network):
    """Residual blocks at falling resolutions, refined upwards from the lowest  (Song & Ermon 2019, 2020).

    The way up is a RefineNet  (Lin et al. 2017).
    With `noise_levels` it is NCSN, whose norms have weights for each noise level, which comes as its number; without it
    is NCSNv2, which is not told the noise level: its preconditioner divides the output by sigma. The last two levels do
    not halve the resolution: their convolutions are dilated, by 2 and 4. Sides that the strides do not divide are
    filled up with zeros, and the output is cut to size.

    | network | arguments |
    |---|---|
    | NCSN | `noise_levels=10` |
    | NCSNv2 for 32 and 64 px | the defaults |
    | NCSNv2 for 96 and 128 px | `channels=(128, 256, 256, 512, 512)` |
    | NCSNv2 for 256 px | `channels=(128, 256, 256, 256, 512, 512)` |

    Args:
        event_shape: (channels, height, width); only the number of channels is used.
        classes: 0, since it takes no labels.
        channels: width of each level, finest first, at least 3 levels; the last two have the same.
        noise_levels: how many levels the norms know, 0 for none.
    """

    def __init__(
        self,
        event_shape: Shape,
        classes: int = 0,
        channels: Sequence[int] = (128, 256, 256, 256),
        noise_levels: int = 0,
    ) -> None:
        super().__init__()
        event_shape = as_shape(event_shape)
        if len(event_shape) != 3 or classes:
            raise ValueError(
                f"NCSN takes images, events of shape (channels, height, width), without labels; got events "
                f"{event_shape}, classes={classes}: use UNet, or train without labels (--use_labels false)"
            )
        if len(channels) < 3 or min(channels) < 2 or channels[-1] != channels[-2] or noise_levels < 0:
            raise ValueError(
                "wanted at least 3 levels of 2 and more channels, the last two alike, and noise_levels >= 0; got "
                f"channels={tuple(channels)}, noise_levels={noise_levels}"
            )
        self.event_shape, self.classes = event_shape, classes
        self.channels, self.noise_levels = tuple(channels), noise_levels
        last = len(channels) - 1
        self.inp = nn.Conv2d(event_shape[0], channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, wide in enumerate(channels):
            before, dilation = channels[max(0, level - 1)], max(1, 2 ** (level - last + 2))
            self.down.append(_Block(before, wide, noise_levels, dilation, leads=level > 0))
            self.down.append(_Block(wide, wide, noise_levels, dilation))
            self.up.insert(0, _Refine(wide, before, noise_levels, lowest=level == last, highest=level == 0))
        self.norm = _Norm(channels[0], noise_levels)
        self.out = nn.Conv2d(channels[0], event_shape[0], 3, padding=1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # pyright: ignore[reportArgumentType]
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        noise: Float[Tensor, "..."],
        label: Int64[Tensor, "..."] | None = None,
        cond: Tensor | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """F(x, noise), with a noise level from 0 to noise_levels - 1, if there are any."""
        if label is not None or cond is not None:
            raise ValueError("NCSN takes neither labels nor conditions")
        check_event(x, self.event_shape, "this NCSN", any_size=True)
        height, width = x.shape[2:]
        h = self.inp(filled(x, 2 ** (len(self.channels) - 3)).contiguous(memory_format=torch.channels_last))
        features: list[Tensor] = []
        for block in self.down:
            h = block(h, noise)
            features.append(h)
        made = None
        for refine, own in zip(self.up, features[::-2], strict=True):  # of two blocks a level, the second
            made = refine(own, made, noise)
        return self.out(elu(self.norm(made, noise)))[..., :height, :width]


class _Norm(nn.Module):
    """Instance normalisation that keeps the means  (InstanceNorm++; Song & Ermon 2019, appendix A.1).

        gamma ((x - m) / s + alpha (m - mean(m)) / std(m)) + beta

    with mean m and deviation s of each channel, and mean(m) and std(m) over the channels. Between two noise levels the
    weights lie between theirs.

    Args:
        channels: of the features.
        levels: how many noise levels have weights of their own, 0 for one for all.
    """

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.levels, rows = levels, max(1, levels)
        scales = 1 + 0.02 * torch.randn(rows, 2 * channels)
        self.weights = nn.Parameter(torch.cat((scales, torch.zeros(rows, channels)), 1))

    def forward(self, x: Float[Tensor, "b c h w"], noise: Float[Tensor, "..."]) -> Float[Tensor, "b c h w"]:
        """The normalised features."""
        m, variance = x.mean((2, 3)), x.var((2, 3), correction=0)
        among = (m - m.mean(1, keepdim=True)) / (m.var(1, keepdim=True) + EPS).sqrt()
        gamma, alpha, beta = self._at(noise).chunk(3, 1)
        scale = gamma / (variance + EPS).sqrt()
        shift = gamma * alpha * among + beta - scale * m
        return torch.addcmul(shift[..., None, None], x, scale[..., None, None])

    def _at(self, noise: Tensor) -> Tensor:
        """gamma, alpha and beta of a noise level, a row for each sample or one for the whole batch."""
        if not self.levels:
            return self.weights
        place = noise.clamp(0, self.levels - 1)
        low = place.long()
        high = (low + 1).clamp(max=self.levels - 1)
        between = torch.lerp(self.weights[low], self.weights[high], (place - low)[..., None])
        return between.reshape(-1, self.weights.shape[1])


class _Block(nn.Module):
    """shortcut(x) + conv2(elu(norm2(conv1(elu(norm1(x)))))), with the mean of 2 x 2 positions if it leads down.

    Args:
        inp: channels of the input.
        out: channels of the output.
        levels: of noise.
        dilation: of the convolutions; above 1 the resolution is kept.
        leads: whether this block leads from one level to the next.
    """

    def __init__(self, inp: int, out: int, levels: int, dilation: int, leads: bool = False) -> None:
        super().__init__()
        self.halves = leads and dilation == 1
        self.norm1, self.norm2 = _Norm(inp, levels), _Norm(inp, levels)
        self.conv1 = nn.Conv2d(inp, inp, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv2d(inp, out, 3, padding=dilation, dilation=dilation)
        self.shortcut = None
        if leads:
            dilated = nn.Conv2d(inp, out, 3, padding=dilation, dilation=dilation)
            self.shortcut = nn.Conv2d(inp, out, 1) if self.halves else dilated

    def forward(self, x: Float[Tensor, "b c h w"], noise: Tensor) -> Float[Tensor, "b out h2 w2"]:
        """The next features."""
        h = self.conv1(elu(self.norm1(x, noise)))
        h = self.conv2(elu(self.norm2(h, noise)))
        h = h + (x if self.shortcut is None else self.shortcut(x))
        return avg_pool2d(h, 2) if self.halves else h


class _Refine(nn.Module):
    """Joins a level's features with what has been made of the lower ones, and takes in ever wider surroundings.

    Args:
        channels: of both inputs.
        out: channels of the output.
        levels: of noise.
        lowest: there is nothing below.
        highest: the last one, with two more blocks at its end.
    """

    def __init__(self, channels: int, out: int, levels: int, lowest: bool, highest: bool) -> None:
        super().__init__()
        self.own = _Units(channels, 2, levels)
        self.below = None if lowest else _Units(channels, 2, levels)
        self.to_own = None if lowest else _NormConv(channels, out, levels, bias=True)
        self.to_below = None if lowest else _NormConv(channels, out, levels, bias=True)
        self.pooled = nn.ModuleList(_NormConv(out, out, levels) for _ in range(2))
        self.pool = _mean_of_25 if levels else _largest_of_25  # as the authors' code for NCSN and for NCSNv2 has it
        self.end = _Units(out, 3 if highest else 1, levels)

    def forward(self, own: Tensor, below: Tensor | None, noise: Tensor) -> Float[Tensor, "b out h w"]:
        """The features for the next higher level."""
        h = self.own(own, noise)
        if below is not None and self.below is not None and self.to_own is not None and self.to_below is not None:
            lower = self.to_below(self.below(below, noise), noise)
            h = self.to_own(h, noise) + interpolate(lower, size=h.shape[2:], mode="bilinear", align_corners=True)
        h = path = elu(h)
        for layer in self.pooled:
            path = layer(path, noise, self.pool)
            h = h + path
        return self.end(h, noise)


def _mean_of_25(x: Tensor) -> Tensor:
    return avg_pool2d(x, 5, 1, 2)


def _largest_of_25(x: Tensor) -> Tensor:
    return max_pool2d(x, 5, 1, 2)


class _Units(nn.Module):
    """Residual units x + conv(elu(norm(conv(elu(norm(x)))))), the norms only with noise levels.

    Args:
        channels: of input and output.
        count: of units.
        levels: of noise.
    """

    def __init__(self, channels: int, count: int, levels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_NormConv(channels, channels, levels) for _ in range(2 * count))

    def forward(self, x: Float[Tensor, "b c h w"], noise: Tensor) -> Float[Tensor, "b c h w"]:
        """The features after the last unit."""
        for first, second in zip(self.layers[::2], self.layers[1::2], strict=True):
            x = x + second(first(x, noise, elu), noise, elu)
        return x


class _NormConv(nn.Module):
    """conv(between(norm(x))), the norm only with noise levels.

    Args:
        inp: channels of the input.
        out: channels of the output.
        levels: of noise.
        bias: of the convolution.
    """

    def __init__(self, inp: int, out: int, levels: int, bias: bool = False) -> None:
        super().__init__()
        self.norm = _Norm(inp, levels) if levels else None
        self.conv = nn.Conv2d(inp, out, 3, padding=1, bias=bias)

    def forward(self, x: Tensor, noise: Tensor, between: Callable[..., Tensor] | None = None) -> Tensor:
        x = x if self.norm is None else self.norm(x, noise)
        return self.conv(x if between is None else between(x))
