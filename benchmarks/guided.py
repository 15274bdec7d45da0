"""Guidance in few calls: the default solver beside our DDIM, UniPC and Heun and the peers' samplers on the same calls.

    python benchmarks/guided.py [a model of digits with labels, such as the demo's]

The denoiser is D_u + w (D_c - D_u), a call of it is one evaluation, and the error is the root mean square, over
samples and numbers, of the distance to the endpoint of its probability flow from the same start, plus 1e-4 of the
standard deviation of the data. DDIM, UniPC and Heun run on the default's times and on equal steps of the log-SNR, Heun
with the largest number of calls that is at most the one stated. Of these six, and of all of the peers' samplers on all
of their grids, each cell takes the best by the result. Endpoints: 3000 steps of RK4 in float64, of networks 400.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
import peers
import peers_quality

import scorefield as sf
from scorefield import grids, solvers
from scorefield.guidance import ClassifierFree
from scorefield.sampling import integrate

WEIGHTS = (1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0)
CALLS = (3, 4, 5, 6, 8, 10, 15, 20, 30, 50, 100)
STATES = 24

Network = Callable[[Tensor, float], Tensor]  # D(x / alpha, sigma / alpha)


class Mixture(NamedTuple):
    """Normal laws with diagonal covariances as D(x, s): weights (k,), means and variances (k, d)."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __call__(self, x: Tensor, s: float) -> Tensor:
        precision = 1 / (self.variances + s**2)
        pull = self.means * precision
        distance = (x * x) @ precision.T - 2 * x @ pull.T + (self.means * pull - precision.log()).sum(1)
        share = (self.weights.log() - 0.5 * distance).softmax(1)
        return x * (share @ (self.variances * precision)) + s**2 * (share @ pull)

    def std(self) -> float:
        mean = self.weights @ self.means
        return float((self.weights @ (self.means**2 + self.variances) - mean**2).mean().sqrt())


def mixture(weights: Tensor | list[float], means: Tensor | list[list[float]], variances: Tensor | float) -> Mixture:
    w, m, v = (torch.as_tensor(value, dtype=torch.float64) for value in (weights, means, variances))
    return Mixture(w / w.sum(), m, v.expand_as(m).contiguous())


def classes(d: int, narrow: float, wide: float, kept: int, components: int = 8) -> tuple[Mixture, Mixture]:
    """Some of the components of a mixture of unit variance as a class, and all of them."""
    g = torch.Generator().manual_seed(d)
    m = torch.randn(components, d, generator=g, dtype=torch.float64)
    v = narrow + wide * torch.rand(components, d, generator=g, dtype=torch.float64) ** 2
    w = 0.3 + torch.rand(components, generator=g, dtype=torch.float64)
    w = w / w.sum()
    m = m - w @ m
    total = (w @ (m**2 + v)).mean()
    m, v = m / total.sqrt(), v / total
    return mixture(w[:kept], m[:kept], v[:kept]), mixture(w, m, v)


def problems() -> Iterator[tuple[str, Mixture, Mixture]]:
    """Names, laws of the class, laws of all."""
    zero = torch.zeros(1, 4, dtype=torch.float64)
    yield "normal, std .1 in 1", mixture([1.0], zero, 0.01), mixture([1.0], zero, 1.0)
    yield "normal, std .3 in 1", mixture([1.0], zero, 0.09), mixture([1.0], zero, 1.0)
    g, spectrum = torch.Generator().manual_seed(5), 1 / torch.arange(1, 9, dtype=torch.float64) ** 2
    mean = 0.5 * torch.randn(1, 8, generator=g, dtype=torch.float64)
    yield "normal, spectrum 1/k^2", mixture([1.0], mean, 0.3 * spectrum), mixture([1.0], 0 * mean, spectrum)
    yield "one of two modes", mixture([1.0], [[1.0, 0.0]], 0.04), mixture([1.0, 1.0], [[1.0, 0.0], [-1.0, 0.0]], 0.04)
    for d in (2, 16, 64):
        yield f"2 of 8 components, D = {d}", *classes(d, 0.02, 0.1, kept=2)
    yield "1 of 8 narrow ones, D = 16", *classes(16, 0.001, 0.01, kept=1)
    _, every = classes(16, 0.02, 0.1, kept=1)
    yield "by a worse model, D = 16", every, mixture(every.weights, 0.8 * every.means, every.variances + 0.2)


