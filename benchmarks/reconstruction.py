"""What the benchmarks of inverse problems with learned priors share: methods, a baseline and the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from scipy.stats import t as student
from torch import Tensor

from scorefield import Denoiser, Noise, ScoreModel, sample
from scorefield.guidance import DDNM, DDRM, DPS, DiffPIR, MomentMatching, PiGDM, PosteriorDenoiser, Replacement
from scorefield.metrics import psnr, tarp_levels, uniformity
from scorefield.model import Measured
from scorefield.operators import Gaussian, LinearOperator, Noiseless
from scorefield.operators.operator import flat
from scorefield.posterior import DAPS, PosteriorSampler, SplitGibbs
from scorefield.sampling import stochastic
from scorefield.solvers import Langevin, PredictorCorrector, Solver

Method = Callable[[ScoreModel, Measured, int], Tensor]  # model, measurements, steps -> a sample for each row of y
BATCH = 64


def guided(build: Callable[..., PosteriorDenoiser], **options: float) -> Method:
    """The reverse SDE with a guided denoiser, as `scorefield invert` has it."""
    return lambda model, known, steps: _drawn(model, build(model.given(), *known, **options), None, known, steps)


def replacement(model: ScoreModel, known: Measured, steps: int) -> Tensor:
    """Song et al. (2021): the measurement is put in after each predictor's and each corrector's step."""
    pair = PredictorCorrector(Replacement(*known), Replacement(*known, Langevin()))
    return _drawn(model, model.given(), pair, known, steps)


def outer(build: Callable[[Denoiser, Measured, int], PosteriorSampler]) -> Method:
    """A method with a loop of its own."""

    def run(model: ScoreModel, known: Measured, steps: int) -> Tensor:
        method, seeds = build(model.given(), known, steps), range(len(known.y))
        return method.sample(model.event_shape, seeds=seeds, batch_size=BATCH)

    return run


METHODS: dict[str, Method] = {
    "MomentMatching": guided(MomentMatching),
    "PiGDM": guided(PiGDM),
    "DPS": guided(DPS),
    "DiffPIR": guided(DiffPIR),
    "DDNM": guided(DDNM),
    "DDRM": lambda model, known, steps: _drawn(model, model.given(), DDRM(*known), known, steps),
    "Replacement": replacement,
    "SplitGibbs": outer(lambda prior, known, steps: SplitGibbs(prior, *known, rounds=steps // 2, steps=8)),
    "DAPS": outer(lambda prior, known, steps: DAPS(prior, *known, levels=steps, steps=3)),
}


def _drawn(model: ScoreModel, denoiser: Denoiser, solver: Solver | None, known: Measured, steps: int) -> Tensor:
    usual, times = stochastic(denoiser.sde, steps, known.noise.least_std)
    seeds = range(len(known.y))
    return sample(denoiser, model.event_shape, times, solver or usual, seeds=seeds, batch_size=BATCH)


def noisy(clean: Tensor, std: float, seed: int) -> Tensor:
    """Measurements with noise of their own."""
    return Gaussian(std).sample(clean, noise=Noise.per_sample(range(seed, seed + len(clean))))


def total_variation(a: LinearOperator, y: Tensor, weight: float, steps: int = 300) -> Tensor:
    """argmin |A x - y|^2 / 2 + weight TV(x), isotropic, by the primal-dual algorithm of Chambolle & Pock (2011)."""

    def gradient(x: Tensor) -> Tensor:
        return torch.stack((x.diff(dim=2, append=x[:, :, -1:]), x.diff(dim=3, append=x[..., -1:])))

    def divergence(p: Tensor) -> Tensor:  # minus the adjoint
        first, second = p[0].clone(), p[1].clone()
        first[:, :, -1], second[..., -1] = 0, 0
        return first - torch.roll(first, 1, 2) + second - torch.roll(second, 1, 3)

    unit = float(y.abs().max())  # the steps below are for numbers of about 1
    y, weight = y / unit, weight / unit
    x = a.A_adjoint(y) * 0
    probe = torch.randn(x[:1].shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))
    for _ in range(30):
        probe = a.A_adjoint(a.A(probe)) / probe.norm()
    size = 0.95 / (float(probe.norm()) + 8) ** 0.5
    up, down = size / 10, 10 * size  # of the dual variables, which are small, and of x
    ahead, u, p = x, 0 * y, gradient(x)
    for _ in range(steps):
        u = (u + up * (a.A(ahead) - y)) / (1 + up)
        p = p + up * gradient(ahead)
        p = p / (p.square().sum(0).sqrt() / weight).clamp_min(1)
        last, x = x, x - down * (a.A_adjoint(u) - divergence(p))
        ahead = 2 * x - last
    return unit * x


def best_weight(a: LinearOperator, y: Tensor, truth: Tensor, std: float, peak: float) -> float:
    """The weight of the total variation that brings the highest PSNR, for images that are not tested on."""
    weights = [std * 2.0**k / 40 for k in range(10)]
    return max(weights, key=lambda w: quality(total_variation(a, y, w), truth, peak))


def quality(x: Tensor, truth: Tensor, peak: float) -> float:
    """Mean PSNR in dB."""
    return float(psnr(x, truth, peak).mean())


def rms(x: Tensor) -> float:
    """Root mean square."""
    return float(flat(x).square().mean().sqrt())


@dataclass(frozen=True)
class Comparison:
    """A table of reconstructions from one set of measurements, as Markdown on the standard output.

    For each method: the PSNR of the samples' mean and of one sample; the residual of the samples over the noise's std
    (in the data's units if there is no noise), 1 for the posterior; the share of `where` that is inside the central
    90 % that k samples predict, mean +- t sqrt(1 + 1/k) std with Student's t of k - 1 (1.645 std for many); the p-value
    of TARP's levels; the samples' root mean square standard deviation and the error of their mean; and the seconds of
    one core for a sample.

    Args:
        operator: linear.
        y: measurements, one for each truth.
        std: of their noise, 0 for none.
        truth: (n, *event).
        peak: of the PSNR.
        where: true for the features that `inside` counts.
    """

    operator: LinearOperator
    y: Tensor
    std: float
    truth: Tensor
    peak: float
    where: Tensor

    def head(self, title: str) -> None:
        """Names of the columns."""
        columns = (title, "mean", "one", "residual", "inside", "TARP", "std", "error of mean", "seconds")
        print(f"\n{_line(columns)}\n{_line(['---'] * len(columns))}")

    def estimate(self, name: str, x: Tensor) -> None:
        """The row of a baseline, (n, *event)."""
        error = f"{rms(x - self.truth):.3g}"
        print(_line((name, f"{quality(x, self.truth, self.peak):.2f}", "", self._residual(x), "", "", "", error, "")))

    def method(self, name: str, model: ScoreModel, count: int, steps: int) -> Tensor:
        """The row of one of METHODS, and its samples (n, count, *event) in the data's units before rounding."""
        noise = Gaussian(self.std) if self.std else Noiseless()
        known = model.measured(self.operator, self.y.repeat_interleave(count, 0), noise)
        start = time.process_time()
        z = METHODS[name](model, known, steps)
        seconds = (time.process_time() - start) / len(z)
        shift, scale = model.transform.line(z)
        x = (z * scale + shift).double().unflatten(0, (len(self.y), count))
        mean, truth = x.mean(1), self.truth
        reach = float(student.ppf(0.95, count - 1)) * (1 + 1 / count) ** 0.5 * x.std(1)
        cells = (
            name,
            f"{quality(mean, truth, self.peak):.2f}",
            f"{quality(x[:, 0], truth, self.peak):.2f}",
            self._residual(x.flatten(0, 1)),
            f"{100 * float(((truth - mean).abs() < reach)[self.where].double().mean()):.1f} %",
            f"{uniformity(tarp_levels(x, truth)):.2g}",
            f"{rms(x.var(1).sqrt()):.3g}",
            f"{rms(mean - truth):.3g}",
            f"{seconds:.2f}",
        )
        print(_line(cells), flush=True)
        return x

    def _residual(self, x: Tensor) -> str:
        y = self.y.repeat_interleave(len(x) // len(self.y), 0)
        return f"{rms(self.operator.A(x) - y) / (self.std or 1):.2g}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
