"""The sliced Wasserstein distance."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from scorefield.metrics.pairwise import flat_pair


def sliced_wasserstein(
    x: Float[Tensor, "n *event"],
    y: Float[Tensor, "n *event"],
    *,
    power: float = 2,
    projections: int = 256,
    seed: int = 0,
) -> float:
    """(mean over directions v of W_p(v . x, v . y)^p)^(1/p), the sliced Wasserstein-p distance.

    (Rabin et al. 2012; Bonneel et al. 2015.) In one dimension the optimal transport pairs sorted values. Two sets of
    one law have a distance as well, of the order of 1 / sqrt(n): compare with that of two halves of the data.

    Args:
        x: samples.
        y: as many others.
        power: p >= 1; 1 minds outliers less than 2.
        projections: number of directions, uniform on the sphere.
        seed: of the directions.
    """
    if not power >= 1:
        raise ValueError(f"power must be at least 1; got {power}")
    if x.shape != y.shape or not len(x):
        raise ValueError(
            f"wanted two sets of equally many samples of one shape; got {tuple(x.shape)}, {tuple(y.shape)}"
        )
    x, y = flat_pair(x, y)
    v = torch.randn(x.shape[1], projections, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    v = (v / v.norm(dim=0)).to(x.device)
    return float(((x @ v).sort(0).values - (y @ v).sort(0).values).abs().pow(power).mean().pow(1 / power))