class Model(sf.Denoiser):
    """A network of sigma / alpha as a denoiser."""

    def __init__(self, sde: sf.GaussianSDE, network: Network) -> None:
        super().__init__(sde)
        self.network = network

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        alpha, sigma = float(self.sde.alpha(t)), float(self.sde.sigma(t))
        return self.network((x / alpha).reshape(len(x), -1), sigma / alpha).reshape(x.shape)


class Counted:
    """D_u + w (D_c - D_u) of all weights at once for the peers, a row for each weight and start, its calls counted."""

    def __init__(self, chosen: Network, every: Network, states: int, dimensions: int) -> None:
        self.chosen, self.every, self.dimensions, self.calls = chosen, every, dimensions, 0
        self.weights = torch.tensor(WEIGHTS, dtype=torch.float64).repeat_interleave(states)[:, None]

    def __call__(self, x: Tensor, s: Tensor | float) -> Tensor:
        self.calls += 1
        return torch.lerp(self.every(x, float(s)), self.chosen(x, float(s)), self.weights)


class Problem(NamedTuple):
    """What is guided, where it starts, divided by alpha, and the size of its data."""

    name: str
    sde: sf.GaussianSDE
    chosen: Network
    every: Network
    start: Tensor
    std: float
    reference: int  # steps

    def endpoint(self, weight: float) -> Tensor:
        s = float(self.sde.knots([self.sde.T])[0].sigma / self.sde.knots([self.sde.T])[0].alpha)
        edm = sf.EDM(T=s, t_min=1e-6, t_end=1e-5 if self.reference > 1000 else 1e-3)
        guided = ClassifierFree(Model(edm, self.chosen), Model(edm, self.every), weight)
        times = grids.uniform_log_snr(edm, self.reference)
        return integrate(guided, self.start, times, solvers.RK4(), noise=sf.Noise.per_sample(range(len(self.start))))


def usual(sde: sf.GaussianSDE, calls: int) -> list[float]:
    """The default's times."""
    return sf.default(sde, calls)[1]


class Cell(NamedTuple):
    """Errors: the default's, the least of our six others' and of the peers', and whose they are."""

    ours: float
    best: float
    name: str
    peers: float
    peer: str


def measured(problem: Problem, calls: int, exact: Tensor) -> list[Cell]:
    """A row of the table, from the endpoints (weights, n, d)."""
    sde, start = problem.sde, problem.start
    alpha = float(sde.knots([sde.T])[0].alpha)
    noise, half = sf.Noise.per_sample(range(len(start))), (calls - 1) // 2 + 1

    def errors(y: Tensor) -> list[float]:
        found = (y.reshape(exact.shape) - exact).square().mean((1, 2)).sqrt() + 1e-4 * problem.std
        return found.nan_to_num(math.inf).tolist()

    def by(solver: solvers.Solver, times: list[float]) -> list[float]:
        chosen, every = Model(sde, problem.chosen), Model(sde, problem.every)
        guided = [ClassifierFree(chosen, every, weight) for weight in WEIGHTS]
        return errors(torch.stack([integrate(one, start * alpha, times, solver, noise=noise) for one in guided]))

    ours, six, theirs = by(*sf.default(sde, calls)), dict[str, list[float]](), dict[str, list[float]]()
    for grid, of in {"default": usual, "log-SNR": grids.uniform_log_snr}.items():
        for other, points in ((solvers.DDIM(), calls), (solvers.UniPC(), calls), (solvers.Heun(), half)):
            six[f"{type(other).__name__} {grid}"] = by(other, of(sde, points))
    network = Counted(problem.chosen, problem.every, len(start), start[0].numel())
    for name, sampler in peers_quality.deterministic(sde, network, calls):
        network.calls = 0
        theirs[name] = errors(sampler(start.repeat(len(WEIGHTS), 1)))
        assert network.calls == calls, name
    return [
        Cell(ours[k], *min((e[k], name) for name, e in six.items()), *min((e[k], name) for name, e in theirs.items()))
        for k in range(len(WEIGHTS))
    ]


