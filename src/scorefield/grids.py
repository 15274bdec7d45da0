"""Time grids for sampling: `steps + 1` decreasing times from T to 0, as Python floats.

Where T lies beyond the process's `t_start` the first step is longer, since nothing happens between the two. The last
gap, from `end` to 0, is the denoise step (see `Knot`), so that a solver with one network call a step makes `steps`
calls. `end` is the process's `t_end` unless it is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from scorefield._inputs import whole
from scorefield.processes import SDE, VE, VP, GaussianSDE


def uniform(sde: SDE, steps: int, end: float | None = None) -> list[float]:
    """Equal steps of time."""
    return _grid(sde, steps, end, lambda t: t, lambda u: u)


def quadratic(sde: SDE, steps: int, end: float | None = None) -> list[float]:
    """Equal steps of sqrt(t), denser near the data  (Song, Meng & Ermon 2021, appendix D.2)."""
    return _grid(sde, steps, end, torch.sqrt, torch.square)


def uniform_log_snr(sde: GaussianSDE, steps: int, end: float | None = None) -> list[float]:
    """Equal steps of the log-SNR  (Lu et al. 2022)."""
    return _grid(sde, steps, end, sde.log_snr, sde.time)


def uniform_information(sde: GaussianSDE, steps: int, end: float | None = None, data_std: float = 40.0) -> list[float]:
    """Equal steps of log(1 + (data_std alpha / sigma)^2), twice what x_t tells about a normal x_0 of that std, in nats.

    Equal steps of the log-SNR where the noise is below `data_std`, and ever longer ones above, where D hardly changes.

    Args:
        sde: the process.
        steps: at least 1.
        end: the last time before 0.
        data_std: > 0; tens of times the standard deviation of the data, whose large structures reach far above it.
    """
    if not data_std > 0:
        raise ValueError(f"data_std must be positive; got {data_std}")
    shift = 2 * math.log(data_std)
    return _grid(
        sde,
        steps,
        end,
        lambda t: functional.softplus(sde.log_snr(t) + shift),
        lambda u: sde.time(u + (-torch.expm1(-u)).log() - shift),
    )


def karras(sde: GaussianSDE, steps: int, end: float | None = None, rho: float = 7.0) -> list[float]:
    """Equal steps of (sigma / alpha)^(1 / rho)  (Karras et al. 2022, eq. 5).

    Args:
        sde: the process.
        steps: at least 1.
        end: the last time before 0.
        rho: > 0; a larger value takes shorter steps near the data.
    """
    if not rho > 0:
        raise ValueError(f"rho must be positive; got {rho}")
    return _grid(
        sde,
        steps,
        end,
        lambda t: (-0.5 / rho * sde.log_snr(t)).exp(),
        lambda u: sde.time(-2 * rho * u.log()),
    )


def smld(sde: VE, levels: int) -> list[float]:
    """The times of SMLD's `levels` noise scales, a geometric sequence from sigma_max to sigma_min, and 0.

    At these times VE's marginals are those of the discrete chain of Song & Ermon 2019.
    """
    levels = whole(levels, "levels")
    return [*torch.linspace(sde.T, 0, levels, dtype=torch.float64).clamp_min(sde.t_min).tolist(), 0.0]


def ddpm(sde: VP, levels: int) -> list[float]:
    """The times at which VP's marginals are those of DDPM's chain with `levels` steps, and 0.

    The chain has beta_i = beta_min/N + (beta_max - beta_min)/N (i - 1)/(N - 1) and alphabar_i = prod (1 - beta_j), so
    B(t_i) = -log alphabar_i  (Ho et al. 2020; Song et al. 2021, appendix B). Its marginals are not those of the
    continuous process at i/N: for N = 1000 the standard deviation at the first step is 0.01 instead of 0.0105. The few
    last levels, which are noisier than the process at T, are replaced by T.
    """
    levels = whole(levels, "levels")
    betas = torch.linspace(sde.beta_min, sde.beta_max, levels, dtype=torch.float64) / levels
    if float(betas.max()) >= 1:
        raise ValueError(f"DDPM's chain needs every beta_i < 1: use more than {sde.beta_max:g} levels; got {levels}")
    b = -torch.log1p(-betas).cumsum(0)
    times = sde.time(-torch.log(torch.expm1(b)))
    return [sde.T, *times[times < sde.t_start].flip(0).tolist(), 0.0]


def _grid(
    sde: SDE, steps: int, end: float | None, to: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor]
) -> list[float]:
    steps = whole(steps, "steps")
    end = sde.t_end if end is None else end
    if not 0 < end < sde.t_start:
        raise ValueError(f"the last time before 0 must lie in (0, {sde.t_start}); got {end}")
    first, last = to(torch.tensor([sde.t_start, end], dtype=torch.float64)).tolist()
    inner = back(torch.linspace(first, last, steps, dtype=torch.float64)).tolist()[1:-1]
    return [sde.T, *inner, end, 0.0] if steps > 1 else [sde.T, 0.0]
