"""Networks as scores of data whose process has no Gaussian kernel, or which have no process at all."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._shapes import expand
from scorefield.score.denoiser import ScoreModule
from scorefield.sde import SDE, ItoSDE


class ScoreNetwork(ScoreModule):
    """score(x, t) = F(x, log(t / T) / 8) / (g sqrt(t)): for any process, Gaussian or not.

    By a time t the noise has grown to a standard deviation of about g sqrt(t), and the score is of the size of its
    inverse. A network of an ordinary output follows the rest. Data and process should be of about unit size.

    Args:
        net: F(x, noise, **cond) -> a tensor of x's shape; the time goes in as the noise level.
        sde: the process.
        g: typical size of the diffusion, > 0.
    """

    def __init__(self, net: nn.Module, sde: SDE, g: float = 1.0) -> None:
        super().__init__()
        if not 0 < g < math.inf:
            raise ValueError(f"g must be positive; got {g}")
        self.net, self.sde, self.g = net, sde, g

    def score(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """F / (g sqrt(t))."""
        t = t.double()
        f = self.net(x, (0.125 * (t / self.sde.T).log()).to(x), **cond)
        return f.to(x.dtype) / expand(self.g * t.sqrt(), x).to(x.dtype)


def _nothing(x: Tensor, t: Tensor) -> Tensor:
    return torch.zeros_like(x)


class PlainScore(ScoreModule):
    """s(x) = F(x): the score of the data themselves, without noise or time  (Hyvarinen 2005; Song et al. 2020).

    The naive score model: trained by implicit or sliced score matching on `Clean` states, sampled by Langevin dynamics
    (`chain` with `Langevin(length=...)`). Where there are no data it has learnt nothing, so that chains stay in the
    mode where they start, or stray: the reason for noise of many levels. Its process stands still, dx = 0.

    Args:
        net: F(x, noise, **cond) -> a tensor of x's shape; its noise level is 0.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.sde = ItoSDE(f=_nothing, g=_nothing)

    def score(self, x: Float[Tensor, "b *event"], t: Tensor, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """F(x), at any time."""
        return self.net(x, x.new_zeros(()), **cond).to(x.dtype)
