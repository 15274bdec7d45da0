"""Models of the density itself: energies, and densities recovered from any score."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from scorefield._inputs import Time, matching, whole
from scorefield._shapes import event_sum, factor
from scorefield.processes import GaussianSDE, as_point
from scorefield.score.preconditioned import Precond, Preconditioned
from scorefield.score.protocols import Score, in_its_precision


class Energy(Preconditioned):
    """A score that is a gradient: s = -grad E, with E known up to a constant of t  (Salimans & Ho 2021).

    A network F = grad G, such as `nn.Potential`, makes the denoiser D = skip x + out F(inp x), hence

        -E = log p_t(x) = (alpha skip - 1) / (2 sigma^2) |x|^2 + alpha out / (sigma^2 inp) G(inp x)

    Being a `Denoiser`, it is trained by every objective and sampled by every solver; its log-density lets HMC and MALA
    accept or refuse. Each call differentiates the network once more than an ordinary one does: about 2.5 times the
    time, and training needs a second derivative, which compiled networks do not have.

    Args:
        net: F(x, noise, **cond) and G by the name of `value`.
        sde: the process.
        precond: one of the preconditioners.
    """

    def __init__(self, net: nn.Module, sde: GaussianSDE, precond: Precond) -> None:
        super().__init__(net, sde, precond)
        if not hasattr(net, "value"):
            raise TypeError(f"{type(net).__name__} has no `value` that it is the gradient of: wrap it in nn.Potential")

    def log_density(self, x: Float[Tensor, "b *event"], t: Time, **cond: Tensor) -> Float[Tensor, "b"]:
        """log p_t(x) up to a constant of t."""
        x, t = as_point(self.sde, x, t)
        alpha, sigma, coefs = self.sde.alpha(t), self.sde.sigma(t), self.precond(self.sde, t)
        square = -self.precond.rest(coefs, alpha, sigma) / (2 * sigma**2)
        scale = alpha * coefs.out / (sigma**2 * coefs.inp)
        net: Any = self.net
        inp, noise, cond = in_its_precision(self.net, factor(coefs.inp, x) * x, coefs.noise, cond)
        value = net.value(inp, noise, **cond).to(x.dtype)
        return factor(square, value) * event_sum(x**2) + factor(scale, value) * value


def log_density_ratio(
    model: Score, x: Float[Tensor, "b *event"], y: Float[Tensor, "b *event"], t: Time, nodes: int = 32
) -> Float[Tensor, "b"]:
    """log p_t(y) - log p_t(x) = int_0^1 s(x + u (y - x), t) . (y - x) du, by Gauss-Legendre quadrature.

    For any score, on any process. A learned score need not be a gradient, unless it is an `Energy`: then the integral
    depends on the path, here the straight line, and log_density_ratio(x, y) + (y, z) may differ from (x, z).

    Args:
        model: the score.
        x: where the line begins.
        y: where it ends.
        t: the time, () or (b,).
        nodes: of the quadrature, a model call each, at least 1. Between far modes the integrand has a peak as narrow as
            they are: compare with twice as many.
    """
    if x.shape != y.shape:
        raise ValueError(f"wanted two points of one shape; got {tuple(x.shape)} and {tuple(y.shape)}")
    x, t = as_point(model.sde, x, t, data=True)  # a score of the data themselves is asked at any time
    places, weights = np.polynomial.legendre.leggauss(whole(nodes, "nodes"))
    total = x.new_zeros(len(x))
    for place, weight in zip(places.tolist(), weights.tolist(), strict=True):
        total = total + 0.5 * weight * event_sum(
            matching(model.score(torch.lerp(x, y, 0.5 * (1 + place)), t), x, model) * (y - x)
        )
    return total
