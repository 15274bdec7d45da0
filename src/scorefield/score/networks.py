"""Networks as scores of data whose process has no Gaussian kernel, or which have no process at all."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._derivatives import followed
from scorefield._inputs import Time, matching
from scorefield._shapes import factor
from scorefield.processes import SDE, ItoSDE, as_point, diffusion_and_slope
from scorefield.score.denoiser import ScoreModule
from scorefield.score.protocols import in_its_precision

TINY = 1e-12  # of g^2, where the noise ends at the boundary of a domain


class ScoreNetwork(ScoreModule):
    """score(x, t) = (2 f - d(g^2)/dx) / g^2 + F(x, log(t / T) / 8) / (c sqrt(t)): for any process.

    The first term is the score of the law in which drift and diffusion at time t would come to rest: it holds the
    states together where the network has seen none, and is what remains for large T. At early times the noise has
    grown to a standard deviation of about c sqrt(t), and the score is of the size of its inverse. Data and process
    should be of about unit size.

    Args:
        net: F(x, noise, **cond) -> a tensor of x's shape; the time goes in as the noise level.
        sde: the process.
        diffusion: c, a typical size of g, > 0.
    """

    def __init__(self, net: nn.Module, sde: SDE, diffusion: float = 1.0) -> None:
        super().__init__()
        if not 0 < diffusion < math.inf:
            raise ValueError(f"diffusion must be positive; got {diffusion}")
        self.net, self.sde, self.diffusion = net, sde, diffusion

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """The score at rest and the network's."""
        x, t = as_point(self.sde, x, t)
        wide = factor(t, x)
        g, slope = diffusion_and_slope(self.sde, x, wide)
        rest = (2 * self.sde.drift(x, wide) - 2 * g * slope) / (g**2).clamp_min(TINY)
        inp, noise, cond = in_its_precision(self.net, x, 0.125 * (t / self.sde.T).log(), cond)
        f = matching(followed(lambda inp: self.net(inp, noise, **cond), inp), x, self.net)
        return rest + f.to(x.dtype) / (self.diffusion * wide.sqrt())


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

    def score(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b *event"]:
        """F(x), at any time."""
        inp, noise, cond = in_its_precision(self.net, x, x.new_zeros(()), cond)
        return matching(followed(lambda inp: self.net(inp, noise, **cond), inp), x, self.net).to(x.dtype)
