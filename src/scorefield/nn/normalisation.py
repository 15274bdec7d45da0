"""Group normalisation, modulation and activation in one: what a U-Net spends its time on beside its convolutions."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import group_norm, silu

EPS = 1e-5


def groups(channels: int) -> int:
    """Groups of a group normalisation: the largest number up to 32 that divides `channels` into 4 channels or more."""
    return max(n for n in range(1, 33) if channels % n == 0 and (channels // n >= 4 or n == 1))


class Norm(nn.Module):
    """Group normalisation with a weight and bias for each channel, then silu.

    Args:
        channels: of the input.
        number: of groups; by default `groups(channels)`.
        eps: added to the variance.
    """

    def __init__(self, channels: int, number: int | None = None, eps: float = EPS) -> None:
        super().__init__()
        self.number, self.eps = number or groups(channels), eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Float[Tensor, "b c *space"], shift: Float[Tensor, "#b c"] | None = None
    ) -> Float[Tensor, "b c *space"]:
        """silu(w (x - m) / s + bias), after adding a shift to the channels of x."""
        return norm_silu(x, self.weight[None], self.bias[None], shift, self.number, self.eps)


def norm_silu(
    x: Float[Tensor, "b c *space"],
    weight: Float[Tensor, "#b c"],
    bias: Float[Tensor, "#b c"],
    shift: Float[Tensor, "#b c"] | None = None,
    number: int | None = None,
    eps: float = EPS,
) -> Float[Tensor, "b c *space"]:
    """silu(w (x - m) / s + bias) with mean m and standard deviation s of each group of channels  (Wu & He 2018).

    With a weight and bias for each sample this is adaptive group normalisation  (Dhariwal & Nichol 2021).

    Args:
        x: the features.
        weight: w.
        bias: added after the normalisation.
        shift: added to x before it.
        number: of groups; by default `groups(c)`.
        eps: added to the variance.
    """
    number = number or groups(x.shape[1])
    if torch.compiler.is_compiling():
        return _plain(x, weight, bias, shift, number, eps)
    if not torch.is_grad_enabled():
        return silu(_normalised(x, weight, bias, shift, number, eps)[0], inplace=True)
    out: Tensor = _NormSilu.apply(x, weight, bias, shift, number, eps)  # pyright: ignore[reportAssignmentType]
    return out


def _plain(x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, number: int, eps: float) -> Tensor:
    x = x if shift is None else x + _spread(shift, x)
    if len(weight) == len(bias) == 1:
        return silu(group_norm(x, number, weight[0].to(x), bias[0].to(x), eps))
    return silu(_affine(group_norm(x, number, eps=eps), weight, bias))


class _NormSilu(torch.autograd.Function):
    """The same from sums over space alone, which are fast in every memory format, with nothing kept but the input.

    torch's kernel is slow for channels that lie last in memory, as convolutions want them. A backward pass that is
    itself recorded, for second derivatives, goes through torch's own operations.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, g: int, eps: float) -> Tensor:
        out, centre, rstd = _normalised(x, weight, bias, shift, g, eps)
        ctx.save_for_backward(x, weight, bias, shift, centre, rstd)
        ctx.groups, ctx.eps = g, eps
        return silu(out, inplace=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, shift, centre, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():  # under create_graph
            inputs = [v for v, needed in zip((x, weight, bias, shift), ctx.needs_input_grad, strict=False) if needed]
            out = _plain(x.contiguous(), weight, bias, shift, ctx.groups, ctx.eps)
            found = iter(torch.autograd.grad(out, inputs, grads, create_graph=True))
            return tuple(next(found) if needed else None for needed in ctx.needs_input_grad)
        scale, (d, rest) = rstd * weight, _centred(x, centre)
        y = _affine(d, scale, bias - rest * scale)
        gy = torch.ops.aten.silu_backward(grads[0].to(y.dtype), y)
        to_bias = _sum(_flat(gy))
        to_weight = (_sum(_flat(gy * d)) - rest * to_bias) * rstd
        b, c, g = *x.shape[:2], ctx.groups
        n = x[0].numel() // g
        one, two = (
            (weight * v).view(b, g, -1).mean(2).repeat_interleave(c // g, 1) * (c // g) / n
            for v in (to_bias, to_weight)
        )
        # dx = rstd (w gy - mean(w gy) - xhat mean(w gy xhat)) as a linear function of d and gy
        slope = -(rstd**2) * two
        dx = _affine(d, slope, -rstd * one - slope * rest).addcmul_(gy, _spread(scale, x))
        to_shift = None if shift is None else _reduced(_sum(_flat(dx)), shift)
        return dx, _reduced(to_weight, weight), _reduced(to_bias, bias), to_shift, None, None


def _normalised(
    x: Tensor, weight: Tensor, bias: Tensor, shift: Tensor | None, g: int, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """w (x + shift - m) / s + bias, and m - shift and 1 / s of each channel."""
    b, c = x.shape[:2]

    def of_groups(channels: Tensor) -> Tensor:
        return channels.view(b, g, -1).mean(2).repeat_interleave(c // g, 1)

    positions = x[0, 0].numel()
    means = _sum(_flat(x)) / positions
    centre = of_groups(means) if shift is None else of_groups(means + shift) - shift
    d, rest = _centred(x, centre)
    wide = d.float() if d.dtype == torch.float16 else d  # beyond 256 it has no squares
    squares = _sum(_flat(wide * wide)) / positions - rest * (2 * (means - centre) + rest)
    rstd = of_groups(squares).clamp_min(0).add(eps).rsqrt()
    scale = rstd * weight
    return torch.addcmul(_spread(bias - rest * scale, x), d, _spread(scale, x), out=d), centre, rstd


def _centred(x: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """x - c and the centre's distance from c, the centre rounded to x's kind of numbers.

    The difference is small before it is squared or scaled, for the mean may be large beside the deviation.
    """
    rounded = centre.to(x.dtype)
    return x - _spread(rounded, x), centre - rounded


def _flat(x: Tensor) -> Tensor:
    return x.reshape(*x.shape[:2], -1)


def _sum(x: Tensor) -> Tensor:
    """Over space, in float32 at least."""
    if x.dtype == torch.bfloat16 and x.device.type == "cpu":
        # a sum into another type would copy all of x first; parts in bfloat16 lose little, since their errors average
        x = x.mT.unflatten(1, (math.gcd(x.shape[2], 16), -1)).sum(2).mT
    return x.sum(2, dtype=torch.float64 if x.dtype == torch.float64 else torch.float32)


def _spread(value: Tensor, like: Tensor) -> Tensor:
    return value.to(like.dtype).reshape(*value.shape, *(1,) * (like.ndim - 2))


def _affine(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(_spread(shift, x), x, _spread(scale, x))


def _reduced(gradient: Tensor, like: Tensor) -> Tensor:
    return gradient.sum_to_size(like.shape).to(like.dtype)
