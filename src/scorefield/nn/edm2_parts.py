"""Parts of EDM2's U-Net, which keep the magnitude of what goes through them  (Karras et al. 2024)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from scorefield._derivatives import unrecorded
from scorefield.nn.attention import attend
from scorefield.nn.resampling import NEAREST, Rate, Resample

EPS = 1e-4
BALANCE = 0.3  # of a branch beside its shortcut
LIMIT = 256.0  # of the features, for the sake of 16 bits


class UnitRows(nn.Module):
    """A linear map or convolution whose rows have length 1: features of unit variance stay so  (section 2.2).

    Args:
        inp: channels of the input.
        out: channels of the output.
        size: of the convolution's kernel, 0 for a linear map.
    """

    def __init__(self, inp: int, out: int, size: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, inp, *[size] * 2 * (size > 0)))

    def forward(self, x: Float[Tensor, "... inp *space"], gain: Tensor | None = None) -> Tensor:
        """gain W x."""
        w = self.unit() if gain is None else gain * self.unit()
        if w.ndim == 2:
            return functional.linear(x, w.to(x.dtype))
        return functional.conv2d(x, w.to(x.dtype), padding=w.shape[-1] // 2)

    def unit(self) -> Tensor:
        """The rows at length 1."""
        return self._magnitude_one() / math.sqrt(self.weight[0].numel())

    @unrecorded()
    def constrain(self) -> None:
        """Scales the rows to unit magnitude, the root of the mean square."""
        self.weight.copy_(self._magnitude_one())

    def _magnitude_one(self) -> Tensor:
        w = self.weight
        size = w.square().flatten(1).mean(1).sqrt().reshape(-1, *[1] * (w.ndim - 1))
        return w / (EPS + size)


class Block(nn.Module):
    """Two convolutions around a scale from the embedding, beside a shortcut; then attention  (figure 21 of the paper).

    Args:
        inp: channels of the input.
        out: channels of the output.
        width: size of the embedding.
        down: on the way down, where the shortcut comes first and features are scaled to unit magnitude.
        heads: of attention, 0 for none.
        rate: of the resolution, which changes first; None to keep it.
        dropout: rate before the second convolution.
        checkpointing: keep only the input and compute the rest again in the backward pass.
    """

    def __init__(
        self,
        inp: int,
        out: int,
        width: int,
        down: bool,
        heads: int,
        rate: Rate | None,
        dropout: float,
        checkpointing: bool,
    ) -> None:
        super().__init__()
        self.is_down, self.rate, self.checkpointing = down, rate, checkpointing
        self.resample = None if rate is None else Resample(rate, NEAREST)
        self.conv1, self.conv2 = UnitRows(out if down else inp, out, 3), UnitRows(out, out, 3)
        self.scale, self.gain = UnitRows(width, out), nn.Parameter(torch.zeros(()))
        self.dropout = nn.Dropout(dropout)
        self.shortcut = UnitRows(inp, out, 1) if inp != out else None
        self.heads = heads
        self.qkv = UnitRows(out, 3 * out, 1) if heads else None
        self.mix = UnitRows(out, out, 1) if heads else None

    def forward(self, x: Float[Tensor, "b inp h w"], embedding: Tensor) -> Float[Tensor, "b out h2 w2"]:
        """The next features."""
        if self.checkpointing and torch.is_grad_enabled():
            recomputed: Tensor = checkpoint(self._features, x, embedding, use_reentrant=False)
            return recomputed
        return self._features(x, embedding)

    def _features(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = x if self.resample is None else self.resample(x)
        short = x if self.shortcut is None else self.shortcut(x)
        if self.is_down:
            x = short = unit_magnitude(short, 1)
        h = self.conv1(unit_silu(x))
        h = h * (1 + self.scale(embedding, self.gain)).reshape(-1, h.shape[1], 1, 1)
        h = weighted_sum(short, self.conv2(self.dropout(unit_silu(h))), BALANCE)
        if self.qkv is not None and self.mix is not None:
            h = weighted_sum(h, self.mix(self._attended(self.qkv(h))), BALANCE)
        return h.clamp(-LIMIT, LIMIT)

    def _attended(self, parts: Float[Tensor, "b c3 h w"]) -> Float[Tensor, "b c h w"]:
        """Attention by cosines: queries, keys and values have unit magnitude."""
        b, c, h, w = parts.shape
        heads = parts.flatten(2).mT.reshape(b, h * w, 3, self.heads, -1)
        q, k, v = unit_magnitude(heads, -1).permute(2, 0, 3, 1, 4)
        return attend(q, k, v).transpose(1, 2).reshape(b, h, w, c // 3).permute(0, 3, 1, 2)


def unit_magnitude(x: Tensor, dim: int) -> Tensor:
    """x over the root of its mean square along an axis."""
    return x / (EPS + x.square().mean(dim, keepdim=True).sqrt())


def unit_silu(x: Tensor) -> Tensor:
    """silu of unit mean square for normal numbers."""
    return functional.silu(x) / 0.596


def weighted_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """(1 - t) a + t b, over what keeps the variance if a and b are independent."""
    size = math.hypot(1 - t, t)
    return torch.add((1 - t) / size * a, b, alpha=t / size)


def joined(a: Float[Tensor, "b m h w"], b: Float[Tensor, "b n h w"]) -> Float[Tensor, "b m+n h w"]:
    """Both side by side, scaled so that they count alike and the variance stays, however many channels they have."""
    half = math.sqrt((a.shape[1] + b.shape[1]) / 2)
    return torch.cat((half / math.sqrt(a.shape[1]) * a, half / math.sqrt(b.shape[1]) * b), 1)
