"""The peers' samplers for a given number of network calls, each on several grids; for quality_vs_nfe.py.

A sampler is a function from the states at T, divided by alpha, to the data. The network is given as D(x / alpha, s)
with the noise-to-signal ratio s = sigma / alpha, so that one network serves every parametrisation.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor

import scorefield as sf

Network = Callable[[Tensor, Tensor], Tensor]
Sampler = Callable[[Tensor], Tensor]
Family = Callable[[sf.GaussianSDE, Network, int], Iterator[tuple[str, Sampler]]]


_missing: set[str] = set()


def deterministic(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    """Solvers of the probability-flow ODE."""
    return _installed((_azula, _diffusers, _k_diffusion), sde, network, nfe)


def stochastic(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    """Solvers of the reverse SDE; they draw from torch's global generator."""
    return _installed((_azula_sde, _diffusers_sde, _k_diffusion_sde), sde, network, nfe)


def _installed(
    families: tuple[Family, ...], sde: sf.GaussianSDE, network: Network, nfe: int
) -> Iterator[tuple[str, Sampler]]:
    for family in families:
        try:
            yield from family(sde, network, nfe)
        except ImportError as error:
            if str(error) not in _missing:
                print(f"left out: {error}", file=sys.stderr)
            _missing.add(str(error))


def _ratios(sde: sf.GaussianSDE, times: list[float]) -> Tensor:
    knots = sde.knots(times)
    return torch.tensor([k.sigma / k.alpha for k in knots], dtype=torch.float64)


def _ends(sde: sf.GaussianSDE) -> tuple[float, ...]:
    """Ratios s for the last call: the one at the process's t_end, and larger ones, which suit small budgets."""
    return float(_ratios(sde, [sde.t_end])), 0.02, 0.05, 0.12


# --- azula: solvers on any grid, then a call of the denoiser -------------------------------------------------------


