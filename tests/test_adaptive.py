"""Adaptive methods: errors follow the tolerance, samples keep to themselves, and the SDE's law is unbiased.

And the kernels, in closed form, of the methods that add noise before or within a step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise
from typing import Any

import numpy as np
import pytest
import torch
from processes import PROCESSES, name
from scipy.integrate import DOP853, LSODA, RK45
from torch import Tensor

from scorefield import VP, GaussianMixture, GaussianSDE, Knot, Noise, gaussian, grids
from scorefield.certify import _silence, _Source, _unit_vector
from scorefield.sampling import integrate
from scorefield.score import Denoiser
from scorefield.solvers import (
    DDIM,
    RK4,
    AdaptiveRungeKutta,
    AdaptiveSDE,
    Ancestral,
    BogackiShampine,
    Churn,
    ConsistentAnnealed,
    DormandPrince,
    Heun,
    Restart,
    ReverseDiffusion,
    SciPyODE,
    Solver,
    Step,
    UniPC,
)

ODES: list[AdaptiveRungeKutta] = [BogackiShampine(), DormandPrince()]
every_ode = pytest.mark.parametrize("solver", ODES, ids=["BogackiShampine", "DormandPrince"])


def cluster(sde: GaussianSDE, d: int = 2) -> GaussianMixture:
    """Eight narrow components at random places; each coordinate has mean 0 and, on average over them, variance 1."""
    g = torch.Generator().manual_seed(0)
    means = torch.randn(8, d, generator=g, dtype=torch.float64)
    variances = 0.02 + 0.1 * torch.rand(8, d, generator=g, dtype=torch.float64) ** 2
    weights = 0.3 + torch.rand(8, generator=g, dtype=torch.float64)
    weights = weights / weights.sum()
    means = means - weights @ means
    total = (weights @ (means**2 + variances)).mean()
    return GaussianMixture(sde, weights, means / total.sqrt(), variances / total)


def starts(sde: GaussianSDE, n: int, *shape: int) -> Tensor:
    return sde.prior.sample(torch.empty(n, *shape, dtype=torch.float64), Noise.per_sample(range(n)))


def whole_way(sde: GaussianSDE, end: float) -> list[float]:
    """[T, t, 0] with sigma / alpha = end at t."""
    return [sde.T, sde.knot_at(-2 * math.log(end)).t, 0.0]


def solve(model: Denoiser, x: Tensor, times: list[float], solver: Solver) -> tuple[Tensor, Tensor]:
    """The end, and the calls that each sample has made."""
    calls = torch.zeros(len(x), dtype=torch.int64)

    def count(k: int, knot: Knot, step: Step) -> None:
        calls.add_(torch.as_tensor(1 if step.info is None else step.info["calls"]))  # the denoise step is one

    y = integrate(model, x, times, solver, noise=Noise.per_sample(range(len(x))), callback=count)
    return y, calls


@pytest.fixture(scope="module")
def problem() -> Iterator[tuple[GaussianMixture, Tensor, Tensor]]:
    """A model, starts at T, and where the exact ODE takes them: 300 steps of RK4 agree with 1200 to 2e-7."""
    model = cluster(VP(t_min=1e-10))  # adaptive methods ask for no earlier time
    x = starts(model.sde, 150, 2)
    times = grids.uniform_log_snr(model.sde, 301, model.sde.knot_at(-2 * math.log(1e-5)).t)
    yield model, x, integrate(model, x, times, RK4(), noise=Noise.per_sample(range(150)))


def distance(x: Tensor, y: Tensor) -> float:
    return float((x - y).norm(dim=1).mean()) / math.sqrt(2)


# ---- Runge-Kutta


def trees(n: int) -> list[tuple[Any, ...]]:
    """The rooted trees of n nodes, each the tuple of its branches."""
    if n == 1:
        return [()]

    def forests(n: int, least: int) -> Iterator[tuple[Any, ...]]:
        if n == 0:
            yield ()
        for size in range(least, n + 1):
            for count in range(1, n // size + 1):
                for chosen in combinations_with_replacement(trees(size), count):
                    for rest in forests(n - size * count, size + 1):
                        yield chosen + rest

    return list(forests(n - 1, 1))


def size_of(tree: tuple[Any, ...]) -> int:
    return 1 + sum(size_of(t) for t in tree)


def density(tree: tuple[Any, ...]) -> int:
    return size_of(tree) * math.prod(density(t) for t in tree)


def weight(tree: tuple[Any, ...], a: np.ndarray) -> np.ndarray:
    return np.prod([a @ weight(t, a) for t in tree] or [np.ones(len(a))], axis=0)


@every_ode
def test_tableaus_meet_all_conditions_of_their_order(solver: AdaptiveRungeKutta) -> None:
    # Butcher's: b . weight(tree) = 1 / density(tree) for each rooted tree of up to `order` nodes
    order, nodes, stages, error = solver.tableau
    assert [len(trees(n)) for n in range(1, 6)] == [1, 1, 2, 4, 9]
    n = len(nodes) + 1
    a = np.zeros((n, n))
    for i, row in enumerate(stages, start=1):
        a[i, : len(row)] = row
    b = a[-1]  # the last stage is made at the result, to be the first of the next step
    np.testing.assert_allclose(a.sum(1), [0, *nodes], atol=1e-15)
    assert nodes[-1] == 1

    def defects(b: np.ndarray, nodes: int) -> list[float]:
        return [abs(b @ weight(t, a) - 1 / density(t)) for t in trees(nodes)]

    for p in range(1, order + 1):
        assert max(defects(b, p)) < 1e-14
        # the embedded method is of one order less and no more, or the estimate would be of another size
        embedded = max(defects(b - np.array(error), p))
        assert embedded < 1e-14 if p < order else embedded > 1e-4
    assert max(defects(b, order + 1)) > 1e-4


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("solver", "error", "most"),
    [
        (BogackiShampine(1e-3), 1e-3, 38),
        (BogackiShampine(1e-5), 1e-5, 120),
        (DormandPrince(1e-3), 3e-3, 40),
        (DormandPrince(1e-6), 2e-6, 98),
    ],
    ids=str,
)
def test_errors_and_calls_on_a_mixture(
    problem: tuple[GaussianMixture, Tensor, Tensor], solver: AdaptiveRungeKutta, error: float, most: float
) -> None:
    model, x, exact = problem
    y, calls = solve(model, x, whole_way(model.sde, math.sqrt(solver.tolerance) / 3), solver)
    assert distance(y, exact) < error
    assert float(calls.double().mean()) < most


@pytest.mark.usefixtures("unchecked")
@every_ode
def test_errors_fall_with_the_tolerance(
    problem: tuple[GaussianMixture, Tensor, Tensor], solver: AdaptiveRungeKutta
) -> None:
    model, x, exact = problem
    times = whole_way(model.sde, 1e-5)
    errors = [distance(solve(model, x, times, type(solver)(10**-k))[0], exact) for k in range(2, 7)]
    for one, other in pairwise(errors):
        assert other < one / 5
    assert errors[-1] < 2e-6


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("solver", [*ODES, DormandPrince(1e-6), AdaptiveSDE()], ids=str)
def test_samples_take_no_notice_of_each_other(solver: Solver) -> None:
    # a step size or an error norm that is shared would show: starts of very different sizes need different steps
    model = cluster(VP())
    x = starts(model.sde, 12, 2) * torch.linspace(0.1, 3, 12, dtype=torch.float64)[:, None]
    now, next = model.sde.knots([1.0, 0.01])
    noise = Noise.per_sample(range(12))
    together = solver.step(model, x, now, next, None, noise=noise)
    for rows in (torch.tensor([7, 2, 11]), *torch.arange(12)[:4].split(1)):
        apart = solver.step(model, x[rows], now, next, None, noise=noise.select(rows))
        torch.testing.assert_close(apart.x, together.x[rows], rtol=0, atol=1e-11)
        assert torch.equal(apart.info["calls"], together.info["calls"][rows])  # type: ignore[index]
    assert len(together.info["calls"].unique()) > 1  # type: ignore[index]


class _Labelled(Denoiser):
    """N(label, 0.1 + 0.2 label): the condition tells the mean and the variance."""

    def forward(self, x: Tensor, t: Tensor, *, label: Tensor) -> Tensor:  # type: ignore[override]
        label = label.double()[:, None]
        alpha, sigma = (v[:, None] for v in (self.sde.alpha(t), self.sde.sigma(t)))
        v = 0.1 + 0.2 * label
        return label + alpha * v / (alpha**2 * v + sigma**2) * (x - alpha * label)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "solver", [BogackiShampine(), DormandPrince(1e-6), SciPyODE(rtol=1e-6, atol=1e-6), AdaptiveSDE()], ids=str
)
def test_conditions_stay_with_their_samples_when_others_have_arrived(solver: Solver) -> None:
    sde = VP()
    labels = torch.tensor([3, 0, 2, 2, 1, 0, 3, 1])
    x = starts(sde, 8, 1)
    now, next = sde.knots([1.0, 0.002])
    noise = Noise.per_sample(range(8))
    step = solver.step(_Labelled(sde).given(label=labels), x, now, next, None, noise=noise)
    assert len(step.info["calls"].unique()) > 1  # type: ignore[index]
    for row in (0, 1, 6):
        label = float(labels[row])
        alone = gaussian(sde, torch.full((1,), label), torch.tensor(0.1 + 0.2 * label, dtype=torch.float64))
        apart = solver.step(alone, x[row : row + 1], now, next, None, noise=noise.select(torch.tensor([row])))
        torch.testing.assert_close(apart.x, step.x[row : row + 1], rtol=0, atol=1e-10)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("solver", [BogackiShampine(1e-5), DormandPrince(1e-7)], ids=str)
@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_gaussians_are_carried_to_the_noise_and_back(sde: GaussianSDE, solver: AdaptiveRungeKutta) -> None:
    # the exact map multiplies by the ratio of the standard deviations
    v = torch.tensor([0.05, 1.0, 4.0], dtype=torch.float64)
    model = gaussian(sde, torch.zeros(3), v)
    low, high = sde.t_end, sde.T
    first, last = ((k.alpha**2 * v + k.sigma**2).sqrt() for k in sde.knots([low, high]))
    x = first * Noise.per_sample(range(6)).normal(torch.empty(6, 3, dtype=torch.float64))
    encoded, _ = solve(model, x, [low, high], solver)
    torch.testing.assert_close(encoded / last, x / first, rtol=0, atol=20 * solver.tolerance)
    decoded, _ = solve(model, encoded, [high, low], solver)
    torch.testing.assert_close(decoded / first, x / first, rtol=0, atol=40 * solver.tolerance)


def test_every_shape_and_precision_gives_the_same() -> None:
    sde = VP()
    x = starts(sde, 4, 192)
    for solver in (BogackiShampine(1e-4), DormandPrince(1e-4)):
        flat, calls = solve(gaussian(sde, torch.full((192,), 0.3), torch.tensor(0.2)), x, [1.0, 0.01, 0.0], solver)
        image = gaussian(sde, torch.full((3, 8, 8), 0.3), torch.tensor(0.2))
        same, again = solve(image, x.reshape(4, 3, 8, 8), [1.0, 0.01, 0.0], solver)
        assert torch.equal(same.flatten(1), flat)
        assert torch.equal(calls, again)
        single, _ = solve(image.float(), x.reshape(4, 3, 8, 8).float(), [1.0, 0.01, 0.0], solver)
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), same, rtol=0, atol=1e-5)
        # a scalar: the exact map is affine, and its slope the ratio of standard deviations
        scalar = gaussian(sde, torch.tensor(0.3), torch.tensor(0.2))
        y, _ = solve(scalar, x[:, 0], [1.0, 0.01], solver)
        a, b = sde.knots([1.0, 0.01])
        ratio = math.sqrt((b.alpha**2 * 0.2 + b.sigma**2) / (a.alpha**2 * 0.2 + a.sigma**2))
        torch.testing.assert_close(y, 0.3 * b.alpha + ratio * (x[:, 0] - 0.3 * a.alpha), rtol=0, atol=2e-4)


class _Tally(Denoiser):
    """Counts the rows that it was asked for."""

    def __init__(self, inner: Denoiser) -> None:
        super().__init__(inner.sde)
        self.inner, self.rows = inner, 0

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        assert t.shape in ((), (len(x),))
        self.rows += len(x)
        return self.inner(x, t)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("solver", [*ODES, AdaptiveSDE(), SciPyODE()], ids=str)
def test_calls_are_reported_truthfully(solver: Solver) -> None:
    model = _Tally(cluster(VP()))
    step = solver.step(
        model, starts(model.sde, 9, 2), *model.sde.knots([1.0, 0.01]), None, noise=Noise.per_sample(range(9))
    )
    assert int(step.info["calls"].sum()) == model.rows  # type: ignore[index]


class _Broken(Denoiser):
    """No number from some signal-to-noise ratio on."""

    def __init__(self, sde: GaussianSDE, from_: float) -> None:
        super().__init__(sde)
        self.from_ = from_

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return torch.where(self.sde.log_snr(t)[:, None] > self.from_, math.nan, 0.5 * x)


@every_ode
@pytest.mark.parametrize("early", [5.0, 1e-6], ids=["midway", "at the end"])
def test_scores_that_are_no_numbers_are_an_error_and_not_a_result(solver: AdaptiveRungeKutta, early: float) -> None:
    model = _Broken(VP(), VP().knots([0.01])[0].log_snr - early)
    with pytest.raises(ValueError, match=r"cannot meet the tolerance 0.001.* is the score finite everywhere\?"):
        solve(model, starts(VP(), 3, 2), [1.0, 0.01], solver)


def test_an_sde_with_scores_that_are_no_numbers_is_an_error() -> None:
    model = _Broken(VP(), 0.0)
    with pytest.raises(ValueError, match=r"cannot meet the tolerance 0.05.* finite everywhere\?"):
        solve(model, starts(VP(), 3, 2), [1.0, 0.01], AdaptiveSDE())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("method", [DOP853, RK45, LSODA])
def test_methods_of_scipy_come_to_the_same_end(problem: tuple[GaussianMixture, Tensor, Tensor], method: Any) -> None:
    model, x, exact = problem
    times = whole_way(model.sde, 1e-5)
    ours, _ = solve(model, x[:3], times, DormandPrince(1e-10))
    theirs, calls = solve(model, x[:3], times, SciPyODE(method, 1e-9, 1e-9))
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours, exact[:3], rtol=0, atol=1e-6)
    assert bool((calls > 60).all())


def test_scipy_returns_the_shape_and_precision_of_the_states() -> None:
    model = gaussian(VP(), torch.zeros(2, 3), torch.ones(6))
    x = starts(VP(), 4, 2, 3).float()
    y, _ = solve(model, x, [1.0, 0.01], SciPyODE())  # N(0, I) is at rest under VP
    torch.testing.assert_close(y, x, rtol=0, atol=1e-3)


# ---- the adaptive SDE


@dataclasses.dataclass
class _Memory:
    """The states of the exact process, where they are, and the noise that they have not used yet."""

    y: Tensor
    tau: Tensor
    pending: tuple[Tensor, Tensor] | None = None


class _Beside(Denoiser):
    """A model, and next to it the exact reverse SDE of N(0, v) data, carried by the solver's own noise.

    In y = x / alpha the step of that process from s_a to s_b is y_b = r^((1 + eta) / 2) y_a + sqrt(q_b (1 - r^eta)) z
    with q = v + s^2 and r = q_b / q_a. The step sizes depend on the past alone, so that its end has exactly its law,
    N(0, v + s^2): it is a control variate of known mean, nearly equal to what the solver makes.
    """

    def __init__(self, model: Denoiser, v: float, eta: float, memory: _Memory, rows: Tensor) -> None:
        super().__init__(model.sde)
        self.model, self.v, self.eta, self.memory, self.rows = model, v, eta, memory, rows

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        self.carry(0.5 * self.sde.log_snr(t))
        return self.model(x, t)

    def select(self, rows: Tensor, n: int) -> Denoiser:
        return _Beside(self.model, self.v, self.eta, self.memory, rows)

    def carry(self, tau: Tensor | None = None) -> None:
        """Uses the noise that is left: up to `tau` for the rows that are still asked for, to the end for others."""
        m = self.memory
        if m.pending:
            rows, z = m.pending
            new = torch.full_like(m.tau, 0.5 * self.sde.knots([self.sde.t_end])[0].log_snr)
            if tau is not None:
                new[self.rows] = tau
            q_a, q_b = (self.v + (-2 * u[rows]).exp()[:, None] for u in (m.tau, new))
            r = q_b / q_a
            spread = (q_b * (1 - r**self.eta)).clamp_min(0).sqrt()
            m.y[rows], m.tau[rows], m.pending = r ** ((1 + self.eta) / 2) * m.y[rows] + spread * z, new[rows], None


@dataclasses.dataclass
class _Overheard:
    """Noise that is passed on to the process beside as well."""

    noise: Noise
    memory: _Memory
    rows: Tensor

    def at(self, step: int) -> _Overheard:
        return dataclasses.replace(self, noise=self.noise.at(step))

    def child(self, part: int) -> _Overheard:
        return dataclasses.replace(self, noise=self.noise.child(part))

    def select(self, rows: Tensor) -> _Overheard:
        return _Overheard(self.noise.select(rows), self.memory, self.rows[rows])

    def normal(self, like: Tensor, draw: int = 0) -> Tensor:
        z = self.noise.normal(like, draw)
        self.memory.pending = self.rows, z
        return z

    def uniform(self, like: Tensor, draw: int = 0) -> Tensor:
        raise AssertionError("normals alone")


def variance_bias(
    model: GaussianMixture, solver: AdaptiveSDE, v: float, seeds: range, d: int
) -> tuple[float, float, float]:
    """Relative error of E y^2 at t_end, its standard error, and the mean calls.

    The start is the exact law at T; v is the variance of the data of the process beside.
    """
    sde, n = model.sde, len(seeds)
    noise = Noise.per_sample(seeds)
    a, b = sde.knots([sde.T, sde.t_end])
    x = model.marginal(sde.T).sample(torch.empty(n, d, dtype=torch.float64), noise.at(0))
    memory = _Memory(x / a.alpha, torch.full((n,), 0.5 * a.log_snr, dtype=torch.float64))
    beside = _Beside(model, v, solver.eta, memory, torch.arange(n))
    step = solver.step(beside, x, a, b, None, noise=_Overheard(noise.at(1), memory, torch.arange(n)))
    beside.carry()
    f, g = (step.x / b.alpha).square().flatten(), memory.y.square().flatten()
    tail = math.exp(-b.log_snr)
    target = float((model.weights @ (model.means**2 + model.variances)).mean()) + tail
    slope = float(((f - f.mean()) * (g - g.mean())).sum() / (g - g.mean()).square().sum())
    value = f - slope * (g - (v + tail))
    calls = float(step.info["calls"].double().mean())  # type: ignore[index]
    return float(value.mean()) / target - 1, float(value.std()) / math.sqrt(len(f)) / target, calls


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("tolerance", "most"), [(0.05, 70), (0.01, 218)])
@pytest.mark.parametrize(
    ("d", "v", "eta"), [(1, 0.25, 1.0), (2, 0.25, 1.0), (16, 0.25, 1.0), (1, 4.0, 1.0), (2, 0.02, 1.0), (1, 0.25, 0.4)]
)
def test_the_adaptive_sde_has_the_right_variance(d: int, v: float, eta: float, tolerance: float, most: float) -> None:
    # redrawing the noise of rejected steps doubles the variance in 1-D and adds 7 % in 16-D. By the control variate the
    # standard error is below 2e-4; 4.9 of them are exceeded with probability 1e-6. 218: the calls of the published
    # method at 0.01, made unbiased, in one dimension
    model = gaussian(VP(), torch.zeros(d), torch.full((d,), v))
    bias, stderr, calls = variance_bias(model, AdaptiveSDE(tolerance, eta), v, range(2_000 // min(d, 4)), d)
    assert stderr < 2e-4
    assert abs(bias) + 4.9 * stderr < 0.005
    assert calls < most


@pytest.mark.usefixtures("unchecked")
@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [0.05, 0.01])
def test_the_adaptive_sde_keeps_two_modes_apart(tolerance: float) -> None:
    # here the process beside explains little: with a million samples the variance errs by 0.08 % at one sigma, and
    # 4.9 sigma are exceeded with probability 1e-6
    model = GaussianMixture(VP(), torch.tensor([0.3, 0.7]), torch.tensor([[-1.4], [0.6]]), torch.tensor([0.05, 0.05]))
    parts = [
        variance_bias(model, AdaptiveSDE(tolerance), 0.89, range(first, first + 50_000), 1)
        for first in range(0, 1_000_000, 50_000)
    ]
    bias = sum(b for b, _, _ in parts) / len(parts)
    stderr = math.sqrt(sum(s**2 for _, s, _ in parts)) / len(parts)
    assert stderr < 1e-3
    assert abs(bias) < 0.005 + 4.9 * stderr
    assert parts[0][2] < 218


def test_the_first_step_of_the_adaptive_sde_in_closed_form() -> None:
    # for data of unit variance everything but the linear part vanishes, and the law is exact for any steps
    sde = VP()
    now, next = sde.knots([1.0, 0.999])
    noise = Noise.per_sample(range(5))
    x = starts(sde, 5, 2)
    step = AdaptiveSDE(0.5, 0.7).step(gaussian(sde, torch.zeros(2), torch.ones(2)), x, now, next, None, noise=noise)
    q_a, q_b = (1 + (k.sigma / k.alpha) ** 2 for k in (now, next))
    z = noise.child(0).child(0).normal(x)
    y = (q_b / q_a) ** 0.85 * x / now.alpha + math.sqrt(q_b * (1 - (q_b / q_a) ** 0.7)) * z
    torch.testing.assert_close(step.x, next.alpha * y, rtol=1e-9, atol=0)
    assert step.info["calls"].tolist() == [1] * 5  # type: ignore[index]


# ---- errors


@pytest.mark.parametrize("make", [BogackiShampine, DormandPrince, AdaptiveSDE])
@pytest.mark.parametrize("tolerance", [0.0, -1e-3, 1.0, math.inf, math.nan])
def test_tolerances_outside_0_and_1_are_refused(make: Any, tolerance: float) -> None:
    with pytest.raises(ValueError, match=r"tolerance .*in \(0, 1\)"):
        make(tolerance)


def test_the_adaptive_sde_needs_noise_and_the_direction_to_the_data() -> None:
    for eta, message in ((0.0, "eta > 0"), (-1.0, "at least 0"), (math.nan, "at least 0"), (math.inf, "finite")):
        with pytest.raises(ValueError, match=message):
            AdaptiveSDE(eta=eta)
    with pytest.raises(ValueError, match="from noise to data only"):
        solve(cluster(VP()), starts(VP(), 2, 2), [0.1, 0.5], AdaptiveSDE())


# ---- kernels of methods with noise


class _Constant(Denoiser):
    def __init__(self, sde: GaussianSDE, value: float) -> None:
        super().__init__(sde)
        self.value = value

    def forward(self, x: Tensor, t: Tensor, **cond: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


class _Idle(Solver):
    """Keeps x / alpha, and remembers between which knots it was asked to move."""

    convergence_order = 1

    def __init__(self) -> None:
        self.moves: list[tuple[Knot, Knot]] = []

    def step(self, model, x, now, next, state, *, noise):  # type: ignore[no-untyped-def]
        self.moves.append((now, next))
        return Step(next.alpha / now.alpha * x)


def kernel(solver: Solver, now: Knot, next: Knot, sde: GaussianSDE) -> tuple[float, float, float]:
    """The factor of x, that of a constant D, and the standard deviation of the noise of one step."""
    names: dict[Any, int] = {}

    def run(x: Tensor, denoised: float, value: Any) -> Tensor:
        return solver.step(_Constant(sde, denoised), x, now, next, None, noise=_Source(names, value)).x

    zero = torch.zeros(1, 1, dtype=torch.float64)
    at_rest = run(zero, 0.0, _silence)
    assert float(at_rest) == 0
    noise = run(torch.zeros(1 + len(names), 1, dtype=torch.float64), 0.0, _unit_vector)[1:]
    return float(run(zero + 1, 0.0, _silence)), float(run(zero, 1.0, _silence)), float(noise.norm())


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_reverse_diffusion_step(sde: GaussianSDE, eta: float) -> None:
    # the forward chain x_a = A x_b + G z turned around, x_b = x_a + f_rev: x - (A x - x) + (1 + eta)/2 G^2 s + ...
    now, next = (sde.knot_at(v) for v in (-1.0, 0.7))
    a = now.alpha / next.alpha
    g2 = now.sigma**2 - a**2 * next.sigma**2
    state, denoised, noise = kernel(ReverseDiffusion(eta), now, next, sde)
    score = 0.5 * (1 + eta) * g2  # times s = (alpha D - x) / sigma^2
    assert state == pytest.approx(2 - a - score / now.sigma**2, rel=1e-12)
    assert denoised == pytest.approx(score * now.alpha / now.sigma**2, rel=1e-12)
    assert noise == pytest.approx(math.sqrt(eta * g2), rel=1e-12)


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_consistent_annealed_sampling_is_ddim_and_ancestral_at_its_ends(sde: GaussianSDE) -> None:
    now, next = (sde.knot_at(v) for v in (-1.0, 0.7))
    ratio = math.exp(-0.85)  # s_b / s_a
    x, noise = starts(sde, 4, 2), Noise.per_sample(range(4))
    model = cluster(sde)
    for size, other in ((1 - ratio, DDIM()), (1 - ratio**2, Ancestral())):
        ours, theirs = (
            s.step(model, x, now, next, None, noise=noise).x / next.alpha for s in (ConsistentAnnealed(size), other)
        )
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)
    # whatever the size, the noise on D is that of the next level
    for size in (0.6, 0.8, 1.0):
        state, denoised, spread = kernel(ConsistentAnnealed(size), now, next, sde)
        assert state * now.alpha + denoised == pytest.approx(next.alpha, rel=1e-12)
        assert math.hypot(state * now.sigma, spread) == pytest.approx(next.sigma, rel=1e-12)
        assert denoised == pytest.approx(size * next.alpha, rel=1e-12)


def test_consistent_annealed_sampling_says_how_large_its_size_must_be() -> None:
    sde = VP()
    now, next = (sde.knot_at(v) for v in (-1.0, 0.7))
    with pytest.raises(ValueError, match=r"must remove at least 0.5726 of the noise; got size=0.5: take more steps"):
        kernel(ConsistentAnnealed(0.5), now, next, sde)
    assert 1 - math.exp(-0.85) == pytest.approx(0.5726, abs=5e-5)
    kernel(ConsistentAnnealed(0.5726 + 1e-4), now, next, sde)
    for size in (0.0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"size must lie in \(0, 1\]"):
            ConsistentAnnealed(size)


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
@pytest.mark.parametrize("solver", [Heun(), UniPC()], ids=str)
def test_a_restart_is_its_parts_made_by_hand(sde: GaussianSDE, solver: Solver) -> None:
    # parts of the noise: 0 the step itself, then for each round its noise and the steps of its descent
    model = cluster(sde)
    s = 0.15
    now, next, up = (sde.knot_at(-2 * math.log(v)) for v in (0.4, s, 0.9))
    x, noise = 0.5 * starts(sde, 4, 2), Noise.per_sample(range(4))
    restart = Restart(solver, low=0.2, high=0.9, repeats=2, steps=3)
    found = restart.step(model, x, now, next, None, noise=noise).x
    y = solver.step(model, x, now, next, None, noise=noise.child(0)).x
    levels = [(0.9 ** (1 / 7) + k / 3 * (s ** (1 / 7) - 0.9 ** (1 / 7))) ** 7 for k in range(4)]
    path = [sde.knot_at(-2 * math.log(v)) for v in levels]
    for first in (1, 5):
        y = up.alpha * (y / next.alpha + math.sqrt(0.9**2 - s**2) * noise.child(first).normal(y))
        state = None
        for k in range(3):
            y, state, *_ = solver.step(model, y, path[k], path[k + 1], state, noise=noise.child(first + 1 + k))
    torch.testing.assert_close(found / next.alpha, y / next.alpha, rtol=1e-9, atol=1e-9)
    # other steps are the solver's own
    above, below = (sde.knot_at(-2 * math.log(v)) for v in (0.6, 0.1))
    for a, b in ((above, now), (next, below)):
        step = restart.step(model, x, a, b, None, noise=noise).x
        assert torch.equal(step, solver.step(model, x, a, b, None, noise=noise.child(0)).x)


def test_a_restart_adds_the_variance_between_its_levels_each_time() -> None:
    sde, idle = VP(), _Idle()
    now, next = (sde.knot_at(-2 * math.log(v)) for v in (0.4, 0.15))
    _, _, noise = kernel(Restart(idle, low=0.2, high=0.9, repeats=3, steps=4), now, next, sde)
    assert noise == pytest.approx(next.alpha * math.sqrt(3 * (0.9**2 - 0.15**2)), rel=1e-12)
    ladder = [math.exp(-a.log_snr / 14) for a, _ in idle.moves[1:5]] + [0.15 ** (1 / 7)]  # s^(1/7)
    assert np.diff(ladder, 2) == pytest.approx([0] * 3, abs=1e-9)
    assert ladder[0] == pytest.approx(0.9 ** (1 / 7))
    assert idle.moves[4][1] is next


def test_restart_needs_a_time_at_or_below_its_low() -> None:
    sde = VP()
    now, next = sde.knot_at(-2 * math.log(1.23)), sde.knots([0.0])[0]
    with pytest.raises(ValueError, match=r"no time with sigma / alpha <= 0.05; its last has 1.23"):
        Restart().step(cluster(sde), starts(sde, 2, 2), now, next, None, noise=Noise.per_sample(range(2)))
    # exactly at it is enough, and the step from there restarts no more
    times = [1.0, *(sde.knot_at(-2 * math.log(v)).t for v in (0.051, 0.05, 0.03)), 0.0]
    at = sde.knots(times)[2]
    idle = _Idle()
    restart = Restart(idle, low=at.sigma / at.alpha)
    integrate(_Constant(sde, 0.0), starts(sde, 2, 2), times, restart, noise=_Source({}, _silence))
    assert [b.t for _, b in idle.moves] == [*times[1:3], *2 * [*(b.t for _, b in idle.moves[2:4]), times[2]], times[3]]
    for options in ({"low": 0.0}, {"low": 0.4}, {"high": math.inf}, {"repeats": 0}, {"steps": 0}, {"repeats": 64}):
        with pytest.raises(ValueError, match="wanted"):
            Restart(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sde", PROCESSES, ids=name)
def test_churn_adds_noise_up_to_its_level_and_none_beyond_that_of_T(sde: GaussianSDE) -> None:
    now, next = (sde.knot_at(-2 * math.log(v)) for v in (0.5, 0.3))
    for gamma, scale in ((0.3, 1.0), (0.1, 1.007)):
        idle = _Idle()
        _, _, noise = kernel(Churn(idle, gamma, noise_scale=scale), now, next, sde)
        assert noise == pytest.approx(next.alpha * scale * 0.5 * math.sqrt((1 + gamma) ** 2 - 1), rel=1e-9)
        up, to = idle.moves[0]
        assert up.sigma / up.alpha == pytest.approx(0.5 * (1 + gamma), rel=1e-9)
        assert to is next
    # below T by less than gamma: up to T
    (top,) = sde.knots([sde.T])
    widest = top.sigma / top.alpha
    now = sde.knot_at(-2 * math.log(widest / 1.1))
    _, _, noise = kernel(Churn(_Idle(), 0.3), now, next, sde)
    assert noise == pytest.approx(next.alpha * math.sqrt(widest**2 - (widest / 1.1) ** 2), rel=1e-6)
    # at T: none
    assert kernel(Churn(_Idle(), 0.3), top, next, sde)[2] == 0


def test_churn_without_gamma_or_outside_its_interval_is_the_solver() -> None:
    sde = VP()
    model, x, noise = cluster(sde), starts(sde, 4, 2), Noise.per_sample(range(4))
    now, next = (sde.knot_at(-2 * math.log(v)) for v in (0.5, 0.3))
    plain = Heun().step(model, x, now, next, None, noise=noise).x
    for churn in (Churn(gamma=0.0), Churn(gamma=0.3, interval=(0.6, 9.0)), Churn(gamma=0.3, interval=(0.0, 0.4))):
        assert torch.equal(churn.step(model, x, now, next, None, noise=noise).x, plain)
    moved = Churn(gamma=0.3, interval=(0.4, 0.6)).step(model, x, now, next, None, noise=noise).x
    assert float((moved - plain).abs().min()) > 1e-3
    for bad in ({"gamma": -0.1}, {"gamma": math.inf}, {"noise_scale": 0.0}, {"interval": (1.0, 0.5)}):
        with pytest.raises(ValueError, match=r"wanted gamma|rising"):
            Churn(**bad)  # type: ignore[arg-type]
