"""The table of processes that tests run over."""

import math

from scorefield import EDM, SDE, VE, VP, Cosine, GaussianSDE, NormalPrior, Power, Rectified, SubVP

PROCESSES: list[GaussianSDE] = [VE(), VP(), SubVP(), Power(), Power(math.e), Cosine(), Rectified(), EDM()]


def name(sde: GaussianSDE) -> str:
    return f"{type(sde).__name__}{getattr(sde, 'base', '')}"


class Warming(SDE):
    """dx = -x (1 + t) dt + (1 + t) dw, as a user writes it: without a closed kernel."""

    @property
    def prior(self):
        return NormalPrior(1.0)

    def drift(self, x, t):
        return -x * (1 + t)

    def diffusion(self, x, t):
        return 1 + t