def _azula(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    from azula import sample

    adams = (sample.zABSampler, sample.vABSampler, sample.zEABSampler, sample.xEABSampler, sample.REABSampler)
    kinds = [*product(adams, ({"order": 2}, {"order": 3})), (sample.DDIMSampler, {}), (sample.HeunSampler, {})]
    for kind, options in kinds:
        calls = 2 if kind is sample.HeunSampler else 1
        if (nfe - 1) % calls:
            continue
        for grid, times in _azula_grids(sde, (nfe - 1) // calls + 1):
            name = f"azula {kind.__name__.removesuffix('Sampler')}{options.get('order', '')} {grid}"
            yield name, _azula_sampler(sde, network, times, kind, options)


def _azula_sde(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    from azula.sample import DDPMSampler

    for grid, times in _azula_grids(sde, nfe):
        yield f"azula DDPM on {grid}", _azula_sampler(sde, network, times, DDPMSampler, {})


def _azula_grids(sde: sf.GaussianSDE, points: int) -> Iterator[tuple[str, list[float]]]:
    for end in _ends(sde):
        t = sde.knot_at(float(-2 * torch.tensor(end, dtype=torch.float64).log())).t
        for grid in (sf.grids.uniform_log_snr, sf.grids.karras, sf.grids.uniform):
            yield f"{grid.__name__} to {end:.2g}", grid(sde, points, t)[:-1]


def _azula_sampler(
    sde: sf.GaussianSDE, network: Network, times: list[float], kind: Any, options: dict[str, int]
) -> Sampler:
    from azula.denoise import Denoiser, DiracPosterior

    knots = sde.knots(times)
    alpha, sigma = (torch.tensor([getattr(k, c) for k in knots], dtype=torch.float64) for c in ("alpha", "sigma"))

    class Model(Denoiser):
        """Its time is the number of the point on the grid."""

        def __init__(self) -> None:
            super().__init__()
            self.schedule = lambda t: (alpha[t.round().long()], sigma[t.round().long()])

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> DiracPosterior:
            a, s = self.schedule(t)
            return DiracPosterior(network(x_t / a, s / a))

    steps = len(times) - 1
    loop = kind(Model(), start=0.0, stop=float(steps), steps=steps, silent=True, dtype=torch.float64, **options)
    return lambda x: network(loop(x * alpha[0]) / alpha[-1], sigma[-1] / alpha[-1])


# --- diffusers: a schedule of 1000 levels of this process, in variance-preserving form -----------------------------


def _diffusers(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    import diffusers as d

    grids: dict[str, dict[str, Any]] = {
        "linspace": {"timestep_spacing": "linspace"},
        "trailing": {"timestep_spacing": "trailing"},
        "karras": {"use_karras_sigmas": True},
        "exponential": {"use_exponential_sigmas": True},
    }
    lower: dict[str, dict[str, Any]] = {
        "": {"lower_order_final": True},
        ", full last order": {"lower_order_final": False},
    }
    for order, (final, ending) in product((2, 3), lower.items()):
        for grid, spacing in (grids | {"lu": {"use_lu_lambdas": True}}).items():
            for form in ("midpoint", "heun") if order == 2 else ("midpoint",):
                options = {"solver_order": order, "solver_type": form, **spacing, **ending}
                name = f"DPM++{order}M {form} {grid}{final}"
                yield from _scheduler(sde, network, nfe, name, d.DPMSolverMultistepScheduler, options)
        for grid, spacing in grids.items():
            options = {"solver_order": order, **spacing, **ending}
            name = f"{order} {grid}{final}"
            yield from _scheduler(sde, network, nfe, f"DEIS-{name}", d.DEISMultistepScheduler, options)
            if (order, final) == (3, ", full last order"):
                continue  # a singular matrix
            yield from _scheduler(sde, network, nfe, f"UniPC-{name}", d.UniPCMultistepScheduler, options)
    if nfe % 2:
        for grid, spacing in grids.items():
            yield from _scheduler(sde, network, (nfe + 1) // 2, f"Heun {grid}", d.HeunDiscreteScheduler, spacing)


def _diffusers_sde(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    import diffusers as d

    for grid in ("linspace", "karras", "exponential"):
        spacing = {"timestep_spacing": grid} if grid == "linspace" else {f"use_{grid}_sigmas": True}
        options = {"algorithm_type": "sde-dpmsolver++", **spacing}
        yield from _scheduler(
            sde, network, nfe, f"SDE-DPM-Solver++(2M) on {grid}", d.DPMSolverMultistepScheduler, options
        )
    for grid in ("linspace", "trailing"):
        options = {"clip_sample": False, "timestep_spacing": grid}
        yield from _scheduler(sde, network, nfe, f"DDPM on {grid}", d.DDPMScheduler, options)


def _scheduler(
    sde: sf.GaussianSDE, network: Network, steps: int, name: str, make: Any, options: dict[str, Any]
) -> Iterator[tuple[str, Sampler]]:
    levels = _ratios(sde, torch.linspace(sde.t_end, sde.T, 1000, dtype=torch.float64).tolist())
    cumulative = 1 / (1 + levels**2)
    betas = 1 - cumulative / torch.cat([torch.ones(1), cumulative[:-1]])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = make(trained_betas=betas.tolist(), prediction_type="sample", **options)
        scheduler.set_timesteps(steps)
    yield f"diffusers {name}", lambda x: _scheduled(scheduler, network, x)


def _scheduled(scheduler: Any, network: Network, x: Tensor) -> Tensor:
    """Heun's scheduler works on x / alpha, the others on x with alpha^2 + sigma^2 = 1."""
    known = getattr(scheduler, "sigmas", None)  # DDPM's has none
    ratios = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod)[scheduler.timesteps.long()].sqrt()
    ratios = torch.cat([ratios, torch.zeros(1)]) if known is None else known
    plain = type(scheduler).__name__ == "HeunDiscreteScheduler"
    alphas = torch.ones(len(ratios)) if plain else (1 + ratios.double() ** 2).rsqrt()
    y = x * alphas[0]
    for t, ratio, a in zip(scheduler.timesteps, ratios.double(), alphas.double(), strict=False):
        y = scheduler.step(network(y / a, ratio), t, y).prev_sample.double()
    return y / alphas[-1]


# --- k-diffusion: works on x / alpha ------------------------------------------------------------------------------


def _k_diffusion(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    from k_diffusion import sampling as k

    for grid, name in product(("karras", "exponential"), ("euler", "dpmpp_2m", "lms", "heun", "dpm_2", "dpmpp_3m_sde")):
        if name in ("heun", "dpm_2") and nfe % 2 == 0:
            continue
        points = (nfe + 1) // 2 if name in ("heun", "dpm_2") else nfe
        options = {"eta": 0.0, "noise_sampler": _silence} if name.endswith("sde") else {}
        for end in _ends(sde):
            sigmas = _sigmas(sde, k, grid, points, end)
            title = f"k-diffusion {name}{' eta=0' if options else ''} {grid} to {end:.2g}"
            yield title, _k_sampler(network, getattr(k, f"sample_{name}"), sigmas, options)


def _k_diffusion_sde(sde: sf.GaussianSDE, network: Network, nfe: int) -> Iterator[tuple[str, Sampler]]:
    from k_diffusion import sampling as k

    for grid, name in product(("karras", "exponential"), ("euler_ancestral", "dpmpp_2m_sde", "dpmpp_3m_sde")):
        sigmas = _sigmas(sde, k, grid, nfe, _ends(sde)[0])
        yield f"k-diffusion {name} on {grid}", _k_sampler(network, getattr(k, f"sample_{name}"), sigmas, None)


def _sigmas(sde: sf.GaussianSDE, k: Any, grid: str, points: int, end: float) -> Tensor:
    first = float(_ratios(sde, [sde.T]))
    sigmas = getattr(k, f"get_sigmas_{grid}")(points, end, first).double()
    sigmas[0] = first
    return sigmas


def _silence(*_: Any) -> float:
    return 0.0


def _k_sampler(network: Network, loop: Any, sigmas: Tensor, options: dict[str, Any] | None) -> Sampler:
    def model(x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        return network(x, sigma.reshape(-1)[0])

    def run(x: Tensor) -> Tensor:
        extra = {"noise_sampler": lambda *_: torch.randn_like(x)} if options is None else options
        return loop(model, x, sigmas, disable=True, **extra)

    return run