def synthetic(sde: sf.GaussianSDE) -> Iterator[Problem]:
    knot = sde.knots([sde.T])[0]
    for name, chosen, every in problems():
        g = torch.Generator().manual_seed(7)
        x = torch.randn(STATES, chosen.means.shape[1], generator=g, dtype=torch.float64)
        yield Problem(name, sde, chosen, every, x * math.hypot(1, knot.sigma / knot.alpha), every.std(), 3000)


def digits(path: str) -> Problem:
    """A trained model, two samples of each class."""
    model = sf.ScoreModel.load(path)
    denoiser, label, shape = model.denoiser, torch.arange(20) % 10, model.event_shape
    sde = denoiser.sde
    assert isinstance(denoiser, sf.Denoiser) and isinstance(sde, sf.GaussianSDE)
    denoiser.double()
    log_snr_at_T = sde.knots([sde.T])[0].log_snr

    def network(given: sf.Denoiser) -> Network:
        def denoised(x: Tensor, s: float) -> Tensor:
            knot = sde.knot_at(max(-2 * math.log(s), log_snr_at_T))
            rows = (x * knot.alpha).reshape(-1, 20, *shape)  # the labels are those of 20
            return torch.cat([given(part, knot.time) for part in rows]).reshape(x.shape)

        return denoised

    x = torch.randn(20, math.prod(shape), generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    knot = sde.knots([sde.T])[0]
    start = x * math.hypot(1, knot.sigma / knot.alpha)
    return Problem("digits", sde, network(denoiser.given(label=label)), network(denoiser), start, 0.5, 400)


def main() -> None:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    peers.hide_optional_imports()
    print(f"torch {torch.__version__}, one thread; error of the default / least of DDIM, UniPC and Heun on two grids")
    tried = list(synthetic(sf.VP())) + [digits(path) for path in sys.argv[1:2]]
    every = [ratio for problem in tried for ratio in table(problem)]
    print("\nratio to our six others: " + summary([ours for ours, _ in every]))
    print("ratio to the peers' best: " + summary([theirs for _, theirs in every]))


def table(problem: Problem) -> list[tuple[float, float]]:
    """Prints a line for each number of calls, and the worst cell; all ratios."""
    print(
        f"\n{problem.name}\n{'calls':>8}" + "".join(f"{f'w = {w:g}':>10}" for w in WEIGHTS) + "   least, peers' least"
    )
    exact = torch.stack([problem.endpoint(weight) for weight in WEIGHTS])
    found: list[tuple[float, float]] = []
    for calls in CALLS:
        cells = measured(problem, calls, exact)
        found += [(cell.ours / cell.best, cell.ours / cell.peers) for cell in cells]
        worst = max(cells, key=lambda cell: cell.ours / cell.best)
        row = "".join(f"{cell.ours / cell.best:>10.2f}" for cell in cells)
        print(
            f"{calls:>8}{row}   {worst.ours:.2g} for {worst.best:.2g} ({worst.name}), {worst.peers:.2g} ({worst.peer})"
        )
    return found


def summary(ratios: list[float]) -> str:
    """The distribution of ratios."""
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    within = sum(ratio <= 1.2 for ratio in ratios)
    return f"at most 1.2 in {within} of {len(ratios)} cells, largest {max(ratios):.3g}, geometric mean {mean:.2f}"


if __name__ == "__main__":
    main()
