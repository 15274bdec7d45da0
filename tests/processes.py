"""The table of processes that tests run over."""

import math

from scorefield import EDM, VE, VP, Cosine, GaussianSDE, Power, Rectified, SubVP

PROCESSES: list[GaussianSDE] = [VE(), VP(), SubVP(), Power(), Power(math.e), Cosine(), Rectified(), EDM()]


def name(sde: GaussianSDE) -> str:
    return f"{type(sde).__name__}{getattr(sde, 'base', '')}"
